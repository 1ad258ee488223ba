"""Label corruption: what cheap, hurried or random annotation does to a clean label.

Three families (Luo et al., AAAI 2022, arXiv 2103.11594, "Noisy labels"):

* randomised clean labels (`sample`, `flip`, `transition`): every pixel is redrawn by itself, given
  its true class. Their meta-structure is kept as long as the transition matrix has full rank.
* perturbed clean labels (`dilate`, `erode`, `skeletonize`, and `shift`): borders move.
* random labels (`random_labels`): independent of the image.

All functions take numpy or dask arrays of any integer type or bool, planes or stacks (..., y, x),
and give back a new array of the same kind and type. Label 0 is background. Pixels of label -1, and
of `ignore_label`, are left as they are. The same seed gives the same answer whatever the chunking.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import create_model, model_validator

from napari_metastructure.arrays import draws
from napari_metastructure.arrays.labels import check_labels
from napari_metastructure.labels import kinds
from napari_metastructure.labels.classes import class_values
from napari_metastructure.labels.kinds import KINDS
from napari_metastructure.labels.perturbed import dilate, erode, shift, skeletonize
from napari_metastructure.labels.randomised import flip, random_labels, sample, transition
from napari_metastructure.parameters import Field, Parameters, with_fields_of

__all__ = [
    "PARAMETERS",
    "NoiseSpec",
    "corrupt",
    "dilate",
    "erode",
    "flip",
    "random_labels",
    "sample",
    "shift",
    "skeletonize",
    "specs",
    "transition",
]

PARAMETERS = {name: tuple(kind.model_fields) for name, kind in KINDS.items()}
"""Which fields of `NoiseSpec` belong to which kind, in the order of a form."""

_KIND = Field(title="Kind", description=kinds.effects())
_Fields: Any = create_model(  # type: ignore[call-overload]
    "_Fields",
    __base__=Parameters,
    kind=(Literal[tuple(KINDS)], _KIND),
    **kinds.fields(),
)


class NoiseSpec(_Fields):
    """One corruption of labels: its kind and the parameters of all kinds.

    The fields that do not belong to the kind (see `PARAMETERS`) are ignored. Survives JSON:
    ``NoiseSpec(**json.loads(spec.model_dump_json()))`` equals ``spec``.
    """

    if TYPE_CHECKING:  # its fields are made above

        def __init__(self, **values: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    @model_validator(mode="after")
    def _consistent(self):
        self.noise().check()
        draws.entropy(self.seed, self.kind)
        return self

    def noise(self) -> kinds.Kind:
        """The kind of noise, an entry of `kinds.KINDS`, with the parameters that belong to it."""
        kind = KINDS[self.kind]
        return kind(**{name: getattr(self, name) for name in kind.model_fields})

    def summary(self) -> str:
        """A short text, such as ``flip 45 % (seed 3)``."""
        text = f"{self.kind} {self.noise().amount_text()}".rstrip()
        if self.classes is not None:
            text += f" of class {', '.join(map(str, self.classes))}"
        if self.seed is not None and "seed" in PARAMETERS[self.kind]:
            text += f" (seed {self.seed})"
        return text


@with_fields_of(NoiseSpec, leave_out=["kind"])
def corrupt(labels: Any, spec_or_kind: Any, **params: Any) -> Any:
    """Corrupt labels as described by a spec, or by several, one after the other.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
    spec_or_kind : NoiseSpec, str, mapping, or a sequence of these
        ``corrupt(labels, "flip", ratio=0.4, seed=1)`` is short for
        ``corrupt(labels, NoiseSpec(kind="flip", ratio=0.4, seed=1))``. In a chain each step draws
        numbers of its own, even where the seeds are the same.
    **params
        Fields of `NoiseSpec`, replacing those of the spec (of each spec of a chain).

    Returns
    -------
    array like `labels`

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If a parameter lies outside its range or does not fit the labels.
    """
    labels = check_labels(labels)
    steps = specs(spec_or_kind, **params)
    num_classes = None
    if len(steps) > 1 and any("num_classes" in dict(step.noise()) for step in steps):
        values = class_values(labels, None, steps[0].ignore_label)
        num_classes = len(values) if values[-1] == len(values) - 1 else None
    for position, step in enumerate(steps):
        labels = _step(labels, step, position, num_classes)
    return labels


def specs(spec_or_kind: Any, **params: Any) -> Any:
    """The list of `NoiseSpec` that a spec, a kind, a mapping or a sequence of these stands for."""
    if isinstance(spec_or_kind, str):
        return [NoiseSpec(kind=spec_or_kind, **params)]
    if isinstance(spec_or_kind, (NoiseSpec, dict)):
        return [NoiseSpec.of(spec_or_kind, **params)]
    if not isinstance(spec_or_kind, Iterable):
        raise TypeError(
            "Noise should be a NoiseSpec, a kind, a mapping or a sequence of these, not "
            f"{spec_or_kind!r}."
        )
    return [one for item in spec_or_kind for one in specs(item, **params)]


def _step(labels, spec, position, num_classes):
    changed = {}
    if position and spec.seed is not None:
        changed["seed"] = (*np.atleast_1d(spec.seed).tolist(), position)
    if spec.num_classes is None:
        changed["num_classes"] = num_classes
    return spec.model_copy(update=changed).noise().corrupt(labels)
