"""Interrupted trainings: the file that keeps one, and the row that offers to resume it."""

import hashlib
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_metastructure.plugin.parts.dock import note, say
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.run_panel import notify_error
from napari_metastructure.plugin.preferences import preference

__all__ = ["Interrupted", "folder_of_interrupted"]


def folder_of_interrupted() -> Path:
    """Where unfinished trainings are kept: as set in the Preferences, or in the user's data."""
    from platformdirs import user_data_path

    chosen = preference("folders", "unfinished")
    if chosen:
        return Path(chosen).expanduser()
    return user_data_path("napari-metastructure") / "unfinished"


class Interrupted(QWidget):
    """An unfinished training of the chosen image: resume it, or start anew.

    Parameters
    ----------
    operation : str
        "train" or "segment": what is offered; both are kept in the same folder.
    panel : RunPanel
        Where it runs; while it is busy, nothing can be chosen here.

    Attributes
    ----------
    resumed, restarted : Signal
        The user wants to go on with it, or has given it up.
    state : dict or None
        Of the newest unfinished training of the image, as its checkpoint tells.
    """

    resumed = Signal()
    restarted = Signal()

    def __init__(self, operation: str, panel: Any) -> None:
        super().__init__()
        self.operation = operation
        panel.busy.connect(self.setDisabled)
        self.state: dict | None = None
        self._image: Any = None
        self._path: Path | None = None
        self._running: Path | None = None
        self.text = note()
        resume, anew = QPushButton("Resume"), QPushButton("Start anew")
        resume.setToolTip("Continue the training where it stopped, with its settings.")
        anew.setToolTip("Discard the unfinished training and train from the beginning.")
        resume.clicked.connect(self.resumed)
        anew.clicked.connect(self.give_up)
        buttons = QHBoxLayout()
        buttons.addWidget(resume)
        buttons.addWidget(anew)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addLayout(buttons)
        self.hide()

    def show_image(self, source: Any) -> None:
        """Look for unfinished trainings of an image, unless that was done already."""
        image = None if source is None else _name_of(source)
        if image != self._image:
            self._image = image
            self.look_again()

    def look_again(self) -> None:
        """Show the newest unfinished training of the image."""
        from napari_metastructure.jobs.checkpoint import read_state

        self.state = self._path = None
        found = [] if self._image is None else folder_of_interrupted().glob(f"{self._image}*")
        for path in sorted(found, key=lambda p: p.stat().st_mtime, reverse=True):
            state = None if path == self._running else read_state(path)
            if state is not None and state.get("operation") == self.operation:
                self.state, self._path = state, path
                break
        if self.state is not None:
            when = self.state["written"][:16].replace("T", " ")
            steps = f"step {self.state['step']} of {self.state['total']}"
            say(self.text, f"An unfinished training of this image from {when}, {steps}.")
        self.setVisible(self.state is not None)

    def fill_in(self, *forms: Form) -> None:
        """Set the fields that forms show to the settings of the unfinished training."""
        settings = {**(self.state or {})["settings"], "seed": None}  # the file has its seed
        for form in forms:
            form.set_values({name: settings[name] for name in form.values() if name in settings})

    def run_in(self, dock: Any, *forms: Form) -> None:
        """Show its settings in the forms and run a dock with it, or say why that cannot be."""
        self.fill_in(*forms)
        problem = dock.problem()
        if problem:
            notify_error(problem)
        else:
            dock.run(resume=True)

    def start(self, resume: bool = False) -> Path | None:
        """The file in which the training that starts now is kept; None if there can be none."""
        if resume:
            self._running = self._path
        else:
            folder = folder_of_interrupted()
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError:
                return None
            number = 1
            while (path := folder / f"{self._image}-{number}.safetensors").exists():
                number += 1
            self._running = path
        self.hide()
        return self._running

    def finish(self, complete: bool) -> None:
        """The training has ended: what is complete need not be kept."""
        if complete and self._running is not None:
            self._running.unlink(missing_ok=True)
        self._running = None
        self.look_again()

    def give_up(self) -> None:
        """Remove the unfinished training that is shown."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self.look_again()
        self.restarted.emit()


def _name_of(source):
    layer = source.layer
    text = f"{source.name} {layer.source.path or ''} {source.shape}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
