"""The base of every parameter model.

One pydantic model per operation makes the form and its tooltips, the command line options, the
console signature, the docstring and the run record. Each field has a title (the form's label), a
description (the tooltip), its bounds and, where its choices are abbreviations, `words` for them.
"""

import inspect
import textwrap
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

__all__ = ["Field", "FieldKind", "Parameters", "kind_of", "with_fields_of", "words"]

_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of")
_WIDTH = 96  # of a docstring's lines
Function = TypeVar("Function", bound=Callable[..., Any])


class Parameters(BaseModel):
    """Immutable, strict about names, and brief about what is wrong.

    The docstring of a subclass lists its fields.

    Raises
    ------
    ValueError
        One sentence that names each field that does not fit, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError(_one_sentence(type(self), error)) from None

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        text = inspect.cleandoc(cls.__doc__ or cls.__name__)
        cls.__doc__ = f"{text}\n\nParameters\n----------\n{_field_list(cls)}\n"

    @classmethod
    def of(cls, config: BaseModel | Mapping[str, Any] | None = None, **values: Any) -> Self:
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
        reason = reason.partition(", unable to parse")[0]
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
    choices : dict of {value: str}
        What can be chosen, and what to call it; empty where anything goes.
    """

    types: tuple[Any, ...]
    optional: bool
    bounds: dict[str, float]
    choices: dict[Any, str]

    @property
    def text(self) -> str:
        """The types and bounds in words, as in ``int from 2 to 256 or None``."""
        if self.choices:
            text = "{" + ", ".join(map(repr, self.choices)) + "}" + " or str" * (str in self.types)
        else:
            kinds = ("sequence" if get_origin(kind) else kind.__name__ for kind in self.types)
            text = " or ".join(kinds)
        return f"{text}{self._bounds_text()}{' or None' * self.optional}"

    def _bounds_text(self):
        open_end = "ge" in self.bounds and not {"le", "lt"} & set(self.bounds)
        texts = {"ge": "at least" if open_end else "from", "gt": "above", "le": "to", "lt": "below"}
        parts = [f"{texts[name]} {self.bounds[name]:g}" for name in texts if name in self.bounds]
        if "multiple_of" in self.bounds:
            parts.append(f"and a multiple of {self.bounds['multiple_of']:g}")
        return " " + " ".join(parts) if parts else ""


def kind_of(field: FieldInfo) -> FieldKind:
    """Types, bounds, choices and whether None is allowed, from a field's annotation.

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
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    called: Any = extra.get("words", {})
    choices = get_args(found[0]) if get_origin(found[0]) is Literal else ()
    named = {choice: called.get(choice, str(choice)) for choice in choices}
    return FieldKind(tuple(found), type(None) in _members(field.annotation, []), bounds, named)


def words(values: Mapping[Any, str]) -> dict[str, Any]:
    """What the choices of a field are called, for its ``json_schema_extra``.

    Parameters
    ----------
    values : mapping of {choice: str}
        Such as ``{"unet": "U-Net"}``; choices that are words already need no entry.

    Returns
    -------
    dict
    """
    return {"words": dict(values)}


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


# ---------------------------------------------------------------------------- the console


def with_fields_of(
    model: type[Parameters], *, leave_out: Collection[str] = ()
) -> Callable[[Function], Function]:
    """Decorator: a function's ``**params`` are the fields of a parameter model.

    Its signature shows the fields with their defaults, and its docstring lists them after the
    entry ``**params``; nothing is written twice. The function itself is unchanged.

    Parameters
    ----------
    model : subclass of Parameters
    leave_out : collection of str
        Fields that are given in another way.

    Returns
    -------
    callable
    """

    def decorate(function):
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        known = {*leave_out, *(parameter.name for parameter in own)}
        names = [name for name in model.model_fields if name not in known]
        fields = [_as_argument(name, model.model_fields[name]) for name in names]
        function.__signature__ = signature.replace(parameters=[*own, *fields])
        function.__doc__ = _with_entries(function.__doc__ or "", _field_list(model, names))
        return function

    return decorate


def _as_argument(name, field):
    default = inspect.Parameter.empty if field.is_required() else field.default
    how = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, how, default=default, annotation=field.annotation)


def _field_list(model, names=None):
    """The fields as entries of a docstring's section "Parameters"."""
    lines, indent = [], "    "
    for name in model.model_fields if names is None else names:
        field = model.model_fields[name]
        default = "required" if field.is_required() else f"default {field.default!r}"
        lines.append(f"{name} : {kind_of(field).text}, {default}")
        text = field.description or field.title or ""
        lines += textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)


def _with_entries(text, entries):
    """A docstring with more entries after what it says of ``**params``."""
    lines = inspect.cleandoc(text).split("\n")
    if "**params" not in lines:
        return text
    end = lines.index("**params") + 1
    while end < len(lines) and lines[end].startswith("    "):
        end += 1
    return "\n".join([*lines[:end], *entries.split("\n"), *lines[end:]])
