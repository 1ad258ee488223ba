"""What a field of a parameter model takes, told to form and command line alike."""

from typing import Annotated, Literal, Optional

import pytest

from napari_metastructure.parameters import Field, Parameters, kind_of


class Example(Parameters):
    """One field of each kind."""

    count: int = Field(1, ge=1, le=9)
    share: float = Field(0.5, gt=0, lt=1)
    seed: int | None = Field(None, ge=0)
    old: Optional[float] = None  # noqa: UP045
    word: Literal["a", "b"] | None = "a"
    many: tuple[int, ...] = ()
    either: int | tuple[int, ...] | None = None
    inside: Annotated[int, Field(ge=2, multiple_of=2)] | None = None


@pytest.mark.parametrize(
    ("name", "types", "optional", "bounds"),
    [
        ("count", (int,), False, {"ge": 1, "le": 9}),
        ("share", (float,), False, {"gt": 0, "lt": 1}),
        ("seed", (int,), True, {"ge": 0}),
        ("old", (float,), True, {}),
        ("word", (Literal["a", "b"],), True, {}),
        ("many", (tuple[int, ...],), False, {}),
        ("either", (int, tuple[int, ...]), True, {}),
        ("inside", (int,), True, {"ge": 2, "multiple_of": 2}),
    ],
)
def test_kind_of(name, types, optional, bounds):
    known = kind_of(Example.model_fields[name])
    assert (known.types, known.optional, known.bounds) == (types, optional, bounds)
