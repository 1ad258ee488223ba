"""Asks what a package for bioimage.io says of a model besides what the model knows."""

from typing import Any

from magicgui.widgets import ComboBox, LineEdit
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QVBoxLayout, QWidget

from napari_metastructure.plugin.parts.dock import note, say
from napari_metastructure.plugin.parts.form import Form

__all__ = ["ShareDialog"]

_LICENCES = ("CC-BY-4.0", "CC0-1.0", "BSD-3-Clause", "MIT", "Apache-2.0", "CC-BY-NC-4.0")
_SHORTEST_NAME = 5  # of the format


class ShareDialog(QDialog):
    """Name, authors, description and licence.

    Parameters
    ----------
    parent : QWidget
    name : str
        Of the model.
    image : str
        Name of the layer that the test image is taken from.
    """

    def __init__(self, parent: QWidget, name: str, image: str) -> None:
        super().__init__(parent)
        self.setWindowTitle("Share the model")
        self.form = Form().add(
            LineEdit(name="name", label="Name", value=name, tooltip="At least 5 letters."),
            LineEdit(name="authors", label="Authors", tooltip="Names, separated by semicolons."),
            LineEdit(
                name="description",
                label="Description",
                tooltip="What the model segments, and in which images.",
            ),
            ComboBox(name="license", label="Licence", choices=_LICENCES),
        )
        text = note()
        say(
            text,
            "A package for programs that run models of the BioImage Model Zoo (bioimage.io). "
            f"The centre of {image} becomes the test image, which everyone who gets the "
            "package can see.",
        )
        buttons = QDialogButtonBox.StandardButton
        self.buttons = QDialogButtonBox(buttons.Ok | buttons.Cancel)
        self.buttons.button(buttons.Ok).setText("Save as …")
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        for widget in (text, self.form, self.buttons):
            layout.addWidget(widget)
        self.setMinimumWidth(420)
        self.form.changed.connect(self._check)
        self._check()

    def values(self) -> dict[str, Any]:
        """Arguments of `export_bioimageio`."""
        texts = {name: str(self.form[name].value).strip() for name in ("name", "description")}
        authors = [author.strip() for author in self.form["authors"].value.split(";")]
        return {
            **texts,
            "authors": [author for author in authors if author],
            "license": self.form["license"].value,
        }

    def _check(self):
        values = self.values()
        ready = len(values["name"]) >= _SHORTEST_NAME and bool(values["authors"])
        self.buttons.button(QDialogButtonBox.StandardButton.Ok).setEnabled(ready)
