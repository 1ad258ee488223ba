"""The runs of a noise sweep: which noise, how much of it, and which seed. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from napari_metastructure.labels.kinds import KINDS
from napari_metastructure.labels.noise import PARAMETERS, NoiseSpec
from napari_metastructure.sweep.configs import SweepConfig

__all__ = ["AMOUNTS", "SweepRun", "plan"]

AMOUNTS = {name: kind.amount for name, kind in KINDS.items() if kind.axis and kind.amount}
"""Kinds of noise with an amount, and the field of `NoiseSpec` that holds it."""


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
    def name(self) -> str:
        """A name that can be a file's, such as ``flip-0.45-seed-1``."""
        amount = "" if self.amount is None else f"-{self.amount:g}"
        return f"{self.kind}{amount}-seed-{self.seed}"

    @property
    def title(self) -> str:
        """A short text, such as ``flip 45 %``."""
        spec = self.spec()
        return "clean" if spec is None else spec.summary().split(" (")[0]

    def spec(
        self, shares: Sequence[float] | None = None, spatial_dims: int = 2
    ) -> NoiseSpec | None:
        """The `NoiseSpec` of the run for classes of these shares; None if it is clean."""
        if self.kind == "clean":
            return None
        values: dict[str, Any] = {}
        if self.kind in AMOUNTS:
            values = {AMOUNTS[self.kind]: self.amount}
        known: dict[str, Any] = {}
        if shares is not None:
            known = {"num_classes": len(shares), "fractions": tuple(shares)}
        values |= {name: known[name] for name in PARAMETERS[self.kind] if name in known}
        return NoiseSpec(kind=self.kind, seed=self.seed, spatial_dims=spatial_dims, **values)


def plan(config: SweepConfig) -> list[SweepRun]:
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
        for kind in AMOUNTS:
            axis = KINDS[kind].axis
            without = None if axis is None else axis.without
            amounts = dict.fromkeys(getattr(config, kind))
            runs += [SweepRun(kind, float(value), seed) for value in amounts if value != without]
        runs += [
            SweepRun(name, None, seed)
            for name, kind in KINDS.items()
            if kind.axis and kind.amount is None and getattr(config, name)
        ]
    return runs
