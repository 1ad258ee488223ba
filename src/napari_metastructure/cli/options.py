"""Command line options made from the parameter models: nothing is stated twice."""

import functools
import json
from typing import Any

import click

from napari_metastructure.files.settings import read_settings
from napari_metastructure.parameters import kind_of

__all__ = ["config_options"]


def config_options(model: Any, *, leave_out: Any = ()) -> Any:
    """Decorator: an option for each field of a parameter model, and ``--settings FILE``.

    The command gets the filled-in model as its argument ``config``. What is typed wins over the
    settings file, and that over the model's defaults.

    Parameters
    ----------
    model : subclass of Parameters
        Titles, descriptions, bounds and defaults of its fields become those of the options.
    leave_out : sequence of str
        Fields without an option.
    """
    names = [name for name in model.model_fields if name not in leave_out]

    def decorate(command):
        @functools.wraps(command)
        def with_config(*arguments, settings, **values):
            context = click.get_current_context()
            typed = click.core.ParameterSource.COMMANDLINE
            given = {
                name: value
                for name, value in ((name, values.pop(_key(name))) for name in names)
                if context.get_parameter_source(_key(name)) == typed
            }
            try:
                config = model.of({**read_settings(settings), **given})
            except ValueError as error:
                text = str(error).removeprefix(f"{model.__name__}: ")
                raise click.UsageError(text) from None
            return command(*arguments, config=config, **values)

        with_config = click.option(
            "--settings",
            type=click.Path(exists=True, dir_okay=False),
            help="YAML or JSON file of such parameters (batch_size: 4), or the record of a run.",
        )(with_config)
        for name in reversed(names):
            with_config = _option(model, name)(with_config)
        return with_config

    return decorate


def _key(name):
    """The name of an option's value; apart from those that commands use themselves."""
    return f"config_{name}"


def _option(model, name):
    field = model.model_fields[name]
    flag = f"--{name.replace('_', '-')}"
    default = None if field.is_required() else field.default
    known = kind_of(field)
    options = {"help": field.description, "required": False}
    if known.types == (bool,):
        return click.option(
            f"{flag}/--no-{flag[2:]}", _key(name), default=default, show_default=True, **options
        )
    extra = field.json_schema_extra or {}
    options |= {"type": _click_type(known, extra.get("empty", "none")), "default": default}
    if default is not None:
        words = _text(default) if isinstance(default, tuple) else True
        options["show_default"] = extra.get("on_files", words)
    return click.option(flag, _key(name), **options)


def _text(value):
    return ",".join(map(str, value)) or "none"


def _click_type(known, empty="none"):
    kind, bounds = known.types[0], known.bounds
    if known.choices:
        return _Choice(known.choices, others=str in known.types)
    limits = {
        "min": bounds.get("ge", bounds.get("gt")),
        "max": bounds.get("le", bounds.get("lt")),
        "min_open": "gt" in bounds,
        "max_open": "lt" in bounds,
    }
    ranged = {int: click.IntRange, float: click.FloatRange}.get(kind)
    if ranged and len(known.types) == 1:
        has_limits = any(limits[name] is not None for name in ("min", "max"))
        number = ranged(**limits) if has_limits else {int: click.INT, float: click.FLOAT}[kind]
        return _OrNone(number, empty) if known.optional else number
    one_is_enough = bool({int, float} & set(known.types))
    if known.types == (str,):
        return click.STRING
    return _Values(None if known.optional else (), one_is_enough)


class _Choice(click.Choice):
    """One of some strings or numbers; with `others`, the parameter model judges the rest."""

    def __init__(self, values, others=False):
        super().__init__([str(value) for value in values])
        self.values, self.others = {str(value): value for value in values}, others

    def convert(self, value, param, ctx):
        if self.others and value not in self.values:
            return value
        return self.values[super().convert(str(value), param, ctx)]


class _OrNone(click.ParamType):
    """A number, or a word for None: "none", and "auto" where that is what it means."""

    def __init__(self, number, word="none"):
        self.number, self.word = number, word
        self.name = f"{number.name.removesuffix(' range')} or {word}"

    def convert(self, value, param, ctx):
        return (
            None if value in (None, "none", self.word) else self.number.convert(value, param, ctx)
        )


class _Values(click.ParamType):
    """Numbers with commas between them, or JSON such as [[0.9, 0.1], [0.2, 0.8]]."""

    name = "numbers"

    def __init__(self, empty, one_is_enough):
        self.empty, self.one_is_enough = empty, one_is_enough

    def convert(self, value, param, ctx):
        if not isinstance(value, str):
            return value
        if value in ("", "none"):
            return self.empty
        for text in (value, f"[{value}]"):
            try:
                found = json.loads(text)
            except ValueError:
                continue
            is_one = isinstance(found, (int, float))
            return [found] if is_one and not self.one_is_enough else found
        self.fail(f"{value!r} is neither numbers with commas between them nor JSON", param, ctx)
