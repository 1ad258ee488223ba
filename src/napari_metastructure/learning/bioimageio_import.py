"""Models of the BioImage Model Zoo (bioimage.io), for prediction."""

import io
import zipfile
from collections.abc import Callable, Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.learning.bioimageio_export import CONFIG, quietly, require_spec
from napari_metastructure.learning.model import SegmentationModel, named_tensors, rebuilt
from napari_metastructure.learning.networks import build, load_networks
from napari_metastructure.learning.regions import NormalisedImage

__all__ = ["PackagedModel", "is_package", "load_bioimageio"]

_DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
_SPATIAL = "zyx"
_UNBOUNDED = -np.inf, np.inf
_ROUNDING = 1e-5
_LOGIT_BOUND = 1e-7  # probabilities are kept so far from 0 and 1


class PackagedModel(SegmentationModel):
    """A model of the zoo as far as prediction goes: one image in, one map of classes out.

    It cannot be trained further or saved; its file is all there is.

    Parameters
    ----------
    network : torch.nn.Module
        Gives logits.
    architecture : dict
        ``network, spatial_dims, in_channels, out_channels`` and, unlike that of other models, of
        the sides of its input ``multiple``, ``least`` and whether they are ``fixed``.
    classes : sequence of int
    moments : callable
        ``moments(channel)`` gives what is subtracted from a channel of a plane (or volume), and
        what it is divided by after that.
    bounds : tuple of float
        Where normalised pixels end.
    """

    def __init__(
        self,
        network: Any,
        architecture: dict[str, Any],
        classes: Any,
        moments: Callable,
        bounds: tuple[float, float],
    ) -> None:
        self.network, self.architecture = network.eval(), architecture
        self.classes = list(classes)
        several = architecture["in_channels"] > 1
        self.channel_axis = -architecture["spatial_dims"] - 1 if several else None
        self.threshold, self.threshold_source = 0.5, "the middle, as the package names none"
        self.inverted, self.flips, self.robust, self.transition = False, False, False, None
        self.record, self.attached = {}, {}
        self._moments, self._bounds = moments, bounds

    @property
    def multiple(self) -> tuple[int, ...]:
        """What the sides of the network's input are multiples of, in pixels, per axis."""
        return self.architecture["multiple"]

    def normalised(self, plane: Any) -> NormalisedImage:
        """A plane (or volume), channels first, as the package's description has it."""
        least, sides = self.architecture["least"], plane.shape[-self.spatial_dims :]
        if not self.architecture["fixed"] and any(map(int.__lt__, sides, least)):
            size = " x ".join(map(str, least))
            raise ValueError(f"The model needs images of at least {size} pixels.")
        return _AsDescribed(plane, self.spatial_dims, self._moments, self._bounds)

    def predicting_one(
        self, normalised: Any, write: Any = None, **tiling: Any
    ) -> Generator[Any, Any, Any]:
        """Predict one plane (or volume), in tiles of the size that the network takes."""
        if self.architecture["fixed"]:
            tiling["tile"] = self.multiple
        return super().predicting_one(normalised, write, **tiling)

    def save(self, path: str | Path) -> None:
        """Not offered: the package is the model's file."""
        raise ValueError("This model came from a bioimage.io package; copy that file instead.")


class _AsDescribed(NormalisedImage):
    """Boxes of a plane, brought to the values that the network wants."""

    def __init__(self, image, spatial_dims, moments, bounds):
        self.image, self.shape, self.bounds = image, image.shape, bounds
        pixels = np.asarray(image, dtype=np.float32)
        channels = pixels[np.newaxis] if pixels.ndim == spatial_dims else pixels
        both = np.array([moments(channel) for channel in channels], dtype=np.float32)
        shape = (-1,) + (1,) * spatial_dims if pixels.ndim > spatial_dims else (1,) * spatial_dims
        self.mean, self.deviation = (values.reshape(shape) for values in both.T)

    def __getitem__(self, where):
        pixels = (np.asarray(self.image[where], dtype=np.float32) - self.mean) / self.deviation
        return pixels.clip(*self.bounds).astype(np.float32)


def is_package(path: str | Path) -> bool:
    """Whether a file describes a model of bioimage.io, or is a zip with such a description."""
    path = Path(path)
    if path.name in _DESCRIPTIONS:
        return path.is_file()
    if path.suffix != ".zip" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    return any(name in _DESCRIPTIONS or name.endswith(".bioimageio.yaml") for name in names)


