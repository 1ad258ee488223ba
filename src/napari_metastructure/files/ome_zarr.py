"""OME-Zarr images (OME-NGFF): made to be filled block by block, and opened without being read.

Written is version 0.5 (Zarr format 3), with coarser levels of what is larger than 512 pixels; read
are 0.4 and 0.5, any level, and plain Zarr arrays, in folders and zip files.

A result that is not finished, because its job runs, was stopped or failed, is recognised by the
attribute ``"napari_metastructure": {"complete": false}``. A chunk that is not there is the fill
value, as the format says: writers leave out chunks that hold nothing else. Our own finished files
hold every chunk, so that a lost one can be found (`open_image` with ``missing="error"``).
"""

import errno
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.files.errors import Unreadable, reading, writing
from napari_metastructure.files.pyramid import coarser_levels, update
from napari_metastructure.files.units import ome_name
from napari_metastructure.files.zarr_groups import describe, find_image

__all__ = [
    "ZarrImage",
    "add_labels",
    "create_image",
    "is_own",
    "mark_as_labels",
    "missing_chunks",
    "open_image",
    "own_mark",
    "require_zarr",
]

_RECORD = "napari_metastructure"
_AXES = {2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}
_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_MOST_CHUNKS = 2**24
_LARGEST_SIDE = 1024  # of a chunk, in pixels
_MOST_LEVELS = 32
_KEPT = "what was written so far is kept and marked as partial"


