"""A trained network with all it takes to use it again: predict, segment, save, load."""

import json
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from napari_metastructure.chunks import ChunkedArray, in_chunks
from napari_metastructure.devices import pick_device
from napari_metastructure.networks import build
from napari_metastructure.prediction import predict_tiles
from napari_metastructure.volumes import moments, planes

__all__ = ["SegmentationModel", "load_model", "versions"]

_FORMAT = "napari-metastructure model"
_FORMAT_VERSION = 1
_SAVED = ("threshold", "threshold_source", "inverted", "transition", "flips", "record")


class SegmentationModel:
    """A segmentation network, its classes and its decision rule.

    Parameters
    ----------
    architecture : dict
        Arguments of `networks.build`: network, spatial_dims, in_channels, out_channels,
        channels, depth.
    classes : sequence of int
        Label values in the order of the network's classes, background first.
    seed : int, optional
        Seed of the first weights.

    Attributes
    ----------
    network : torch.nn.Module
    threshold : float
        For two classes, a pixel is object if its probability lies above.
    threshold_source : str
        Where the threshold came from.
    inverted : bool
        Whether the network learnt the inverted mask (labels flipped above 50 %), so that its
        output is turned over.
    transition : list of list of float or None
        Noise transition matrix of the training labels, undone before the most probable of
        more than two classes is taken.
    flips : bool
        Whether predictions are averaged over the mirror images of each tile.
    record : dict
        How the model came about.
    """

    def __init__(self, architecture, classes, *, seed=None):
        self.architecture = dict(architecture)
        self.classes = [int(label) for label in classes]
        if architecture["out_channels"] != (1 if len(self.classes) == 2 else len(self.classes)):
            raise ValueError(f"{len(self.classes)} classes do not fit the network's output.")
        self.network = build(**self.architecture, seed=seed)
        self.threshold = 0.5
        self.threshold_source = "default"
        self.inverted = False
        self.transition = None
        self.flips = False
        self.record = {}

    @property
    def spatial_dims(self):
        return self.architecture["spatial_dims"]

    @property
    def multiple(self):
        """What the sides of the network's input are multiples of, in pixels."""
        return 2 ** (self.architecture["depth"] - 1)

    @property
    def device(self):
        return next(self.network.parameters()).device

    def to(self, device):
        """Move the network to a device, by name or torch.device; returns the model."""
        self.network.to(pick_device(device) if isinstance(device, str) else device)
        return self

    def predict(self, image, *, out=None, labels=False, **tiling):
        """Probabilities of an image or a stack of any size.

        Parameters
        ----------
        image : array of real numbers, (..., y, x), or (..., z, y, x) for a 3-D model
            Each plane (or volume) is normalised by its own mean and deviation. Dask and zarr arrays
            are read chunk by chunk.
        out : array, optional
            Where to write the result as it comes, so that it is never whole in memory:
            `ome_zarr.create_image`, numpy.memmap or whatever else can be assigned to by index.
        labels : bool
            What `decide` makes of the probabilities, in place of these.
        **tiling
            ``tile, overlap, batch_size`` of `prediction.predict_tiles`.

        Returns
        -------
        array of float32
            For two classes the probability of the object, of the image's shape; for more, one map
            per class along a first axis. With `labels`, as `decide` returns them. `out` if given.

        Raises
        ------
        ValueError
            If the image has too few axes, is empty or holds NaN or infinity, or `out` does not fit.
        """
        job = self.predicting(image, out=out, labels=labels, **tiling)
        while True:
            try:
                next(job)
            except StopIteration as end:
                return end.value

    def predicting(self, image, *, out=None, labels=False, **tiling):
        """`predict` as a generator of (plane, tiles done, tiles per plane); returns its result."""
        image = in_chunks(image, warn=True)
        parts = planes(image, self.spatial_dims)
        out = self._checked_out(out, image.shape, labels)
        align = getattr(out, "chunks", None) or (1,) * out.ndim
        for number, index in enumerate(np.ndindex(image.shape[: -self.spatial_dims])):
            write = partial(self._write, out, index, labels)
            tiles = self.predicting_one(
                _Normalised(parts[number]), write=write, align=align[-self.spatial_dims], **tiling
            )
            yield from _numbered(number, tiles)
        return out

    def _checked_out(self, out, shape, labels):
        """The array to write on, a new one if none is given."""
        shape = shape if labels or len(self.classes) == 2 else (len(self.classes), *shape)
        if out is None:
            return np.empty(shape, self._label_values().dtype if labels else np.float32)
        if tuple(out.shape) != tuple(shape):
            raise ValueError(f"The result has shape {shape}, but out has {tuple(out.shape)}.")
        if not labels and np.dtype(out.dtype).kind != "f":
            raise ValueError(f"Probabilities need an out of floats, not {out.dtype}.")
        return out

    def _write(self, out, index, labels, start, block):
        """Write rows of one plane (or volume)."""
        rows = slice(start, start + block.shape[1 if len(self.classes) > 2 else 0])
        if labels:
            out[(*index, rows)] = self.decide(block)
        else:
            classes = (slice(None),) if len(self.classes) > 2 else ()
            out[(*classes, *index, rows)] = block.astype(out.dtype, copy=False)

    def predicting_one(self, normalised, write=None, **tiling):
        """Predict one plane (or volume) of zero mean and unit deviation.

        A generator of (tiles done, tiles in all); returns the probabilities, or with `write`
        hands them over, see `prediction.predict_tiles`.
        """

        def of_classes(probabilities):
            if len(self.classes) > 2:
                return probabilities
            return 1 - probabilities[0] if self.inverted else probabilities[0]

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

    def segment(self, image, **tiling):
        """Labels of an image or a stack: `predict`, then `decide`."""
        return self.decide(self.predict(image, **tiling))

    def decide(self, probabilities, threshold=None):
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
            return classes[(probabilities > threshold).astype(np.intp)]
        return classes[self.undo_noise(probabilities).argmax(0)]

    def _label_values(self):
        classes = np.array(self.classes)
        return classes.astype(np.min_scalar_type(int(classes.max())))

    def undo_noise(self, probabilities):
        """Turn class probabilities of the noisy labels into those of the clean ones.

        They may lie a little outside [0, 1]. Without a known noise they stay as they are.
        """
        if self.transition is None:
            return probabilities
        return np.tensordot(np.linalg.inv(self.transition).T, probabilities, axes=1)

    def save(self, path):
        """Write the model to one ``.safetensors`` file: weights, and a JSON header.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        from safetensors.torch import save_file

        part = "plane" if self.spatial_dims == 2 else "volume"
        header = {
            "format": _FORMAT,
            "format_version": _FORMAT_VERSION,
            "architecture": self.architecture,
            "classes": self.classes,
            "normalisation": f"z-score per {part}",
            **{name: getattr(self, name) for name in _SAVED},
            "versions": versions(),
        }
        weights = {name: value.contiguous() for name, value in _weights(self.network).items()}
        save_file(weights, Path(path), metadata={"napari_metastructure": json.dumps(header)})


class _Normalised:
    """Boxes of an image, of zero mean and unit deviation."""

    def __init__(self, image):
        if isinstance(image, ChunkedArray) and not image.cached:
            image = np.asarray(image)
        self.image, self.shape = image, image.shape
        self.mean, self.deviation = moments(image)

    def __getitem__(self, where):
        pixels = np.array(self.image[where], dtype=np.float32)
        pixels -= self.mean
        pixels /= self.deviation
        return pixels


def _weights(network):
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


def versions():
    """Versions of the packages a result depends on."""
    names = ("napari-metastructure", "torch", "monai", "numpy", "scikit-image")
    return {name: version(name) for name in names}


def load_model(path, device="auto"):
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
        raise ValueError(f"{path.name} is damaged or no safetensors file ({error}).") from None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"{path.name} is no model saved by napari-metastructure.")
    try:
        is_later = header["format_version"] > _FORMAT_VERSION
        model = None if is_later else _rebuilt(header, weights)
    except Exception as error:  # whatever a damaged header leads the network's code to
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path.name} is damaged: its parts do not fit ({reason}).") from None
    if is_later:
        raise ValueError(f"{path.name} was saved by a later version; please upgrade.")
    return model.to(device)


def _rebuilt(header, weights):
    model = SegmentationModel(header["architecture"], header["classes"])
    if weights.keys() != _weights(model.network).keys():
        raise KeyError("other weights than the architecture asks for")
    model.network.load_state_dict(weights, strict=False)
    for name in _SAVED:
        setattr(model, name, header[name])
    model.network.eval()
    return model