def load_bioimageio(path: str | Path) -> SegmentationModel:
    """Read a package of the BioImage Model Zoo.

    One that this plugin exported gives the model as it was. Of others, those can be used that
    take one image (planes or volumes, with a fixed number of channels) and give one map of
    probabilities of the same size; weights as TorchScript, or as a state dict of a network in
    `monai.networks.nets`. No Python code of a package is run, but TorchScript is: as with any
    program, load it only from those you trust.

    Parameters
    ----------
    path : path
        The zip, or the description in a folder where it was unpacked.

    Returns
    -------
    SegmentationModel
        On the CPU.

    Raises
    ------
    ImportError
        If `bioimageio.spec` is not installed.
    ValueError
        If the package is damaged, or its model is of a kind that cannot be used here.
    """
    require_spec()
    from bioimageio.spec import InvalidDescr, load_description

    path = Path(path)
    # opened here, as the library leaves files open
    with zipfile.ZipFile(path) if path.suffix == ".zip" else nullcontext(path) as source:
        with quietly():
            described = load_description(source, format_version="latest", perform_io_checks=False)
        if isinstance(described, InvalidDescr) or described.type != "model":
            raise ValueError(
                f"{path.name} is damaged, or is not a model in the format of bioimage.io."
            )
        own = dict(described.config.model_extra or {}).get(CONFIG)
        return _own(described, own, path) if own else _foreign(described)


# ------------------------------------------------------------------------------ our own models


def _own(described, header, path):
    try:
        weights = _state(described)
        names = named_tensors(build(**header["architecture"]))
        return rebuilt(header, {name: weights[name] for name in names})
    except Exception as error:
        raise ValueError(f"{path.name} is damaged: its parts do not fit ({error}).") from None


def _state(described):
    """All tensors of the network by name."""
    state = described.weights.pytorch_state_dict
    tensors = _read_state(state) if state is not None else _script(described).state_dict()
    return {name.removeprefix("network."): tensor for name, tensor in tensors.items()}


def _read_state(weights):
    import torch

    return torch.load(_stream(weights), weights_only=True, map_location="cpu")


def _script(described):
    import torch

    with quietly():  # TorchScript is deprecated, but what the zoo has
        return torch.jit.load(_stream(described.weights.torchscript), map_location="cpu")


def _stream(weights):
    with quietly():
        return io.BytesIO(weights.get_reader().read())


# ------------------------------------------------------------------------------- other models


def _foreign(described):
    source, result = _only(described.inputs, "image"), _only(described.outputs, "result")
    dims = _spatial_dims(source, "input")
    if _spatial_dims(result, "output") != dims:
        raise ValueError(
            "The model's output has other axes than its input; it cannot be used here."
        )
    in_channels, out_channels = (_channels(tensor) for tensor in (source, result))
    moments, bounds = _before(source)
    network = _logits(_network(described), *_after(result))
    space = [axis for axis in source.axes if axis.type == "space"]
    steps, least = zip(*map(_step, space))
    architecture = {
        "network": described.name,
        "spatial_dims": dims,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "multiple": steps,
        "least": least,
        "fixed": all(isinstance(axis.size, int) for axis in space),
    }
    classes = range(2 if out_channels == 1 else out_channels)
    model = PackagedModel(network, architecture, classes, moments, bounds)
    model.record = {"operation": "bioimage.io", "name": described.name, "id": str(described.id)}
    return model


def _only(tensors, what):
    if len(tensors) != 1:
        raise ValueError(
            f"The model has {len(tensors)} {what}s, but only those with one can be used here."
        )
    return tensors[0]


def _order(tensor):
    return [axis.type if axis.type != "space" else str(axis.id) for axis in tensor.axes]


def _spatial_dims(tensor, what):
    order = _order(tensor)
    space = [axis for axis in order if axis in _SPATIAL]
    if order not in (["batch", "channel", *_SPATIAL[1:]], ["batch", "channel", *_SPATIAL]):
        raise ValueError(
            f"The model's {what} has the axes {', '.join(order)}; those that can be used here are "
            "batch, channel, y, x or batch, channel, z, y, x."
        )
    return len(space)


def _channels(tensor):
    axis = next(axis for axis in tensor.axes if axis.type == "channel")
    return len(axis.channel_names)


def _step(axis):
    """What a side of the input is a multiple of, and the least it can be."""
    size = axis.size
    if isinstance(size, int):
        return size, size
    if not hasattr(size, "step"):
        raise ValueError("The size of the model's input depends on another; that is not supported.")
    if size.min % size.step:
        raise ValueError(
            "The sides of the model's input have no common step; that is not supported."
        )
    return size.step, size.min


