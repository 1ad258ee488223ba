"""The runs of a noise sweep: which noise, how much of it, and which seed. No torch here."""

from dataclasses import dataclass

from napari_metastructure.labels.noise import NoiseSpec

__all__ = ["AMOUNTS", "SweepRun", "plan"]

AMOUNTS = {
    "sample": "fraction",
    "flip": "ratio",
    "shift": "radius",
    "dilate": "radius",
    "erode": "radius",
}
"""Kinds of noise with an amount, and the field of `NoiseSpec` that holds it."""

_WITHOUT_NOISE = {"sample": 1, "flip": 0, "shift": 0, "dilate": 0, "erode": 0}


@dataclass(frozen=True)
class SweepRun:
    """One training of a sweep.

    Attributes
    ----------
    kind : str
        "clean", or a kind of `NoiseSpec`.
    amount : float or None
        Share of the pixels kept or flipped, or pixels that borders move.
    seed : int
        Of the noise and of the training.
    """

    kind: str
    amount: float | None
    seed: int

    @property
    def name(self):
        """A name that can be a file's, such as ``flip-0.45-seed-1``."""
        amount = "" if self.amount is None else f"-{self.amount:g}"
        return f"{self.kind}{amount}-seed-{self.seed}"

    @property
    def title(self):
        """A short text, such as ``flip 45 %``."""
        return "clean" if self.kind == "clean" else self.spec().summary().split(" (")[0]

    def spec(self, shares=None, spatial_dims=2):
        """The `NoiseSpec` of the run for classes of these shares; None if it is clean."""
        if self.kind == "clean":
            return None
        values = {AMOUNTS[self.kind]: self.amount} if self.kind in AMOUNTS else {}
        if shares is not None and self.kind == "flip":
            values["num_classes"] = len(shares)
        if shares is not None and self.kind == "random":
            values["fractions"] = tuple(shares)
        return NoiseSpec(kind=self.kind, seed=self.seed, spatial_dims=spatial_dims, **values)


def plan(config):
    """The runs of a sweep in order: every noise with the first seed, then with the next.

    Amounts without any effect stand for the clean run, which each seed has once.

    Parameters
    ----------
    config : SweepConfig

    Returns
    -------
    list of SweepRun
    """
    runs = []
    for seed in range(config.seed, config.seed + config.seeds):
        runs.append(SweepRun("clean", None, seed))
        for kind, clean in _WITHOUT_NOISE.items():
            amounts = dict.fromkeys(getattr(config, kind))
            runs += [SweepRun(kind, float(amount), seed) for amount in amounts if amount != clean]
        runs += [
            SweepRun(kind, None, seed)
            for kind in ("skeletonize", "random")
            if getattr(config, kind)
        ]
    return runs