@dataclass
class ZarrImage:
    """One level of an OME-Zarr image, with what its axes mean.

    Reading and writing parts works as with a numpy array: ``image[3] = plane``.

    Attributes
    ----------
    path : str
    array : zarr.Array
        The pixels of this level.
    axes : str
        One letter per axis, of "tczyx".
    scale, translation : tuple of float
        Pixel size and place of the first pixel, per axis.
    units : tuple of str or None
        Such as "micrometer", per axis.
    level : int
    shapes : list of tuple of int
        Of each level, the finest first.
    complete : bool
        False for a result of ours that was not finished.
    record : dict
        Ours, of how the result came about.
    coarser : list of zarr.Array
        Levels that are kept up to date when pixels are written; none of an image that is opened.
    smooth : bool
        They hold means; otherwise, as suits labels, every second pixel.
    """

    path: str
    array: Any
    axes: str
    scale: tuple
    translation: tuple
    units: tuple
    level: int = 0
    shapes: list = field(default_factory=list)
    complete: bool = True
    record: dict = field(default_factory=dict)
    coarser: list = field(default_factory=list)
    smooth: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.array.shape

    @property
    def dtype(self) -> Any:
        """Type of the array's numbers."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.array.ndim

    @property
    def chunks(self) -> Any:
        """Shape of a chunk."""
        return self.array.chunks

    @property
    def lazy(self) -> Any:
        """The pixels as a dask array; nothing is read yet."""
        from dask.array import from_array

        return from_array(self, chunks=self.chunks)

    def __getitem__(self, where):
        with reading(self.path):
            return self.array[where]

    def __setitem__(self, where, block):
        with writing(self.path, _KEPT):
            self.array[where] = block
            if self.coarser:
                update(self.array, self.coarser, where, block, self.smooth)

    def finish(self, record: Any = None) -> None:
        """Mark a new image as complete, and note its record (values that JSON can hold)."""
        self._mark(True, record)

    def note(self, record: Any) -> None:
        """Note a record, such as why the image stays partial; it remains marked as it was."""
        self._mark(self.complete, record)

    def _mark(self, complete, record):
        self.complete, self.record = complete, record or self.record
        with writing(self.path, _KEPT):
            _open(self.path, "r+").update_attributes(
                {_RECORD: {**self.record, "complete": complete}}
            )


def create_image(
    path: Any,
    shape: Sequence[int],
    dtype: Any,
    *,
    axes: str | None = None,
    scale: Sequence[float] | None = None,
    translation: Sequence[float] | None = None,
    units: Sequence[str | None] | None = None,
    chunks: Sequence[int] | None = None,
    name: str | None = None,
    smooth: bool | None = None,
    overwrite: bool = False,
) -> "ZarrImage":
    """Make a new OME-Zarr image, marked as partial, to be filled block by block.

    Parameters
    ----------
    path : path or str
        Of the new folder, usually ending in ``.ome.zarr``.
    shape : sequence of int
    dtype : dtype
    axes : str, optional
        One letter per axis, time before channel before space; by default the end of "tzyx".
    scale, translation : sequence of float, optional
        Per axis, by default 1 and 0.
    units : sequence of str, pint.Unit or None, optional
        Per axis; "um", "µm" and "micrometer" are the same, "pixel" and None leave it open.
    chunks : sequence of int, optional
        By default one plane, cut to at most 1024 x 1024 pixels.
    name : str, optional
        By default the name of the folder.
    smooth : bool, optional
        The coarser levels hold means; by default those of floats do, and integers are taken for
        labels, of which every second pixel is kept.
    overwrite : bool
        Replace an image that this program made; otherwise what is there is an error.

    Returns
    -------
    ZarrImage
        Call its `finish` when all is written.

    Raises
    ------
    FileExistsError, PermissionError, OSError, ValueError
        With one sentence that says why the image cannot be made.

    Examples
    --------
    >>> image = create_image("result.ome.zarr", (20, 512, 512), "float32")  # doctest: +SKIP
    >>> image[0] = plane  # doctest: +SKIP
    >>> image.finish()  # doctest: +SKIP
    """
    zarr = require_zarr()
    path, shape = _location(path), tuple(int(side) for side in shape)
    axes = _checked_axes(axes, len(shape))
    scale = _per_axis(scale, 1, shape)
    translation = _per_axis(translation, 0, shape)
    units = tuple(ome_name(unit) for unit in (units or [None] * len(shape)))
    name = name or Path(path).name.removesuffix(".zarr").removesuffix(".ome")
    if "://" not in path and Path(path).exists():
        if not overwrite:
            raise FileExistsError(f"{path} already exists; choose another name.")
        if not is_own(path):
            raise FileExistsError(
                f"{path} was not made by this program, so it is not replaced. Choose another "
                "name, or remove it yourself."
            )
    if chunks is None:
        chunks = [1] * (len(shape) - 2) + [min(side, _LARGEST_SIDE) for side in shape[-2:]]
    chunks = tuple(max(1, int(side)) for side in chunks)
    sizes = [(shape, chunks), *coarser_levels(shape, chunks)]
    with writing(path, _KEPT):
        group = zarr.create_group(path, overwrite=overwrite)
        array, *coarser = (
            group.create_array(
                str(level),
                shape=level_shape,
                dtype=dtype,
                chunks=level_chunks,
                dimension_names=list(axes),
                config={"write_empty_chunks": True},
            )
            for level, (level_shape, level_chunks) in enumerate(sizes)
        )
        described = _multiscale(name, axes, scale, translation, units, len(sizes))
        group.update_attributes(
            {"ome": {"version": "0.5", "multiscales": [described]}, _RECORD: {"complete": False}}
        )
    shapes = [level_shape for level_shape, _ in sizes]
    image = ZarrImage(
        path, array, axes, tuple(scale), tuple(translation), tuple(units), 0, shapes, False
    )
    image.coarser = coarser
    image.smooth = np.dtype(dtype).kind == "f" if smooth is None else smooth
    return image


def add_labels(path: Any, names: Sequence[str]) -> list[str]:
    """Make room for label images in a new OME-Zarr image, as the format has them.

    Parameters
    ----------
    path : path or str
        Of the image.
    names : sequence of str

    Returns
    -------
    list of str
        The paths of the label images, each to be made by `create_image` and then marked by
        `mark_as_labels`.
    """
    zarr = require_zarr()
    path = _location(path)
    with writing(path, _KEPT):
        group = zarr.create_group(f"{path}/labels")
        group.update_attributes({"ome": {"version": "0.5", "labels": list(names)}})
    return [f"{path}/labels/{name}" for name in names]


def mark_as_labels(path: Any) -> None:
    """Say in the description of an image that it holds the labels of the image it lies in.

    Parameters
    ----------
    path : path or str
        From `add_labels`.
    """
    with writing(path, _KEPT):
        node = _open(_location(path), "r+")
        source = {"source": {"image": "../../"}}
        node.update_attributes({"ome": {**dict(node.attrs["ome"]), "image-label": source}})


def open_image(path: Any, level: int | str = 0, *, missing: str = "fill") -> "ZarrImage":
    """Open one level of an OME-Zarr image or a plain Zarr array; no pixels are read.

    Parameters
    ----------
    path : path or str
        Of the image's folder, or a zip file or URL that zarr can open. Of a group that holds one
        image, or one image of labels, this is opened.
    level : int
        0 is the finest.
    missing : {"fill", "warn", "error"}
        If chunks are not there: "fill" takes the fill value, as the format says, for writers
        leave out empty chunks. The others name the first that is missing.

    Returns
    -------
    ZarrImage

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such image or level, or chunks are missing.
    """
    path = _location(path)
    node = _open(path, "r")
    with reading(path):
        found, node = find_image(path, node)
        attributes = dict(node.attrs)
        ours = attributes.get(_RECORD, {})
        ours = dict(ours) if isinstance(ours, dict) else {}
        complete = bool(ours.pop("complete", True))
        image = _plain(found, node) if hasattr(node, "shape") else None
        image = image or ZarrImage(found, **describe(node, level))
        _check_size(image)
        image.complete, image.record = complete, ours
    if missing != "fill":
        reason = _what_is_missing(image)
        if reason and missing == "error":
            raise ValueError(reason)
        if reason:
            warnings.warn(reason, stacklevel=2)
    return image


def own_mark(path: Any) -> Any:
    """Our note on whether an image is complete, and its record; empty if it is not ours.

    Parameters
    ----------
    path : path or str
        Of a folder; it need not be there.

    Returns
    -------
    dict
    """
    try:
        described = json.loads((Path(path) / "zarr.json").read_text(encoding="utf-8"))
        mark = described["attributes"][_RECORD]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return mark if isinstance(mark, dict) else {}


def is_own(path: Any) -> bool:
    """Whether a folder holds an image that this program made, and nothing else."""
    if not own_mark(path):
        return False
    levels = {str(level) for level in range(_MOST_LEVELS)}
    return {item.name for item in Path(path).iterdir()} <= levels | {"zarr.json"}


def _check_size(image):
    """A damaged description may promise more chunks than anybody can count."""
    if image.array.dtype.kind not in "biufc":
        raise Unreadable(f"it holds {image.array.dtype}, not numbers")
    counts = [-(-side // max(1, chunk)) for side, chunk in zip(image.shape, image.chunks)]
    if np.prod(counts, dtype=float) > _MOST_CHUNKS:
        raise Unreadable(f"its description lists {np.prod(counts, dtype=float):.3g} chunks")


def missing_chunks(array: Any) -> list:
    """Indices of the chunks (of shards, if there are any) that are not in the store.

    Parameters
    ----------
    array : zarr.Array or ZarrImage

    Returns
    -------
    list of tuple of int
        In order. The pixels of these chunks read as the array's fill value.
    """
    from zarr.core.sync import sync

    array = getattr(array, "array", array)
    store, prefix = array.store_path.store, array.store_path.path

    async def stored():
        return {key async for key in store.list_prefix(f"{prefix}/" if prefix else "")}

    keys = sync(stored())
    sides = getattr(array, "shards", None) or array.chunks
    counts = [-(-length // side) for length, side in zip(array.shape, sides)]
    encode = array.metadata.encode_chunk_key
    start = f"{prefix}/" if prefix else ""
    return [index for index in np.ndindex(*counts) if start + encode(index) not in keys]


def _what_is_missing(image):
    """One sentence on missing chunks; None if all are there."""
    missing = missing_chunks(image)
    if not missing:
        return None
    sides = getattr(image.array, "shards", None) or image.chunks
    total = int(np.prod([-(-length // side) for length, side in zip(image.shape, sides)]))
    name = Path(image.path).name
    if not image.complete:
        return (
            f"{name} is a partial result: {len(missing)} of its {total} chunks were not "
            "written; make it again, or open the part that exists with missing='fill'."
        )
    first = image.array.metadata.encode_chunk_key(missing[0])
    return (
        f"{name} lacks {len(missing)} of its {total} chunks, the first at {first}: copy it again, "
        f"or, if these are empty, read them as {image.array.fill_value} with missing='fill'."
    )


def _plain(path, array):
    axes = _AXES.get(array.ndim, "?" * array.ndim)
    names = getattr(array.metadata, "dimension_names", None)
    if names and all(name in _TYPES for name in names):
        axes = "".join(names)
    ones, zeros = (1.0,) * array.ndim, (0.0,) * array.ndim
    return ZarrImage(path, array, axes, ones, zeros, (None,) * array.ndim, 0, [array.shape])


def _multiscale(name, axes, scale, translation, units, levels):
    described = []
    for letter, unit in zip(axes, units):
        axis = {"name": letter, "type": _TYPES[letter]}
        described.append({**axis, "unit": unit} if unit else axis)
    return {
        "name": name,
        "axes": described,
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": _place(scale, translation, 2**level),
            }
            for level in range(levels)
        ],
    }


def _place(scale, translation, step):
    """Where the pixels of a level lie, of which each covers `step` by `step` of the image."""
    steps = [1] * (len(scale) - 2) + [step] * 2
    shift = [t + (n - 1) / 2 * s for t, s, n in zip(translation, scale, steps)]
    return [
        {"type": "scale", "scale": [s * n for s, n in zip(scale, steps)]},
        {"type": "translation", "translation": shift},
    ]


def _checked_axes(axes, ndim):
    if not 2 <= ndim <= 5:
        raise ValueError(f"An OME-Zarr image has 2 to 5 axes, not {ndim}.")
    axes = "".join(axes or _AXES[ndim])
    in_order = "".join(letter for letter in "tczyx" if letter in axes)
    if axes != in_order or len(axes) != ndim or not axes.endswith("yx"):
        raise ValueError(
            f"The axes {axes!r} do not fit an OME-Zarr image of {ndim} axes; give letters of "
            '"tczyx" in this order.'
        )
    return axes


def _per_axis(values, default, shape):
    values = [default] * len(shape) if values is None else list(values)
    if len(values) != len(shape):
        raise ValueError(f"There are {len(shape)} axes but {len(values)} values: {values}.")
    return tuple(float(value) for value in values)


def _location(path):
    path = str(path)
    return path if "://" in path else str(Path(path).expanduser())


def require_zarr() -> Any:
    """The package zarr; an `ImportError` that says what to install if it is not there."""
    try:
        import zarr
    except ImportError:
        raise ImportError("OME-Zarr needs the package zarr: pip install zarr.") from None
    return zarr


def _open(path, mode):
    """The group or array at a path."""
    zarr = require_zarr()
    if "://" not in path and not Path(path).exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    try:
        if path.endswith((".zip", ".ozx")):
            return _in_zip(zarr, path, mode)
        return zarr.open(path, mode=mode)
    except PermissionError:
        raise PermissionError(f"{path} may not be opened: no permission.") from None
    except Exception as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"{path} cannot be read as Zarr: it is damaged, or not a Zarr image ({reason})."
        ) from None


def _in_zip(zarr, path, mode):
    """The group or array in a zip file, which may hold it in a folder of its own."""
    from zipfile import ZipFile

    with ZipFile(path) as file:
        names = file.namelist()
    tops = {name.split("/")[0] for name in names}
    is_root = tops & {"zarr.json", ".zgroup", ".zarray"}
    inner = "" if is_root or len(tops) != 1 else tops.pop()
    return zarr.open(zarr.storage.ZipStore(path, mode=mode), path=inner, mode=mode)
