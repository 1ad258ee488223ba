"""What a training starts from: a new network, the model of the dock, or one in a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox

from napari_metastructure.files.results import MODEL
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.path_edit import PathEdit

__all__ = ["StartFrom"]

_NEW, _THIS, _FILE = "new network", "this model", "file"


class StartFrom(Form):
    """The choice of what a training starts from.

    Parameters
    ----------
    models : callable
        Gives the `ModelPanel` of the dock.
    """

    def __init__(self, models: Callable[[], Any]) -> None:
        super().__init__()
        self._models = models
        self.which = ComboBox(
            name="start_from",
            label="Start from",
            choices=[_NEW, _THIS, _FILE],
            tooltip="Train a new network, or continue from the model in this dock or in a file, "
            "with its network and weights, on these labels. The classes may be different.",
        )
        self.file = PathEdit(
            name="start_file",
            label="Model file",
            mode=FileDialogMode.EXISTING_FILE,
            filter=f"*{MODEL}",
            nullable=True,
            value=None,
            tooltip="A saved model.",
        )
        self.add(self.which, self.file)
        self.changed.connect(self._show)
        self._show()

    def _show(self):
        self.show_only({"start_from"} | ({"start_file"} if self.which.value == _FILE else set()))

    @property
    def is_new(self) -> bool:
        """Whether a new network is trained."""
        return self.which.value == _NEW

    def problem(self, spatial_dims: int) -> str | None:
        """Why there is nothing to start from; None if there is.

        Parameters
        ----------
        spatial_dims : {2, 3}
            Of the images.
        """
        if self.which.value == _FILE and not self._file_is_there():
            return "Choose the file of the model to start from."
        if self.which.value != _THIS:
            return None
        model = self._models().model
        if model is None:
            return "There is no model yet: load one, or start from a new network."
        if model.spatial_dims != spatial_dims:
            return f"This model is for {model.spatial_dims}-D images; start from a new network."
        return None

    def _file_is_there(self):
        return self.file.value is not None and Path(self.file.value).is_file()

    def value(self) -> Any:
        """The model, the path of its file, or None for a new network."""
        if self.which.value == _THIS:
            return self._models().model
        return str(self.file.value) if self.which.value == _FILE else None

    def path(self) -> str | None:
        """The file of the model, for a command or a script; None for a new network.

        Raises
        ------
        ValueError
            If the model is not in a file.
        """
        if self.which.value != _THIS:
            return self.value()
        path = self._models().path
        if path is None:
            raise ValueError("Save the model first: the script or command starts from its file.")
        return path