def _before(tensor):
    """What is done to an image before the network, as moments and bounds."""
    moments, bounds = _identity, _UNBOUNDED
    for step in tensor.preprocessing:
        kwargs = step.kwargs
        if step.id == "ensure_dtype":
            continue
        if step.id == "clip" and bounds == _UNBOUNDED:
            bounds = _bound(kwargs.min, -np.inf), _bound(kwargs.max, np.inf)
            continue
        if moments is not _identity or bounds != _UNBOUNDED or step.id not in _STEPS:
            raise ValueError(
                f"The model needs its images prepared by {step.id!r}, which this plugin cannot "
                "do (or not in that order)."
            )
        moments = _STEPS[step.id](kwargs, tensor)
    return moments, bounds


def _bound(value, otherwise):
    return otherwise if value is None else value


def _identity(channel):
    return 0.0, 1.0


def _per_plane(kwargs, tensor):
    """Refuse moments that several channels have in common."""
    several = _channels(tensor) > 1
    if several and (kwargs.axes is None or "channel" in kwargs.axes):
        raise ValueError("The model normalises all channels together, which this plugin cannot do.")
    space = {str(axis.id) for axis in tensor.axes if axis.type == "space"}
    if kwargs.axes is not None and not space <= set(map(str, kwargs.axes)):
        raise ValueError("The model normalises along single axes, which this plugin cannot do.")


def _zero_mean(kwargs, tensor):
    _per_plane(kwargs, tensor)
    return lambda channel: (channel.mean(), channel.std() + kwargs.eps)


def _range(kwargs, tensor):
    _per_plane(kwargs, tensor)
    if kwargs.reference_tensor not in (None, tensor.id):
        raise ValueError("The model takes its range from another image, so it cannot be used here.")

    def moments(channel):
        low, high = np.percentile(channel, (kwargs.min_percentile, kwargs.max_percentile))
        return low, high - low + kwargs.eps

    return moments


def _numbers(*values):
    if not all(isinstance(value, (int, float)) for value in values):
        raise ValueError(
            "The model normalises each channel by numbers of its own, which this plugin cannot do."
        )
    return values


def _linear(kwargs, tensor):
    gain, offset = _numbers(kwargs.gain, kwargs.offset)
    return lambda channel: (-offset / gain, 1 / gain)


def _fixed(kwargs, tensor):
    mean, deviation = _numbers(kwargs.mean, kwargs.std)
    return lambda channel: (mean, deviation)


_STEPS = {
    "zero_mean_unit_variance": _zero_mean,
    "scale_range": _range,
    "scale_linear": _linear,
    "fixed_zero_mean_unit_variance": _fixed,
}


def _after(tensor):
    """Whether the network's output is logits, and whether it is inverted at the end."""
    steps = [step for step in tensor.postprocessing if step.id != "ensure_dtype"]
    names = [step.id for step in steps]
    logits = names[:1] in (["sigmoid"], ["softmax"])
    rest = steps[1:] if logits else steps
    inverts = [(step.kwargs.gain, step.kwargs.offset) for step in rest if step.id == "scale_linear"]
    if len(rest) != len(inverts) or any(pair != (-1, 1) for pair in inverts):
        raise ValueError(
            f"The model's result is made by {', '.join(names)}, which this plugin cannot do."
        )
    if names[:1] == ["sigmoid"] and _channels(tensor) > 1:
        raise ValueError(
            "The model's maps are not mutually exclusive classes, so it cannot be used here."
        )
    return logits, bool(len(inverts) % 2)


def _network(described):
    weights = described.weights
    if weights.torchscript is not None:
        return _script(described)
    state = weights.pytorch_state_dict
    architecture = None if state is None else state.architecture
    if getattr(architecture, "import_from", None) != "monai.networks.nets":
        raise ValueError(
            "The model has no weights that can be used here: TorchScript, or a state dict of a "
            "network in monai.networks.nets."
        )
    network = getattr(load_networks(), str(architecture.callable))(**architecture.kwargs)
    network.load_state_dict(_read_state(state))
    return network


def _logits(network, is_logits, is_inverted):
    """A network whose sigmoid (or softmax) gives what the described one gives in the end."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network
            # so that the model has a device even where all weights are constants of the script
            self.placed = torch.nn.Parameter(torch.zeros(()), requires_grad=False)

        def forward(self, image: Any) -> Any:
            output = self.inner(image.contiguous())
            output = output[0] if isinstance(output, (tuple, list)) else output
            if not is_logits:
                if output.min() < -_ROUNDING or output.max() > 1 + _ROUNDING:
                    raise ValueError(
                        "The model's result is not a probability, so it cannot be used here."
                    )
                output = output.clamp(_LOGIT_BOUND, 1 - _LOGIT_BOUND)
                output = output.logit() if output.shape[1] == 1 else output.log()
            return -output if is_inverted else output

    return Logits()
