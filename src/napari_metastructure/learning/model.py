"""A trained network with all it takes to use it again: predict, segment, save, load."""

import json
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from napari_metastructure.arrays.axes import channels_first, multiples, without_channels
from napari_metastructure.arrays.blocks import planes
from napari_metastructure.arrays.chunks import in_chunks
from napari_metastructure.files.errors import writing
from napari_metastructure.files.reservations import in_place_of
from napari_metastructure.jobs.devices import pick_device
from napari_metastructure.jobs.generators import run_out
from napari_metastructure.jobs.versions import versions
from napari_metastructure.learning.networks import build
from napari_metastructure.learning.prediction import predict_tiles
from napari_metastructure.learning.regions import NormalisedImage, RegionWriter
from napari_metastructure.learning.stroke_classifier import StrokeClassifier
from napari_metastructure.words import counted

__all__ = ["SegmentationModel", "named_tensors", "put_rows", "read_model", "rebuilt"]

_FORMAT = "napari-metastructure model"
_FORMAT_VERSION = 1
_MARGIN = 6  # predicted beyond a region, in `multiple`s: as far as a U-Net sees
_ATTACHED = "attached."  # before the names of arrays that are no weights
_SAVED = ("threshold", "threshold_source", "inverted", "transition", "flips", "record")


