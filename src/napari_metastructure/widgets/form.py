"""Forms made from the parameter models."""

import shutil
import sys
import types
from typing import Literal, Union, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSlider, FloatSpinBox, SpinBox

__all__ = ["Form", "device_choices"]

_LARGEST = 1_000_000


class Form(Container):
    """Widgets for the fields of a parameter model; titles, tooltips and bounds come from it.

    Parameters
    ----------
    model : type of Parameters
    fields : sequence of str
        The fields to show, in this order.
    """

    def __init__(self, model, fields):
        self.model = model
        super().__init__(widgets=[_field_widget(model, name) for name in fields], labels=True)
        self.margins = (0, 0, 0, 0)

    def values(self):
        """The model's fields and their values, without the hidden ones."""
        return {
            widget.name: _value(widget)
            for widget in self
            if widget.name in self.model.model_fields and widget.enabled
        }

    def show_only(self, names):
        """Show these fields and hide the rest."""
        for widget in self:
            widget.visible = widget.name in names
            widget.enabled = widget.name in names


def device_choices():
    """Devices this machine is likely to have, told without importing torch."""
    choices = ["auto", "cpu"]
    if shutil.which("nvidia-smi"):
        choices.append("cuda:0")
    if sys.platform == "darwin":
        choices.append("mps")
    return choices


def _field_widget(model, name):
    field = model.model_fields[name]
    default = None if field.is_required() else field.default
    options = {"name": name, "label": field.title, "tooltip": field.description}
    bounds = {key: getattr(c, key) for c in field.metadata for key in _bounds_of(c)}
    kind, optional = _plain_type(field.annotation)
    if name == "device":
        return ComboBox(choices=device_choices(), value=default, **options)
    if get_origin(kind) is Literal:
        default = get_args(kind)[0] if default is None else default
        return ComboBox(choices=get_args(kind), value=default, **options)
    if kind is bool:
        return CheckBox(value=default, **{**options, "text": field.title, "label": ""})
    if kind is int:
        return _whole_number(options, bounds, default, optional)
    return _real_number(options, bounds, default)


def _bounds_of(constraint):
    """Names of the bounds that a pydantic constraint sets."""
    names = ("ge", "gt", "le", "lt", "multiple_of")
    return [name for name in names if getattr(constraint, name, None) is not None]


def _plain_type(annotation):
    """The type without ``None``, and whether None is allowed."""
    if get_origin(annotation) in (Union, types.UnionType):
        first = next(arg for arg in get_args(annotation) if arg is not type(None))
        return first, type(None) in get_args(annotation)
    return annotation, False


def _whole_number(options, bounds, default, optional):
    lowest = bounds.get("ge", 0) - (1 if optional else 0)
    widget = SpinBox(
        min=lowest,
        max=bounds.get("le", _LARGEST),
        step=bounds.get("multiple_of", 1),
        value=lowest if default is None else default,
        **options,
    )
    if optional:
        word = "random" if options["name"] == "seed" else "none"
        widget.native.setSpecialValueText(word)
        widget.none_value = lowest
    return widget


def _real_number(options, bounds, default):
    lowest, highest = bounds.get("ge", bounds.get("gt", 0)), bounds.get("le", 1000)
    if "ge" in bounds and highest == 1:
        return FloatSlider(min=lowest, max=highest, step=0.01, value=default, **options)
    step = 1.0 if isinstance(default, int) or default >= 1 else default / 5
    widget = FloatSpinBox(min=lowest, max=highest, step=step, value=default, **options)
    widget.native.setDecimals(2 if step >= 1 else 5)
    return widget


def _value(widget):
    return None if widget.value == getattr(widget, "none_value", None) else widget.value
