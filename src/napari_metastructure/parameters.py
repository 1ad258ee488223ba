"""The base of every parameter model.

One pydantic model per operation makes the form and its tooltips, the command
line options, the console signature and the run record. Each field has a title
(the form's label), a description (the tooltip) and its bounds.
"""

import types
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

__all__ = ["Field", "FieldKind", "Parameters", "kind_of"]

_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of")


class Parameters(BaseModel):
    """Immutable, strict about names, and brief about what is wrong.

    Raises
    ------
    ValueError
        One sentence that names each field that does not fit, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError(_one_sentence(type(self), error)) from None

    @classmethod
    def of(cls, config=None, **values):
        """The given config (a model, a mapping or None) with some values replaced."""
        base = config.model_dump(exclude_unset=True) if isinstance(config, BaseModel) else config
        return cls(**{**(base or {}), **values})


def _one_sentence(model, error):
    problems = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"]) or "parameters"
        if problem["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            problems.append(f"there is no parameter {name!r} (there are: {known})")
            continue
        if problem["type"] == "missing":
            problems.append(f"{name} is missing")
            continue
        reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if problem["type"] == "value_error":
            problems.append(reason.rstrip("."))
        else:
            problems.append(f"{name} should be {reason}, not {problem['input']!r}")
    return f"{model.__name__}: {'; '.join(problems)}."


@dataclass(frozen=True)
class FieldKind:
    """What a field of a parameter model takes, for a form or a command line.

    Attributes
    ----------
    types : tuple
        The types it takes besides None, such as ``(int,)``, ``(Literal["a", "b"],)`` or
        ``(int, tuple[int, ...])``.
    optional : bool
        Whether None is allowed.
    bounds : dict of {str: number}
        Those that it has of ``ge, gt, le, lt, multiple_of``.
    """

    types: tuple[Any, ...]
    optional: bool
    bounds: dict[str, float]


def kind_of(field: FieldInfo) -> FieldKind:
    """Types, bounds and whether None is allowed, from a field's annotation.

    Parameters
    ----------
    field : pydantic.fields.FieldInfo
        One of a model's ``model_fields``.

    Returns
    -------
    FieldKind
    """
    metadata = list(field.metadata)
    found = [kind for kind in _members(field.annotation, metadata) if kind is not type(None)]
    bounds = {
        name: value
        for part in metadata
        for name in _BOUNDS
        if (value := getattr(part, name, None)) is not None
    }
    return FieldKind(tuple(found), type(None) in _members(field.annotation, []), bounds)


def _members(annotation: Any, metadata: list[Any]) -> list[Any]:
    """The types in a union, without what they are annotated with; that goes to `metadata`."""
    if get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        for part in extra:
            metadata.extend(part.metadata if isinstance(part, FieldInfo) else [part])
        return _members(annotation, metadata)
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for part in get_args(annotation) for kind in _members(part, metadata)]
    return [annotation]
