"""What the axes of an array mean: which ones are spatial, which one holds channels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_metastructure.words import counted

__all__ = ["ALL", "MEAN", "Layout", "channels_first", "multiples", "strides", "without_channels"]

ALL, MEAN = "all", "mean"
_WORDS = {"t": "frame", "z": "plane"}


def channels_first(array: Any, channel_axis: int | None, spatial_dims: int = 2) -> Any:
    """The array with its channel axis moved to just before the spatial axes.

    Parameters
    ----------
    array : array, n-D
        Numpy or dask; a view is returned.
    channel_axis : int or None
        None: the array holds no channels and stays as it is.
    spatial_dims : {2, 3}

    Returns
    -------
    array
        (..., channel, [z,] y, x).

    Raises
    ------
    ValueError
        If the array has no such axis or too few of them.
    """
    if channel_axis is None:
        return array
    if not -array.ndim <= channel_axis < array.ndim:
        raise ValueError(
            f"An array of shape {array.shape} has no axis {channel_axis} to hold channels."
        )
    if array.ndim <= spatial_dims:
        raise ValueError(
            f"An array of shape {array.shape} is too small for {spatial_dims} spatial axes "
            "and one of channels."
        )
    return np.moveaxis(array, channel_axis, -spatial_dims - 1)


def without_channels(shape: Sequence[int], channel_axis: int | None) -> tuple[int, ...]:
    """The shape of an image without its channels: that of its labels.

    Parameters
    ----------
    shape : sequence of int
    channel_axis : int or None
        None, or an axis that is not there: the shape stays as it is.

    Returns
    -------
    tuple of int
    """
    sides = [int(side) for side in shape]
    if channel_axis is not None and -len(sides) <= channel_axis < len(sides):
        del sides[channel_axis]
    return tuple(sides)


def strides(depth: int, spatial_dims: int = 2, anisotropy: float = 1.0) -> list:
    """Steps from each level of a network to the next, per axis.

    An axis whose voxels are at least twice as long as those of another is not halved until the
    others have caught up, as in nnU-Net (Isensee et al. 2021, arXiv 1809.10486).

    Parameters
    ----------
    depth : int
        Number of levels.
    spatial_dims : {2, 3}
    anisotropy : float
        Size of a voxel along z over its size along y and x; without meaning in 2-D.

    Returns
    -------
    list of tuple of int
        ``depth - 1`` steps, 1 or 2 per axis.
    """
    sizes = np.array([anisotropy, 1, 1][-spatial_dims:] if spatial_dims == 3 else [1.0, 1.0])
    steps = []
    for _ in range(depth - 1):
        step = np.where(sizes < 2 * sizes.min(), 2, 1)
        steps.append(tuple(int(s) for s in step))
        sizes = sizes * step
    return steps


def multiples(depth: int, spatial_dims: int = 2, anisotropy: float = 1.0) -> tuple[int, ...]:
    """What the sides of a network's input are multiples of, in pixels, per axis."""
    return tuple(int(n) for n in np.prod(strides(depth, spatial_dims, anisotropy), axis=0))