class SegmentationModel:
    """A segmentation network, its classes and its decision rule.

    Parameters
    ----------
    architecture : dict
        Arguments of `networks.build`: network, spatial_dims, in_channels, out_channels,
        channels, depth, anisotropy.
    classes : sequence of int
        Label values in the order of the network's classes, background first.
    channel_axis : int, optional
        Axis of the images that holds channels; by default they hold none.
    seed : int, optional
        Seed of the first weights.
    pretrained : bool
        As for `networks.build`.

    Attributes
    ----------
    network : torch.nn.Module
    threshold : float
        For two classes, a pixel is object if its probability lies above.
    threshold_source : str
        Where the threshold came from.
    inverted : bool
        Whether the network learnt the inverted mask (labels flipped above 50 %), so that its
        output is inverted.
    transition : list of list of float or None
        Noise transition matrix of the training labels, undone before the most probable of
        more than two classes is taken.
    flips : bool
        Whether predictions are averaged over the mirror images of each tile.
    robust : bool
        Whether outliers and missing pixels are left out of the images' mean and deviation; False
        for models of early versions.
    record : dict
        How the model was made.
    attached : dict of {str: numpy array}
        What is saved with the model, such as the strokes it was taught by. If the record says that
        the result was that of the classifier of the strokes, this classifier predicts.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any],
        classes: Sequence[int],
        *,
        channel_axis: Any = None,
        seed: Any = None,
        pretrained: bool = False,
    ) -> None:
        self.architecture = dict(architecture)
        self.channel_axis = channel_axis
        self.classes = [int(label) for label in classes]
        if architecture["out_channels"] != (1 if len(self.classes) == 2 else len(self.classes)):
            raise ValueError(f"{len(self.classes)} classes do not fit the network's output.")
        self.network = build(**self.architecture, seed=seed, pretrained=pretrained)
        self.threshold = 0.5
        self.threshold_source = "default"
        self.inverted = False
        self.transition = None
        self.flips = False
        self.robust = True
        self.record = {}
        self.attached = {}

    def __repr__(self) -> str:
        network, dims = self.architecture["network"], self.spatial_dims
        return f"<SegmentationModel: {network}, {dims}-D, classes {self.classes}>"

    @property
    def by_classifier(self) -> bool:
        """Whether the classifier of the strokes predicts, as it did better than the network."""
        return (self.record or {}).get("result") == "classifier"

    @property
    def caution(self) -> str | None:
        """What to know before it is applied: that its result was not the network's; else None."""
        if not (self.record or {}).get("result_is_start"):
            return None
        return (
            "This network fitted the images less well than its start mask, which was the result; "
            "its predictions differ from that."
        )

    @cached_property
    def classifier(self) -> StrokeClassifier:
        """The classifier of the strokes, grown again from what is attached."""
        prefix = "classifier."
        arrays = {
            name.removeprefix(prefix): array
            for name, array in self.attached.items()
            if name.startswith(prefix)
        }
        return StrokeClassifier.from_state(self.record["classifier"]["settings"], arrays)

    @property
    def spatial_dims(self) -> int:
        """2 for planes, 3 for volumes."""
        return self.architecture["spatial_dims"]

    @property
    def multiple(self) -> tuple[int, ...]:
        """What the sides of the network's input are multiples of, in pixels, per axis."""
        anisotropy = self.architecture.get("anisotropy", 1.0)
        return multiples(self.architecture["depth"], self.spatial_dims, anisotropy)

    @property
    def in_channels(self) -> int:
        """Number of channels of an image."""
        return self.architecture["in_channels"]

    @property
    def device(self) -> Any:
        """The device that the network is on."""
        return next(self.network.parameters()).device

    def to(self, device: Any) -> Self:
        """Move the network to a device, by name or torch.device; returns the model."""
        self.network.to(pick_device(device) if isinstance(device, str) else device)
        return self

    def take_weights(self, other: "SegmentationModel") -> None:
        """Start from the weights of another model, but for the last layer where the classes differ.

        Raises
        ------
        ValueError
            If the networks differ in more than the number of classes.
        """
        mine, theirs = named_tensors(self.network), named_tensors(other.network)
        differing = [
            name for name in mine if name not in theirs or mine[name].shape != theirs[name].shape
        ]
        architecture = {**other.architecture, "out_channels": self.architecture["out_channels"]}
        if other.in_channels != self.in_channels:
            raise ValueError(
                "The model to start from is for images of "
                f"{counted(other.in_channels, 'channel')}, but these have {self.in_channels}."
            )
        if architecture != self.architecture:
            raise ValueError(
                f"The network of the model to start from is another one: {other.architecture}, not "
                f"{self.architecture}."
            )
        kept = {name: value for name, value in theirs.items() if name not in differing}
        self.network.load_state_dict(kept, strict=False)

    def predict(
        self,
        image: Any,
        *,
        region: Any = None,
        out: Any = None,
        labels: bool = False,
        **tiling: Any,
    ) -> np.ndarray:
        """Probabilities of an image or a stack of any size.

        Parameters
        ----------
        image : array of real numbers, (..., y, x), or (..., z, y, x) for a 3-D model
            Each plane (or volume) is normalised by its own mean and deviation; missing pixels (NaN,
            infinity) are taken as its mean. A model with a
            `channel_axis` takes images with their channels along that axis. Dask and zarr arrays
            are read chunk by chunk.
        region : array of bool, optional
            Of the result's shape (a view by `numpy.broadcast_to` will do): only where it holds is
            predicted, the rest is 0. Means and deviations are those of whole planes.
        out : array, optional
            Where to write the result as it comes, so that it is never whole in memory:
            `ome_zarr.create_image`, numpy.memmap or whatever else can be assigned to by index.
        labels : bool
            Give labels, as `decide` makes them, in place of probabilities.
        **tiling
            ``tile, overlap, batch_size`` of `prediction.predict_tiles`.

        Returns
        -------
        array of float32
            For two classes the probability of the object, of the image's shape without
            channels; for more, one map per class along a first axis. With `labels`, as `decide`
            returns them. `out` if given.

        Raises
        ------
        ValueError
            If the image has too few axes, other channels than those trained on, is empty or holds
            only NaN or infinity, or `out` does not fit.
        """
        return run_out(self.predicting(image, region=region, out=out, labels=labels, **tiling))

    def predicting(
        self,
        image: Any,
        *,
        region: Any = None,
        out: Any = None,
        labels: bool = False,
        **tiling: Any,
    ) -> Generator[Any, Any, Any]:
        """`predict` as a generator of (plane, tiles done, tiles per plane); returns its result."""
        image = self.channels_first(image)
        has_channels = self.channel_axis is not None
        shape = without_channels(image.shape, -self.spatial_dims - 1 if has_channels else None)
        parts = planes(image, self.spatial_dims + has_channels)
        regions = [None] * len(parts)
        if region is not None:
            if region.shape != tuple(shape):
                raise ValueError(f"The region has shape {region.shape}, not {tuple(shape)}.")
            regions = planes(region, self.spatial_dims)
        out = self._checked_out(out, shape, labels)
        align = (getattr(out, "chunks", None) or (1,) * out.ndim)[-self.spatial_dims]
        for number, index in enumerate(np.ndindex(*shape[: -self.spatial_dims])):
            write = partial(self._write, out, index, labels)
            job = self.predicting_plane(
                parts[number], region=regions[number], write=write, align=align, **tiling
            )
            yield from _numbered(number, job)
        return out

    def _checked_out(self, out, shape, labels):
        """The array to write on, a new one if none is given."""
        shape = tuple(shape) if labels or len(self.classes) == 2 else (len(self.classes), *shape)
        if out is None:
            return np.empty(shape, self._label_values().dtype if labels else np.float32)
        if tuple(out.shape) != shape:
            raise ValueError(f"The result has shape {shape}, but out has {tuple(out.shape)}.")
        if not labels and np.dtype(out.dtype).kind != "f":
            raise ValueError(f"Probabilities need an out of floats, not {out.dtype}.")
        return out

    def _write(self, out, index, labels, start, block):
        """Write rows of one plane (or volume)."""
        rows = slice(start, start + block.shape[-self.spatial_dims])
        if labels:
            out[(*index, rows)] = self.decide(block).astype(out.dtype, copy=False)
        else:
            classes = (slice(None),) if len(self.classes) > 2 else ()
            out[(*classes, *index, rows)] = block.astype(out.dtype, copy=False)

    def channels_first(self, image: Any) -> Any:
        """An image as `predict` takes it, its channel axis moved before the spatial axes.

        Raises
        ------
        ValueError
            If the number of channels is not that of the network.
        """
        image = in_chunks(image)
        if self.channel_axis is None:
            return image
        moved = channels_first(image, self.channel_axis, self.spatial_dims)
        found = moved.shape[-self.spatial_dims - 1]
        if found != self.in_channels:
            raise ValueError(
                f"The model needs {self.in_channels} channels along axis {self.channel_axis}, "
                f"but an image of shape {image.shape} has {found} there."
            )
        return moved

    def normalised(self, plane: Any) -> NormalisedImage:
        """A plane (or volume), channels first, as the network wants it."""
        return NormalisedImage(plane, self.spatial_dims, self.robust)

    def predicting_plane(
        self, plane: Any, *, region: Any = None, write: Any = None, **tiling: Any
    ) -> Generator[Any, Any, Any]:
        """Predict one plane (or volume), channels first; a generator like `predicting_one`."""
        image = self.normalised(plane)
        if region is None:
            return (yield from self.predicting_one(image, write=write, **tiling))
        region = np.asarray(region)
        box, classes = self._around(region), (len(self.classes),) * (len(self.classes) > 2)
        result = None
        if write is None:
            result = np.empty((*classes, *region.shape), np.float32)

            write = partial(put_rows, result, len(classes))
        rows = RegionWriter(write, region, box, classes)
        if box is None:
            yield 1, 1
        else:
            yield from self.predicting_one(image.cut(box), write=rows.write, **tiling)
        rows.close()
        return result

    def predicting_rows(
        self, plane: Any, first: int, last: int, write: Any, **tiling: Any
    ) -> Generator[Any, Any, Any]:
        """Predict some rows of a plane (in volumes: along z), channels first.

        What `predicting_plane` gives for these rows, whose result need not fit in memory.

        Parameters
        ----------
        plane : array
            One in chunks is read chunk by chunk.
        first, last : int
            Rows from the first to before the last.
        write : callable
            ``write(start, rows)`` gets them as they come, and the number of the first of them.
        **tiling
            As for `predict`.
        """
        sides = plane.shape[-self.spatial_dims :]
        rows = (slice(first, last), *(slice(0, side) for side in sides[1:]))
        box = self._with_margin(rows, sides)

        def inner(start, block):
            at, count = box[0].start + start, block.shape[-self.spatial_dims]
            low, high = max(first, at), min(last, at + count)
            if low < high:
                rows = (..., slice(low - at, high - at), *[slice(None)] * (self.spatial_dims - 1))
                write(low, block[rows])

        yield from self.predicting_one(self.normalised(plane).cut(box), write=inner, **tiling)

    def _around(self, region):
        """Slices around a region and what the network sees beyond it; None if it is empty."""
        from scipy.ndimage import find_objects

        found = (find_objects(np.asarray(region).astype(np.uint8)) or [None])[0]
        if found is None:
            return None
        return self._with_margin(found, region.shape)

    def _with_margin(self, box, sides):
        """A box with what the network sees beyond it, from multiples of its steps."""
        steps = self.multiple
        reach: Any = [_MARGIN * step for step in steps]
        if self.by_classifier:
            reach = self.classifier.features.reach
        return tuple(
            slice(max(0, part.start // step * step - far), min(part.stop + far, side))
            for part, step, far, side in zip(box, steps, reach, sides)
        )

    def predicting_one(
        self, normalised: Any, write: Any = None, **tiling: Any
    ) -> Generator[Any, Any, Any]:
        """Predict one plane (or volume) of zero mean and unit deviation, channels first.

        A generator of (tiles done, tiles in all); returns the probabilities, or with `write`
        hands them over, see `prediction.predict_tiles`.
        """

        def of_classes(probabilities):
            if len(self.classes) > 2:
                return probabilities
            return 1 - probabilities[0] if self.inverted else probabilities[0]

        if self.by_classifier:
            return (yield from self._classifying(normalised, write))
        if write is not None:
            tiling["write"] = lambda start, rows: write(start, of_classes(rows))
        was_training = self.network.training
        self.network.eval()
        try:
            probabilities = yield from predict_tiles(
                self.network, normalised, multiple=self.multiple, flips=self.flips, **tiling
            )
        finally:
            self.network.train(was_training)
        return None if probabilities is None else of_classes(probabilities)

    def _classifying(self, normalised, write):
        """`predicting_one` by the classifier of the strokes; generator."""
        classes, result = self.classes, None
        if write is None:
            leading = (len(classes),) * (len(classes) > 2)
            result = np.empty((*leading, *normalised.shape[-self.spatial_dims :]), np.float32)
            write = partial(put_rows, result, len(leading))
        yield from self.classifier.predicting_rows(normalised, classes, write, moments=(0.0, 1.0))
        return result

    def segment(self, image: Any, *, region: Any = None, **tiling: Any) -> np.ndarray:
        """Labels of an image or a stack: `predict`, then `decide`."""
        return self.decide(self.predict(image, region=region, **tiling))

    def decide(self, probabilities: Any, threshold: float | None = None) -> np.ndarray:
        """Labels of the probabilities that `predict` returned.

        Parameters
        ----------
        probabilities : array of float
        threshold : float, optional
            Another threshold than the model's own (two classes).

        Returns
        -------
        array of int
            Values of `classes`, in the smallest unsigned type that holds them.
        """
        classes = self._label_values()
        if len(classes) == 2:
            threshold = self.threshold if threshold is None else threshold
            return np.where(probabilities > threshold, classes[1], classes[0])
        return classes[self.undo_noise(probabilities).argmax(0)]

    def _label_values(self):
        classes = np.array(self.classes)
        return classes.astype(np.min_scalar_type(int(classes.max())))

    def undo_noise(self, probabilities: Any) -> Any:
        """Turn class probabilities of the noisy labels into those of the clean ones.

        They may lie a little outside [0, 1]. Without a known noise they stay as they are.
        """
        if self.transition is None:
            return probabilities
        return np.tensordot(np.linalg.inv(self.transition).T, probabilities, axes=1)

    def header(self) -> dict[str, Any]:
        """All that is saved with the weights, as values that JSON can hold."""
        part = "plane" if self.spatial_dims == 2 else "volume"
        return {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "architecture": self.architecture,
            "classes": self.classes,
            "channel_axis": self.channel_axis,
            "normalisation": f"{'robust ' if self.robust else ''}z-score per {part}",
            **{name: getattr(self, name) for name in _SAVED},
            "versions": versions(),
        }

    def save(self, path: str | Path) -> None:
        """Write the model to one ``.safetensors`` file: weights, and a JSON header.

        A file of that name stays until the new one is whole.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        import torch
        from safetensors.torch import save

        header = self.header()
        weights = {name: value.contiguous() for name, value in named_tensors(self.network).items()}
        weights |= {
            _ATTACHED + name: torch.from_numpy(np.ascontiguousarray(array))
            for name, array in self.attached.items()
        }
        data = save(weights, metadata={"napari_metastructure": json.dumps(header)})
        path = Path(path).expanduser()
        with writing(path), in_place_of(path) as temporary:
            temporary.write_bytes(data)


def put_rows(result: np.ndarray, axis: int, start: int, rows: np.ndarray) -> None:
    """Write rows, along an axis, into a result."""
    result[(slice(None),) * axis + (slice(start, start + rows.shape[axis]),)] = rows


def named_tensors(network: Any) -> dict[str, Any]:
    """Parameters and buffers by name, each tensor once (networks list some twice)."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _numbered(number, tiles):
    """Pass on the progress of the tiles of one plane with the plane's number."""
    while True:
        try:
            done, total = next(tiles)
        except StopIteration as end:
            return end.value
        yield number, done, total


def read_model(path: str | Path, device: str = "auto") -> SegmentationModel:
    """Read a model that `SegmentationModel.save` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : str or path
    device : str
        Where to put the network: "auto", "cpu", "cuda:0", "mps".

    Returns
    -------
    SegmentationModel

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, is no model of this plugin or comes from a later version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("napari_metastructure", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise ValueError(
            f"{path.name} is damaged or no model; models are .safetensors files or packages of "
            f"bioimage.io ({error})."
        ) from None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"{path.name} is not a model saved by napari-metastructure.")
    try:
        is_later = header["format_version"] > _FORMAT_VERSION
        model: Any = None if is_later else rebuilt(header, weights)
    except Exception as error:  # whatever a damaged header leads the network's code to
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path.name} is damaged: its parts do not fit ({reason}).") from None
    if is_later:
        raise ValueError(f"{path.name} was saved by a later version; please upgrade.")
    return model.to(device)


def rebuilt(header: Mapping[str, Any], weights: dict[str, Any]) -> SegmentationModel:
    """A model from its header and its tensors by name; a KeyError if they do not fit."""
    model = SegmentationModel(
        header["architecture"], header["classes"], channel_axis=header.get("channel_axis")
    )
    weights = dict(weights)
    attached = [name for name in weights if name.startswith(_ATTACHED)]
    model.attached = {name.removeprefix(_ATTACHED): weights.pop(name).numpy() for name in attached}
    if weights.keys() != named_tensors(model.network).keys():
        raise KeyError("the weights do not fit the architecture")
    model.network.load_state_dict(weights, strict=False)
    for name in _SAVED:
        setattr(model, name, header[name])
    model.robust = header.get("normalisation", "").startswith("robust")
    model.network.eval()
    return model
