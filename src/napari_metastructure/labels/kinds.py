"""The table of noise kinds: each kind is one small class, and a new one is a class more.

The forms, the command line, the sweep, its report and the documentation are made from this table.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator

from napari_metastructure.labels import perturbed, randomised
from napari_metastructure.labels.classes import check_fractions, check_matrix
from napari_metastructure.parameters import Field, Parameters, words

__all__ = ["KINDS", "Axis", "Kind", "effects", "fields", "sweep_fields"]

KINDS: dict[str, type["Kind"]] = {}
"""All kinds by name, in the order of forms, sweeps and reports."""

REDRAWN = "each pixel changes independently"
MOVED = "borders move"
BLIND = "independent of the labels"


@dataclass(frozen=True)
class Axis:
    """How a kind of noise is varied in a sweep, and how its results are told.

    Attributes
    ----------
    title, description : str
        Of the field of `SweepConfig` that bears the name of the kind.
    default : tuple of float or bool
        The amounts tried, or whether the kind is tried where it has no amount.
    label : str
        What an amount says, or the name of the kind where it has none.
    subject : str
        Begins the sentence that lists what each amount costs.
    unit : {"%", "px", ""}
        Shares are shown in percent.
    without : float
        The amount that changes nothing.
    family : str
        Kinds of one family share a panel, and this text below it.
    limit, beyond : str, optional
        Sentences for the last amount that costs hardly anything (``{amount}``, ``{tried}``), and
        for the case that even the mildest costs more (``{amount}``, ``{loss}``).
    """

    title: str
    description: str
    default: tuple[float, ...] | bool
    label: str
    subject: str
    unit: str = ""
    without: float = 0
    family: str = ""
    limit: str | None = None
    beyond: str | None = None


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value


Matrix = Annotated[tuple[tuple[float, ...], ...] | None, BeforeValidator(_plain)]
Fractions = Annotated[tuple[float, ...] | float | None, BeforeValidator(_plain)]
Classes = tuple[int, ...] | None
Seed = int | tuple[int, ...] | None

RADIUS = Field(1, ge=0, title="Radius", description="How far borders or pixels move, in pixels.")
CLASSES = Field(
    None, title="Only classes", description="Only pixels of these classes change; none: all."
)
SPATIAL_DIMS: Any = Field(
    2,
    title="Dimensions",
    description="2: each plane separately; 3: whole volumes.",
    json_schema_extra=words({2: "2-D", 3: "3-D"}),
)
IGNORE_LABEL = Field(
    None, title="Ignore label", description="Pixels of this label, and of -1, do not change."
)
SEED = Field(
    None, title="Seed", description="The same seed gives the same result; none: a random seed."
)


class Kind(Parameters):
    """A kind of noise: what it takes, what it does, and how it is told.

    A subclass with a name is in the table. Its fields are its parameters. What it must say:

    Attributes
    ----------
    name : str
    effect : str
        What it does to labels, in a few words; kinds with the same effect are described together.
    amount : str, optional
        The field that says how much.
    axis : Axis, optional
        Its place in a sweep; none: not swept.
    """

    name: ClassVar[str] = ""
    effect: ClassVar[str] = ""
    amount: ClassVar[str | None] = None
    axis: ClassVar[Axis | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        if cls.name:
            KINDS[cls.name] = cls

    def check(self) -> None:
        """Raise a ValueError if the values do not fit each other."""

    def corrupt(self, labels: Any) -> Any:
        """Corrupt an array (..., y, x) of int or bool; the result is of the same kind."""
        raise NotImplementedError

    def closed_form(self, num_classes: int, fractions: np.ndarray | None) -> np.ndarray:
        """The transition matrix in closed form, given the share of each class, if known.

        Raises
        ------
        ValueError
            If there is none.
        """
        raise ValueError(
            f"{self.name} ({self.effect}) has no transition matrix in closed form; estimate it by "
            "counting, with transition.estimate(clean, noisy)."
        )

    def amount_text(self) -> str:
        """How much, such as ``45 %``."""
        if self.amount is None:
            return ""
        value, unit = getattr(self, self.amount), "" if self.axis is None else self.axis.unit
        return f"{100 * value:g} %" if unit == "%" else f"{value:g} {unit}".rstrip()


class Sample(Kind):
    """Keeps a fraction of the object pixels; the rest become background."""

    name = "sample"
    effect = REDRAWN
    amount = "fraction"
    axis = Axis(
        "Pixels kept",
        "Shares of the object pixels that keep their label, such as 0.5, 0.1.",
        (0.5, 0.3, 0.1),
        label="pixels kept",
        subject="Labelled pixels kept",
        unit="%",
        without=1,
        family="pixels kept",
        limit="{amount} of the labelled pixels{tried} are enough to stay within "
        "{close} of full annotation.",
        beyond="{amount} of the labelled pixels cost {loss}.",
    )
    fraction: float = Field(
        0.1, ge=0, le=1, title="Fraction kept", description="Share of the foreground pixels kept."
    )
    classes: Classes = CLASSES
    ignore_label: int | None = IGNORE_LABEL
    seed: Seed = SEED

    def corrupt(self, labels: Any) -> Any:
        return randomised.sample(labels, **dict(self))

    def closed_form(self, num_classes: int, fractions: np.ndarray | None) -> np.ndarray:
        matrix = self.fraction * np.eye(num_classes)
        matrix[:, 0] += 1 - self.fraction
        matrix[0] = np.eye(num_classes)[0]
        return matrix


class Flip(Kind):
    """Gives each pixel, with some probability, another class, all others being equally likely."""

    name = "flip"
    effect = REDRAWN
    amount = "ratio"
    axis = Axis(
        "Pixels flipped",
        "Shares of the pixels that change to another class, such as 0.2, 0.4.",
        (0.2, 0.4, 0.45),
        label="pixels flipped",
        subject="Flipped pixels",
        unit="%",
        family="pixels flipped",
        limit="Up to {amount} of the pixels{tried} may have a wrong label.",
        beyond="{amount} of flipped pixels cost {loss}.",
    )
    ratio: float = Field(
        0.45, ge=0, le=1, title="Flip ratio", description="Probability that a pixel changes."
    )
    num_classes: int | None = Field(
        None, ge=2, title="Classes", description="Number of classes; none: those present."
    )
    classes: Classes = CLASSES
    ignore_label: int | None = IGNORE_LABEL
    seed: Seed = SEED

    def corrupt(self, labels: Any) -> Any:
        return randomised.flip(labels, **dict(self))

    def closed_form(self, num_classes: int, fractions: np.ndarray | None) -> np.ndarray:
        size = num_classes if self.num_classes is None else self.num_classes
        others = self.ratio / max(size - 1, 1)
        return others + (1 - self.ratio - others) * np.eye(size)


class Transition(Kind):
    """Redraws each pixel from the row of a transition matrix that belongs to its class."""

    name = "transition"
    effect = REDRAWN
    matrix: Matrix = Field(
        None,
        title="Transition matrix",
        description="Row: true class, column: noisy class; rows sum to 1.",
    )
    classes: Classes = CLASSES
    ignore_label: int | None = IGNORE_LABEL
    seed: Seed = SEED

    def check(self) -> None:
        check_matrix(self.matrix)

    def corrupt(self, labels: Any) -> Any:
        return randomised.transition(labels, **dict(self))

    def closed_form(self, num_classes: int, fractions: np.ndarray | None) -> np.ndarray:
        return check_matrix(self.matrix)

    def amount_text(self) -> str:
        size = len(self.matrix or ())
        return f"{size} x {size}"


class Shift(Kind):
    """Moves each object pixel at random within a square (cube)."""

    name = "shift"
    effect = MOVED
    amount = "radius"
    axis = Axis(
        "Shift",
        "How far object pixels are scattered, in pixels.",
        (),
        label="pixels moved by",
        subject="Pixels scattered",
        unit="px",
        family="pixels or borders moved by",
    )
    radius: float = RADIUS
    spatial_dims: Literal[2, 3] = SPATIAL_DIMS
    classes: Classes = CLASSES
    ignore_label: int | None = IGNORE_LABEL
    seed: Seed = SEED

    def corrupt(self, labels: Any) -> Any:
        return perturbed.shift(labels, **dict(self))


class Dilate(Kind):
    """Grows each class into the background around it."""

    name = "dilate"
    effect = MOVED
    amount = "radius"
    axis = Axis(
        "Dilate",
        "How far objects grow, in pixels.",
        (1, 2, 4),
        label="borders moved out by",
        subject="Outlines too wide",
        unit="px",
        family="pixels or borders moved by",
    )
    radius: float = RADIUS
    spatial_dims: Literal[2, 3] = SPATIAL_DIMS
    classes: Classes = CLASSES
    ignore_label: int | None = IGNORE_LABEL

    def corrupt(self, labels: Any) -> Any:
        return perturbed.dilate(labels, **dict(self))


class Erode(Kind):
    """Keeps the object pixels that are surrounded by their own class."""

    name = "erode"
    effect = MOVED
    amount = "radius"
    axis = Axis(
        "Erode",
        "How far objects shrink, in pixels.",
        (1,),
        label="borders moved in by",
        subject="Outlines too narrow",
        unit="px",
        family="pixels or borders moved by",
    )
    radius: float = RADIUS
    spatial_dims: Literal[2, 3] = SPATIAL_DIMS
    classes: Classes = CLASSES
    ignore_label: int | None = IGNORE_LABEL

    def corrupt(self, labels: Any) -> Any:
        return perturbed.erode(labels, **dict(self))


class Skeletonize(Kind):
    """Thins each class to its skeleton, one pixel wide."""

    name = "skeletonize"
    effect = MOVED
    axis = Axis(
        "Skeleton",
        "Objects reduced to their skeleton.",
        True,
        label="skeleton",
        subject="The skeleton alone",
    )
    spatial_dims: Literal[2, 3] = SPATIAL_DIMS
    classes: Classes = CLASSES
    ignore_label: int | None = IGNORE_LABEL

    def corrupt(self, labels: Any) -> Any:
        return perturbed.skeletonize(labels, **dict(self))


class Random(Kind):
    """Draws each pixel at random, whatever its class."""

    name = "random"
    effect = BLIND
    axis = Axis(
        "Random labels",
        "Labels drawn at random, independent of the image.",
        True,
        label="random labels",
        subject="Random labels",
    )
    fractions: Fractions = Field(
        None,
        title="Class shares",
        description="Share of each class in random labels; none: as in the labels given.",
    )
    classes: Classes = CLASSES
    ignore_label: int | None = IGNORE_LABEL
    seed: Seed = SEED

    def check(self) -> None:
        if self.fractions is not None:
            check_fractions(self.fractions)

    def corrupt(self, labels: Any) -> Any:
        return randomised.random_like(labels, **dict(self))

    def closed_form(self, num_classes: int, fractions: np.ndarray | None) -> np.ndarray:
        if self.fractions is not None:
            fractions = check_fractions(self.fractions)
        if fractions is None:
            raise ValueError("The matrix of random labels needs fractions, the share per class.")
        return np.tile(fractions, (len(fractions), 1))


_LAST = ("num_classes", "classes", "spatial_dims", "ignore_label", "seed")


def fields() -> dict[str, tuple[Any, Any]]:
    """The fields of all kinds, as pydantic's ``create_model`` takes them; shared ones come last."""
    found = {}
    for kind in KINDS.values():
        for name, field in kind.model_fields.items():
            found.setdefault(name, (field.annotation, field))
    names = sorted(found, key=lambda name: _LAST.index(name) if name in _LAST else -1)
    return {name: found[name] for name in names}


def effects() -> str:
    """What the kinds do to labels, in one sentence, kinds of one effect together."""
    groups: dict[str, list[str]] = {}
    for name, kind in KINDS.items():
        groups.setdefault(kind.effect, []).append(name)
    return "; ".join(f"{', '.join(names)}: {effect}" for effect, names in groups.items()) + "."


def sweep_fields() -> dict[str, tuple[Any, Any]]:
    """A field for each kind that a sweep can vary: its amounts, or whether it is tried."""
    share = Annotated[float, Field(ge=0, le=1)]
    radius = Annotated[float, Field(ge=0)]
    found: dict[str, tuple[Any, Any]] = {}
    for name, kind in KINDS.items():
        axis = kind.axis
        if axis is not None:
            amounts = tuple[share, ...] if axis.unit == "%" else tuple[radius, ...]
            annotation = bool if axis.default is True else amounts
            field = Field(axis.default, title=axis.title, description=axis.description)
            found[name] = annotation, field
    return found
