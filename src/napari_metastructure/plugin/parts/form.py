"""Forms made from the parameter models."""

import re
import shutil
import sys
from collections.abc import Collection, Container, Mapping
from typing import Any, Self, get_origin

from magicgui.widgets import CheckBox, ComboBox, FloatSlider, FloatSpinBox, LineEdit, SpinBox
from qtpy.QtCore import QEvent, Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QWidget

from napari_metastructure.parameters import Parameters, kind_of
from napari_metastructure.plugin.preferences import preference

__all__ = ["Form", "device_choices", "device_default"]

_LARGEST = 1_000_000
_LARGEST_SIZE = 1e12  # of volumes in cubic nanometres
_USUAL_LABEL = "Smallest size"  # as wide as this, unless a label of the form is longer
_EMPTY = {"seed": "random"}  # what an empty line means, where the field does not say


class Form(QWidget):
    """Rows of magicgui widgets, among them those made from the fields of a parameter model.

    Titles, tooltips, bounds and defaults come from the model. ``form["epochs"]`` is the widget
    of a row, by its name.

    Attributes
    ----------
    changed : Signal
        A value has changed.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._rows, self._fields = {}, set()
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)

    def __getitem__(self, name: str) -> Any:
        return self._rows[name]

    def add(self, *widgets: Any) -> Self:
        """Append rows; each widget has a name, a label and a tooltip."""
        for widget in widgets:
            self._rows[widget.name] = widget
            label = QLabel("" if isinstance(widget, CheckBox) else widget.label)
            label.setToolTip(widget.tooltip or "")
            self.layout().addRow(label, widget.native)
            widget.changed.connect(self._emit)
        return self

    def add_fields(self, model: type[Parameters], names: Collection[str]) -> Self:
        """Append a row for each of these fields of a parameter model."""
        self._fields.update(names)
        return self.add(*(_field_widget(model, name) for name in names))

    def values(self) -> dict[str, Any]:
        """The fields that are shown, and their values."""
        return {
            name: _value(widget)
            for name, widget in self._rows.items()
            if name in self._fields and self.is_shown(name)
        }

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Fill in fields by name."""
        for name, value in values.items():
            widget = self._rows[name]
            widget.value = _as_text(value) if _is_text(widget) else value

    def kept(self) -> dict[str, Any]:
        """The value of every row, to be brought back later."""
        return {name: widget.value for name, widget in self._rows.items()}

    def bring_back(self, kept: Mapping[str, Any]) -> None:
        """Fill in the values of rows, as far as they can still be chosen."""
        for name, value in kept.items():
            widget = self._rows.get(name)
            choices = getattr(widget, "choices", None)
            if widget is None or (choices is not None and value not in choices):
                continue
            if widget.value != value:
                widget.value = value

    def show_only(self, names: Container[str]) -> None:
        """Show these rows and hide the rest."""
        for name, widget in self._rows.items():
            for part in (widget.native, self._label(widget)):
                part.setVisible(name in names)

    def rename(self, name: str, label: str) -> None:
        """Give a row another label."""
        self._label(self._rows[name]).setText(label)

    def in_words(self, sentence: str) -> str:
        """What a parameter model says of its fields, with the labels of their rows for names."""
        for name in self._fields:
            label = self._label(self._rows[name]).text() or self._rows[name].label
            sentence = re.sub(rf"\b{name}(\.\d+)? should be ", f"{label} should be ", sentence)
        return sentence

    def is_shown(self, name: str) -> bool:
        """Whether a row was left visible by `show_only`."""
        return not self._rows[name].native.isHidden()

    def showEvent(self, event: QEvent) -> None:
        """Line the forms of a dock up, now that the style sheet has set the font."""
        for widget in self._rows.values():
            label = self._label(widget)
            frame = label.sizeHint().width() - label.fontMetrics().horizontalAdvance(label.text())
            width = label.fontMetrics().horizontalAdvance(_USUAL_LABEL)
            label.setMinimumWidth(width + frame)
        super().showEvent(event)

    def _label(self, widget):
        return self.layout().labelForField(widget.native)

    def _emit(self, *_):
        self.changed.emit()


def device_choices() -> list[str]:
    """Devices this machine is likely to have, told without importing torch."""
    choices = ["auto", "cpu"]
    if shutil.which("nvidia-smi"):
        choices.append("cuda:0")
    if sys.platform == "darwin":
        choices.append("mps")
    return choices


def device_default() -> str:
    """The device that forms begin with: that of the Preferences, if it is likely to be there."""
    wanted = preference("computing", "device")
    return wanted if wanted in device_choices() else "auto"


def _field_widget(model, name):
    field = model.model_fields[name]
    default = None if field.is_required() else field.default
    options = {"name": name, "label": field.title, "tooltip": field.description}
    known = kind_of(field)
    kind, optional, bounds = known.types[0], known.optional, known.bounds
    if name == "device":
        return ComboBox(choices=device_choices(), value=device_default(), **options)
    if known.choices:
        choices = [(text, value) for value, text in known.choices.items()]
        default = next(iter(known.choices)) if default is None else default
        return ComboBox(choices=choices, value=default, **options)
    if kind is bool:
        return CheckBox(value=default, **options)
    if get_origin(kind) is tuple:
        return _number_list(options, default, optional)
    if optional:
        extra = field.json_schema_extra or {}
        return _optional_text(options, kind, default, extra.get("empty", _EMPTY.get(name, "none")))
    if kind is float:
        return _real_number(options, bounds, default)
    return SpinBox(
        min=bounds.get("ge", 0),
        max=bounds.get("le", _LARGEST),
        step=bounds.get("multiple_of", 1),
        value=default,
        **options,
    )


def _optional_text(options, kind, default, empty):
    """A line of text, a number as a rule, that may stay empty, for None; called `empty` then."""
    from qtpy.QtGui import QDoubleValidator, QIntValidator

    widget = LineEdit(value=_as_text(default), **options)
    validator = {int: QIntValidator, float: QDoubleValidator}.get(kind)
    if validator:
        widget.native.setValidator(validator(widget.native))
    widget.native.setPlaceholderText(empty)
    widget.read = lambda text: None if text in ("", "-") else kind(text)
    return widget


def _number_list(options, default, optional):
    """A line of numbers between commas; the model says what is wrong with one."""
    widget = LineEdit(value=_as_text(default), **options)
    widget.native.setPlaceholderText("none")
    empty = None if optional else ()
    widget.read = lambda text: tuple(text.replace(",", " ").split()) or empty
    return widget


def _as_text(value):
    if isinstance(value, (tuple, list)):
        return ", ".join(map(_as_text, value))
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"


def _real_number(options, bounds, default):
    lowest, highest = bounds.get("ge", bounds.get("gt", 0)), bounds.get("le", _LARGEST_SIZE)
    if "ge" in bounds and highest == 1:
        return FloatSlider(min=lowest, max=highest, step=0.01, value=default, **options)
    step = 1.0 if default >= 1 else default / 5 or 0.5
    return FloatSpinBox(min=lowest, max=highest, step=step, value=default, **options)


def _is_text(widget):
    return isinstance(widget, LineEdit)


def _value(widget):
    return widget.read(widget.value) if _is_text(widget) else widget.value