@dataclass(frozen=True)
class Layout:
    """How the axes of an image are understood.

    Attributes
    ----------
    shape : tuple of int
        Of the array, with the channel axis.
    names : tuple of str
        One letter per axis where it is known: "t", "z", "c", "y", "x"; else "".
    spatial_dims : {2, 3}
        Planes (y, x) or volumes (z, y, x), the last axes apart from channels.
    channel_axis : int or None
        Axis that holds channels, counted from 0.
    channel : int or {"all", "mean"}
        Which of the channels a network sees.
    anisotropy : float
        Size of a voxel along z over its size along y and x.
    rgb : bool
        Whether the channels are colours.
    """

    shape: tuple
    names: tuple
    spatial_dims: int = 2
    channel_axis: int | None = None
    channel: int | str = ALL
    anisotropy: float = 1.0
    rgb: bool = False

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        *,
        axis_labels: Sequence[str] | None = None,
        rgb: bool = False,
        scale: Sequence[float] | None = None,
        labels_shape: Sequence[int] | None = None,
        spatial_dims: int = 2,
        channel_axis: int | str | None = "auto",
        channel: Any = ALL,
    ) -> "Layout":
        """The layout of an array, by all that is known of it.

        Parameters
        ----------
        shape : sequence of int
            Of the array; with `rgb` the last axis holds colours.
        axis_labels : sequence of str, optional
            Names of all axes but the colours', such as ("t", "z", "y", "x"); names without a
            letter, such as napari's defaults, say nothing.
        rgb : bool
        scale : sequence of float, optional
            Size of a pixel along each axis but the colours'.
        labels_shape : sequence of int, optional
            Shape of labels of the image: the axis that they lack holds channels.
        spatial_dims : {2, 3}
            What the user prefers; 3 is lowered to 2 where there are too few axes.
        channel_axis : int, None or "auto"
            What the user prefers; "auto" goes by colours, by the labels and by the names.
        channel : int or {"all", "mean"}
        """
        shape = tuple(int(side) for side in shape)
        names = _letters(axis_labels, len(shape) - rgb) + ("c",) * bool(rgb)
        channels: int | None
        if isinstance(channel_axis, str):
            channels = _missing(shape, labels_shape)
            if "c" in names and len(shape) > 2:
                channels = names.index("c")
        else:
            channels = channel_axis
        pixels = [axis for axis in range(len(shape)) if axis != channels]
        if len(pixels) < 3:
            spatial_dims = 2
        layout = cls(shape, names, spatial_dims, channels, rgb=bool(rgb))
        if channel not in (ALL, MEAN) and not 0 <= channel < layout.num_channels:
            channel = ALL
        ratio = 1.0
        if scale is not None and len(pixels) >= 3:
            sizes = [abs(float(scale[axis])) for axis in pixels[-3:] if axis < len(scale)]
            if len(sizes) == 3 and min(sizes) > 0:
                ratio = float(f"{sizes[0] / np.sqrt(sizes[1] * sizes[2]):.3g}")
        return cls(shape, names, spatial_dims, channels, channel, ratio, bool(rgb))

    @property
    def num_channels(self) -> Any:
        """Colours count without their transparency."""
        if self.channel_axis is None:
            return 1
        count = self.shape[self.channel_axis]
        return min(count, 3) if self.rgb else count

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Shape of the labels: that of the array without channels."""
        return tuple(n for axis, n in enumerate(self.shape) if axis != self.channel_axis)

    @property
    def label_names(self) -> tuple:
        """Names of the axes that labels have."""
        return tuple(n for axis, n in enumerate(self.names) if axis != self.channel_axis)

    @property
    def input_axis(self) -> int | None:
        """Channel axis of what `taken` returns; None if it holds none."""
        return self.channel_axis if self.channel == ALL else None

    def taken(self, array: Any) -> Any:
        """What the network sees of the array: all channels, one of them or their mean."""
        if self.channel_axis is None:
            return array
        if self.rgb:
            array = array[..., :3]
        if self.channel == ALL:
            return array
        if self.channel == MEAN:
            return array.mean(axis=self.channel_axis, dtype=np.float32)
        return array[(slice(None),) * self.channel_axis + (int(self.channel),)]

    def describe(self, use: str = "trained") -> str:
        """One line for the user: "20 planes of 256 x 256, trained as 2-D".

        Parameters
        ----------
        use : str
            What is done with the image: "trained", "segmented", "predicted".
        """
        dims = self.spatial_dims
        size = " x ".join(str(n) for n in self.label_shape[-dims:])
        leading, names = self.label_shape[:-dims], self.label_names[:-dims]
        word = "plane" if dims == 2 else "frame"
        counts = [counted(n, _WORDS.get(name, word)) for n, name in zip(leading, names)]
        if dims == 2:
            parts = [f"{' x '.join(counts) or '1 plane'} of {size}"]
        else:
            parts = [f"{self.label_shape[-3]} planes as one volume of {size}"]
            if leading:
                parts = [f"{' x '.join(counts)}, each a volume of {size}"]
            parts.append(f"voxel z:y:x {self.anisotropy:g}:1:1")
        if self.channel_axis is not None:
            kind = "colours" if self.rgb else "channels"
            if self.channel == ALL:
                parts.append(f"{self.num_channels} {kind}")
            elif self.channel == MEAN:
                parts.append(f"mean of {self.num_channels} {kind}")
            else:
                parts.append(f"channel {self.channel} of 0 to {self.num_channels - 1}")
        return ", ".join([*parts, f"{use} as {dims}-D"])


def _letters(axis_labels, ndim):
    """The first letters of names that are set: "t", "z", "c", "y", "x"; else empty."""
    names = [str(name).strip().lower() for name in axis_labels or ()]
    if len(names) != ndim or not all(re.match("[a-z]", name) for name in names):
        names = [""] * ndim
    return tuple(name[:1] for name in names)


def _missing(shape, labels_shape):
    """The only axis whose removal gives the shape of the labels; None if there is none."""
    if labels_shape is None or len(labels_shape) != len(shape) - 1:
        return None
    fits = [k for k in range(len(shape)) if shape[:k] + shape[k + 1 :] == tuple(labels_shape)]
    return fits[0] if fits else None
