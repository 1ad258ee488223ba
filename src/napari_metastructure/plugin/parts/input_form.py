"""How an image is read: a sentence that says what was understood, and rows that change it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox
from napari.layers import Layer, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_metastructure.arrays.axes import ALL, MEAN
from napari_metastructure.plugin.layers import Source, region_mask, unwrapped
from napari_metastructure.plugin.parts.dock import Dock, note, say
from napari_metastructure.plugin.parts.form import Form

__all__ = ["InputForm"]

_NONE = -1
_OF_LAYER = ("anisotropy", "level", "channel_axis", "channel")
_TIPS = {
    "spatial_dims": "2-D: each plane separately. 3-D: whole volumes.",
    "anisotropy": "Size of a voxel along z over its size along y and x, from the layer's scale.",
    "level": (
        "Resolution level of the pyramid to work on. Results cover the same area as the image."
    ),
    "channel_axis": (
        "Axis that holds the channels. The network sees all of them; labels do not have this axis."
    ),
    "channel": "What the network sees: all channels, one of them or their mean.",
    "region": "A Shapes layer: only pixels inside its shapes are used.",
    "every_plane": "Apply shapes drawn on one plane of a stack to all planes.",
}


class InputForm(QWidget):
    """Rows for the axes, channels, level and region of an image; only those that apply are shown.

    Parameters
    ----------
    dock : Dock
        Its layer choices are used.
    use : str
        What the image is for: "trained", "segmented", "predicted".
    with_dimensions : bool
        Whether the user chooses between planes and volumes; otherwise `spatial_dims` is set.

    Attributes
    ----------
    changed : Signal
        The image is read in another way.
    """

    changed = Signal()

    def __init__(self, dock: Dock, use: str, *, with_dimensions: bool = True) -> None:
        super().__init__()
        self.use, self.with_dimensions = use, with_dimensions
        self._layer: Any = None
        self._seen: Any = None
        self._filling = False
        self.sentence = note()

        def row(kind, name, label, **options):
            return kind(name=name, label=label, tooltip=_TIPS[name], **options)

        self.form = _Rows(lambda: unwrapped(self._layer)).add(
            row(ComboBox, "spatial_dims", "Dimensions", choices=[("2-D", 2), ("3-D", 3)]),
            row(FloatSpinBox, "anisotropy", "Z anisotropy", min=0.1, max=100, step=0.1, value=1),
            row(ComboBox, "level", "Level", choices=[0]),
            row(ComboBox, "channel_axis", "Channel axis", choices=[("none", _NONE)]),
            row(ComboBox, "channel", "Channels", choices=[ALL]),
            dock.choose_layer(
                "region", "Region", _is_shapes, tooltip=_TIPS["region"], optional=True
            ),
            row(CheckBox, "every_plane", "Region on every plane"),
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.sentence)
        layout.addWidget(self.form)
        self.form.changed.connect(self._on_changed)
        self.show_layer(None)

    @property
    def spatial_dims(self) -> int:
        """2 for planes, 3 for volumes."""
        return self.form["spatial_dims"].value

    @spatial_dims.setter
    def spatial_dims(self, dims: int) -> None:
        self.form["spatial_dims"].value = dims

    # ------------------------------------------------------------------ what was understood

    def show_layer(self, layer: Layer | None, labels: Layer | None = None) -> None:
        """Read this layer; what the user chose for it stays."""
        self._layer = layer
        labels_shape = None if labels is None else labels.data.shape
        seen = layer is not None and (id(layer), _shapes_of(layer), labels_shape)
        if seen and seen != self._seen:
            self._fill(layer, labels_shape)
        self._seen = seen
        self._say()

    def source(self, layer: Layer | None = None) -> Source:
        """The `Source` of a layer, by default the one that is shown, read as the rows say."""
        form, layer = self.form, layer or self._layer
        if self._layer is not None and layer.rgb != self._layer.rgb:  # the rows are of another kind
            return Source.of(layer, spatial_dims=self.spatial_dims)
        axis = form["channel_axis"].value
        return Source.of(
            layer,
            level=form["level"].value,
            spatial_dims=self.spatial_dims,
            channel_axis=None if axis == _NONE else axis,
            channel=form["channel"].value,
        )

    def unlike(self, layer: Layer) -> str | None:
        """Why a layer cannot be read as the one that is shown is, in a sentence; None if it can."""
        first = self._layer
        if layer.rgb != first.rgb:
            colour, grey = (layer, first) if layer.rgb else (first, layer)
            return f"{colour.name} is in colour and {grey.name} is not; take images of one kind."
        layout = self.source().layout
        if layout.channel_axis is None or layer.rgb:
            return None
        if layer.ndim != first.ndim:
            return (
                f"{layer.name} has {layer.ndim} axes but {first.name} has {first.ndim}; images "
                "with channels need the same axes."
            )
        theirs = self.source(layer).layout.num_channels
        if theirs != layout.num_channels:
            return (
                f"{layer.name} has {theirs} channels but {first.name} has {layout.num_channels}; "
                "take images with the same channels."
            )
        return None

    def region(self, source: Source) -> np.ndarray | None:
        """Pixels of an image that count (`layers.region_mask`); None for all.

        Raises
        ------
        ValueError
            If the region holds none.
        """
        shapes = self.form["region"].value
        if shapes is None or not self.form.is_shown("region"):
            return None
        return region_mask(shapes, source, every_plane=self.form["every_plane"].value)

    def values(self) -> dict[str, Any]:
        """The fields of a `NetworkConfig` that say how images are read."""
        source = self.source()
        values: dict[str, Any] = {"spatial_dims": source.layout.spatial_dims}
        values["channel_axis"] = source.layout.input_axis
        if source.layout.spatial_dims == 3:
            values["anisotropy"] = self.form["anisotropy"].value
        return values

    def suit(self, model: Any) -> None:
        """Choose all channels or one, as a model needs it."""
        if model is None or self._layer is None:
            return
        layout = self.source().layout
        wants_all = model.channel_axis is not None
        if layout.channel_axis is not None and wants_all != (layout.channel == ALL):
            self.form["channel"].value = ALL if wants_all else MEAN

    def adopt(self, other: Self) -> None:
        """Read the layer as another form does."""
        if other._layer is self._layer:
            for name in ("level", "channel_axis", "channel"):
                self.form[name].value = other.form[name].value

    # ------------------------------------------------------------------ rows

    def _fill(self, layer, labels_shape):
        """Choices and guesses for a layer that is new here."""
        self._filling = True
        form, levels = self.form, layer.data if layer.multiscale else [layer.data]
        sizes = [" x ".join(str(n) for n in level.shape[: layer.ndim]) for level in levels]
        form["level"].choices = [(f"{k}: {size}", k) for k, size in enumerate(sizes)]
        form["level"].value = 0
        layout = Source.of(layer, labels_shape=labels_shape).layout
        axes = [] if len(layout.shape) < 3 else range(len(layout.shape))
        form["channel_axis"].choices = [
            ("none", _NONE),
            *((f"axis {k}{_named(layout.names[k])}, {layout.shape[k]}", k) for k in axes),
        ]
        form["channel_axis"].value = _NONE if layout.channel_axis is None else layout.channel_axis
        form["anisotropy"].value = min(max(layout.anisotropy, 0.1), 100)
        self._offer_channels()
        self._filling = False

    def _offer_channels(self):
        layout, box = self.source().layout, self.form["channel"]
        chosen = box.value
        box.choices = [
            ("all colours" if layout.rgb else "all", ALL),
            ("grey" if layout.rgb else "mean", MEAN),
            *((f"channel {k}", k) for k in range(layout.num_channels)),
        ]
        if chosen in box.choices:
            box.value = chosen

    def _on_changed(self):
        if self._filling:
            return
        if self._layer is not None:
            self._filling = True
            self._offer_channels()
            self._filling = False
        self._say()
        self.changed.emit()

    def _say(self):
        layer, shown = self._layer, set()
        if layer is not None:
            layout = self.source().layout
            if self.with_dimensions and len(layout.label_shape) > 2:
                shown.add("spatial_dims")
                shown |= {"anisotropy"} if layout.spatial_dims == 3 else set()
            shown |= {"level"} if layer.multiscale else set()
            shown |= {"channel_axis"} if len(layout.shape) > 2 and not layout.rgb else set()
            shown |= {"channel"} if layout.channel_axis is not None else set()
            if len(self.form["region"].choices) > 1:
                shown.add("region")
                region = self.form["region"].value
                drawn_on_planes = region is not None and region.ndim >= layer.ndim > 2
                shown |= {"every_plane"} if drawn_on_planes else set()
        self.form.show_only(shown)
        say(self.sentence, None if layer is None else self._describe(layout))

    def _describe(self, layout):
        text = replace(layout, anisotropy=self.form["anisotropy"].value).describe(self.use)
        region = self.form["region"].value if self.form.is_shown("region") else None
        if region is not None:
            everywhere = region.ndim < self._layer.ndim or self.form["every_plane"].value
            where = " on every plane" if everywhere and len(layout.label_shape) > 2 else ""
            text += f", inside {region.name}{where}"
        return f"{text}.".replace("-D", "\N{NON-BREAKING HYPHEN}D")


class _Rows(Form):
    """The rows of an `InputForm`; how one layer is read is not brought back for another.

    Parameters
    ----------
    layer : callable
        ``layer()`` returns the layer that is read.
    """

    def __init__(self, layer: Callable[[], Any]) -> None:
        super().__init__()
        self._layer = layer

    def kept(self) -> dict[str, Any]:
        """The value of every row, and the layer."""
        return {**super().kept(), "layer": self._layer()}

    def bring_back(self, kept: Mapping[str, Any]) -> None:
        """Fill in the values of rows, those of the layer if it is the same."""
        same = kept["layer"] is self._layer()
        super().bring_back({n: v for n, v in kept.items() if same or n not in _OF_LAYER})


def _named(letter):
    return f" ({letter})" if letter else ""


def _shapes_of(layer):
    levels = layer.data if layer.multiscale else [layer.data]
    return tuple(tuple(level.shape) for level in levels), tuple(layer.scale), layer.axis_labels


def _is_shapes(layer):
    return isinstance(layer, Shapes)
