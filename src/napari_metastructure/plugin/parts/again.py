"""Say it again: what a dock would do, as Python for the console or settings for a command."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_info
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QGridLayout,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_metastructure.files.outputs import with_ending
from napari_metastructure.parameters import Parameters
from napari_metastructure.plugin.layers import RECORD
from napari_metastructure.plugin.parts.dock import Dock
from napari_metastructure.plugin.parts.input_form import InputForm
from napari_metastructure.plugin.parts.run_panel import notify_error
from napari_metastructure.plugin.parts.save_dialog import ask_where

__all__ = [
    "SayAgain",
    "as_call",
    "as_settings",
    "as_text",
    "config_code",
    "import_of",
    "layer_code",
    "region_code",
    "source_code",
]

_WIDTH = 88


class SayAgain(QWidget):
    """Buttons that copy a dock's next run as Python, save its settings, and show a record.

    Parameters
    ----------
    dock : Dock
        Its ``problem()`` says why there is nothing to say.
    python : callable
        Gives the lines of the snippet; `viewer` is napari's viewer in them.
    config : callable, optional
        Gives the parameters; without it there are no settings to save.
    command : str or callable
        The command that takes the settings, with what it is used on, or what gives it.
    """

    def __init__(
        self,
        dock: Dock,
        python: Callable[[], Iterable[str]],
        config: Callable[[], Parameters] | None = None,
        command: str | Callable[[], str] = "",
    ) -> None:
        super().__init__()
        self.dock, self.python, self.config = dock, python, config
        self._command = command
        self.copy_button = QPushButton("Copy as Python")
        self.copy_button.setToolTip(
            "Copy the next run as code, with these layers, for napari's console."
        )
        self.save_button = QPushButton("Save settings …")
        self.save_button.setToolTip(
            "Save a YAML file for the option --settings of the command line."
        )
        self.record_button = QPushButton("Show record")
        self.record_button.setToolTip("Show how the selected layer was made.")
        self.copy_button.clicked.connect(self.copy)
        self.save_button.clicked.connect(self._ask_and_save)
        self.record_button.clicked.connect(self.show_record)
        self.save_button.setVisible(config is not None)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.copy_button, 0, 0)
        layout.addWidget(self.save_button, 0, 1)
        layout.addWidget(self.record_button, 1, 0, 1, 2)

    # ------------------------------------------------------------------ Python and settings

    @property
    def command(self) -> str:
        """The command that takes the settings."""
        return self._command() if callable(self._command) else self._command

    def text(self) -> str:
        """The snippet.

        Raises
        ------
        ValueError
            If the dock could not run now, with the reason.
        """
        self._check()
        return "\n".join(["import napari_metastructure as nms", *self.python()]) + "\n"

    def copy(self) -> None:
        """Put the snippet on the clipboard."""
        try:
            QApplication.clipboard().setText(self.text())
        except ValueError as error:
            notify_error(error)
        else:
            show_info("Copied: paste it into napari's console.")

    def save(self, path: str | Path) -> None:
        """Write the settings to a YAML file."""
        try:
            self._check()
            text = f"# napari-metastructure {self.command} --settings {Path(path).name}\n"
            text += as_text(as_settings(self.config())) if self.config else ""
            Path(path).write_text(text, encoding="utf-8")
        except (OSError, ValueError) as error:
            notify_error(f"The settings could not be saved: {error}")

    def _check(self):
        problem = self.dock.problem()
        if problem:
            raise ValueError(problem)

    def _ask_and_save(self):
        try:
            name = f"{self.command.split()[0]}.yaml"
        except ValueError as error:
            notify_error(error)
            return
        path = ask_where(self, "Save settings", name, "YAML (*.yaml)", _with_yaml)
        if path is not None:
            self.save(path)

    # ------------------------------------------------------------------ record

    def show_record(self) -> QDialog | None:
        """Open the record of the selected layer, or else of the last result, as text."""
        layers = self.dock.viewer.layers
        chosen = [layers.selection.active, *reversed(layers)]
        found = next((one for one in chosen if one is not None and RECORD in one.metadata), None)
        if found is None:
            show_info("No layer has a record yet. Results of these docks have one.")
            return None
        window = QDialog(self)
        window.setWindowTitle(f"How {found.name} was made")
        text = QPlainTextEdit(as_text(found.metadata[RECORD]))
        text.setReadOnly(True)
        QVBoxLayout(window).addWidget(text)
        window.resize(560, 480)
        window.show()
        return window


def as_settings(config: Parameters) -> dict[str, Any]:
    """The values of a parameter model that were set, as JSON can hold them.

    Parameters
    ----------
    config : Parameters

    Returns
    -------
    dict
    """
    return config.model_dump(mode="json", exclude_unset=True)


def as_text(values: Mapping[str, Any]) -> str:
    """A mapping as YAML that people can read.

    Parameters
    ----------
    values : mapping
        Arrays in it become lists, long lists their length.
    """
    import yaml

    return yaml.safe_dump(_plain(values), sort_keys=False, allow_unicode=True, width=_WIDTH)


def _plain(value: Any) -> Any:
    """A value with nothing in it but what YAML holds."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value] if len(value) <= 100 else f"{len(value)} values"
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


# ---------------------------------------------------------------------------- code


def as_call(start: str, /, *arguments: str, **values: Any) -> str:
    """A call as Python code, on one line or with an argument on each.

    Parameters
    ----------
    start : str
        What is called, with what stands before it, such as ``"noisy = nms.corrupt"``.
    *arguments : str
        Code of the first arguments.
    **values
        Values of the others, as `repr` writes them.
    """
    parts = [*arguments, *(f"{name}={value!r}" for name, value in values.items())]
    line = f"{start}({', '.join(parts)})"
    if len(line) <= _WIDTH and "\n" not in line:
        return line
    inside = ",\n".join(parts).replace("\n", "\n    ")
    return f"{start}(\n    {inside},\n)"


def config_code(config: Parameters) -> str:
    """A parameter model as Python code, with the values that were set."""
    return as_call(type(config).__name__, **config.model_dump(exclude_unset=True))


def _with_yaml(typed):
    return Path(typed) if typed.endswith(".yml") else with_ending(typed, ".yaml")


def import_of(config: Parameters) -> str:
    """The line of Python code that imports a parameter model."""
    return f"from {type(config).__module__} import {type(config).__name__}"


def layer_code(layer: Any) -> str:
    """A layer as Python code: by its name in the viewer."""
    return f"viewer.layers[{layer.name!r}]"


def source_code(name: str, layer: Any, reading: InputForm) -> str:
    """The `Source` of a layer, read as a form says, as Python code."""
    form, layout = reading.form, reading.source(layer).layout
    values = {"spatial_dims": reading.spatial_dims, "channel_axis": layout.channel_axis}
    if layer.multiscale:
        values["level"] = form["level"].value
    if layout.channel_axis is not None:
        values["channel"] = form["channel"].value
    return as_call(f"{name} = Source.of", layer_code(layer), **values)


def region_code(source: str, reading: InputForm) -> str | None:
    """The region of a form on a source, as Python code; None without one."""
    shapes = reading.form["region"].value
    if shapes is None or not reading.form.is_shown("region"):
        return None
    every = reading.form["every_plane"].value
    return as_call("region_mask", layer_code(shapes), source, every_plane=every)
