"""What is known of the noise of labels: what their record says, or what the user states."""

from typing import Any

from magicgui.widgets import ComboBox

from napari_metastructure.labels.noise import NoiseSpec
from napari_metastructure.plugin.parts.form import Form

__all__ = ["StatedNoise"]

_RECORDED, _NONE = "as recorded", "none"
_STATED = {
    "some object pixels left out": ("sample", "fraction"),
    "random pixels wrong": ("flip", "ratio"),
}


class StatedNoise(Form):
    """The choice of the noise that a training corrects."""

    def __init__(self) -> None:
        super().__init__()
        self.which = ComboBox(
            name="label_noise",
            label="Label noise",
            choices=[_RECORDED, *_STATED, _NONE],
            tooltip="What you know of errors in the labels; the training and the threshold take "
            "it into account. as recorded: what Corrupt labels noted; nothing for your own labels.",
        )
        self.add(self.which).add_fields(NoiseSpec, [field for _, field in _STATED.values()])
        self.changed.connect(self._show)
        self._show()

    def _show(self):
        fields = {_STATED[self.which.value][1]} if self.is_stated else set()
        self.show_only({"label_noise"} | fields)

    @property
    def is_stated(self) -> bool:
        """Whether the user states a kind of noise and its amount."""
        return self.which.value in _STATED

    @property
    def is_recorded(self) -> bool:
        """Whether the records of the labels are to tell."""
        return self.which.value == _RECORDED

    def value(self, recorded: list[dict] | None) -> Any:
        """The noise to train with, as `train` takes it.

        Parameters
        ----------
        recorded : list of dict, optional
            What the records of the labels say.
        """
        if self.is_stated:
            kind, field = _STATED[self.which.value]
            return [{"kind": kind, field: self[field].value}]
        return recorded if self.is_recorded else None
