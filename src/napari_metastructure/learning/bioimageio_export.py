"""A model as a package of the BioImage Model Zoo (bioimage.io, format 0.5), for other programs."""

import io
import json
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastructure.arrays.axes import without_channels
from napari_metastructure.arrays.blocks import planes
from napari_metastructure.files.outputs import with_ending
from napari_metastructure.files.reservations import in_place_of
from napari_metastructure.jobs.generators import run_out
from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.learning.networks import monai_call
from napari_metastructure.learning.smp_networks import is_smp

__all__ = [
    "CONFIG",
    "export_bioimageio",
    "package_path",
    "quietly",
    "require_spec",
]

CONFIG = "napari_metastructure"
"""Where in the package's `config` our own header is."""

_ENDING = ".bioimageio.zip"
_IN_MONAI = ("unet", "segresnet")  # as MONAI builds them; the others are changed after that
_HALO = {2: 4, 3: 1}  # what other programs cut off their tiles, in `multiple`s
_TEST_SIDE = {2: 256, 3: 64}  # of the test image, in pixels
_FARTHEST = 20.0  # deviations from the mean, as `statistics.normalised` has it
_TOLERANCE = 1e-3
_LEAST = 1e-4  # what the largest probability of the test has to be; the format wants 1e-5
_PAPER = (
    "Luo, Liu, Guo and Yang: Deep Neural Networks Learn Meta-Structures from Noisy Labels in "
    "Semantic Segmentation. AAAI 2022."
)
_PAPER_DOI = "10.48550/arXiv.2103.11594"


def export_bioimageio(
    model: SegmentationModel,
    path: str | Path,
    image: Any,
    *,
    name: str,
    authors: Sequence[str],
    description: str = "",
    license: str = "CC-BY-4.0",
) -> Path:
    """Write a model as a package that other programs of the BioImage Model Zoo can run.

    It holds the weights as a PyTorch state dict (U-Net and SegResNet, which MONAI builds from
    their arguments) and as TorchScript, what happens before and after the network, an image to
    test it on with its result, a README and a cover. `load_model` reads it again.

    Parameters
    ----------
    model : SegmentationModel
        Of `train`, `segment` or `load_model`.
    path : path
        ``.bioimageio.zip`` is added where it is missing. A file of that name is replaced.
    image : array of real numbers, as for `SegmentationModel.predict`
        The middle of its first plane (or volume) becomes the test image, which everyone who gets
        the package can see.
    name : str
        5 to 128 letters, digits, spaces or any of ``_+-()``.
    authors : sequence of str, or str
        At least one name.
    description : str
        What the model is for; by default its name.
    license : str
        Identifier of SPDX, such as CC-BY-4.0, CC0-1.0 or MIT.

    Returns
    -------
    Path
        Of the package.

    Raises
    ------
    ImportError
        If `bioimageio.spec` is not installed.
    ValueError
        If the image does not fit the model, or a text does not follow the format.
    OSError
        If the file cannot be written.

    Warns
    -----
    UserWarning
        If the package gives other probabilities on the test image than the model does, by more
        than 0.001: other programs count outliers in the mean and deviation of an image.
    """
    require_spec()
    if is_smp(model.architecture["network"]):
        raise ValueError(
            "Networks of segmentation-models-pytorch cannot be packaged; share the model's file."
        )
    if "fixed" in model.architecture:  # a `PackagedModel`
        raise ValueError("This model came from a bioimage.io package; share that file instead.")
    if model.by_classifier:
        raise ValueError(
            "The result of this model is that of the classifier of the strokes, which other "
            "programs cannot run; share the model's file."
        )
    path = package_path(path)
    if isinstance(authors, str):
        authors = [authors]
    authors = [author.strip() for author in authors if author.strip()]
    if not authors:
        raise ValueError("Give at least one author of the model.")
    raw = _test_image(model, image)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder)
        result = _write_weights(model, files, raw)
        if result.max() < _LEAST:
            raise ValueError(
                "The model finds nothing at all in the middle of the image; give an image with "
                "objects there, as others test the package on it."
            )
        difference = _difference(model, raw, result)
        if difference > _TOLERANCE:
            warnings.warn(
                "On the test image the package's probabilities differ by up to "
                f"{difference:.3f} from this plugin's, which leaves outliers out of the "
                "image's mean and standard deviation.",
                UserWarning,
                stacklevel=2,
            )
        np.save(files / "test_input.npy", raw[np.newaxis])
        np.save(files / "test_output.npy", result[np.newaxis])
        (files / "cover.png").write_bytes(_cover(raw, result))
        text = _readme(model, name, description, difference)
        (files / "README.md").write_text(text, encoding="utf-8")
        with quietly():
            described = _described(model, files, name, authors, description or name, license)
            package = _packed(described)
        with in_place_of(path) as temporary:
            temporary.write_bytes(package)
    return path


def package_path(path: str | Path) -> Path:
    """The path of a package, with its ending and ``~`` filled in."""
    path = Path(path)
    is_other_zip = path.suffix == ".zip" and not path.name.endswith(_ENDING)
    return with_ending(path.with_suffix("") if is_other_zip else path, _ENDING)


def require_spec() -> None:
    """Raise ImportError with what to install, if `bioimageio.spec` is missing."""
    try:
        import bioimageio.spec  # noqa: F401
    except ImportError:
        raise ImportError(
            "Packages for bioimage.io need the library bioimageio.spec: "
            'pip install "napari-metastructure[bioimageio]".'
        ) from None


@contextmanager
def quietly() -> Iterator[None]:
    """Keep to oneself what bioimageio.spec writes to the terminal."""
    from loguru import logger

    logger.disable("bioimageio")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.enable("bioimageio")


# ------------------------------------------------------------------------------- test tensors


def _sizes(model):
    """Smallest size and halo per spatial axis, in pixels."""
    halo = [_HALO[model.spatial_dims] * step for step in model.multiple]
    return [2 * cut + step for cut, step in zip(halo, model.multiple)], halo


def _test_image(model, image) -> NDArray:
    """The middle of the first plane or volume, channels first, of a size the network takes."""
    image = model.channels_first(image)
    has_channels = model.channel_axis is not None
    shape = without_channels(image.shape, -model.spatial_dims - 1 if has_channels else None)
    if len(shape) < model.spatial_dims:
        raise ValueError(f"The image has shape {image.shape}, but the model needs volumes.")
    part = planes(image, model.spatial_dims + has_channels)[0]
    sides = part.shape[-model.spatial_dims :]
    smallest, _ = _sizes(model)
    wanted = [
        max(least, min(side, _TEST_SIDE[model.spatial_dims]) // step * step)
        for side, least, step in zip(sides, smallest, model.multiple)
    ]
    middle = tuple(
        slice(max(0, (side - size) // 2), max(0, (side - size) // 2) + min(side, size))
        for side, size in zip(sides, wanted)
    )
    pixels = np.asarray(part[(..., *middle)], dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise ValueError("The image holds NaN or infinity, which other programs do not accept.")
    pixels = pixels if has_channels else pixels[np.newaxis]
    missing = [size - side for size, side in zip(wanted, pixels.shape[1:])]
    return np.pad(pixels, [(0, 0), *((0, m) for m in missing)], mode="symmetric")


def _as_described(model, network, raw):
    """What a program that follows the package's description gets for the raw test image."""
    import torch

    axes = tuple(range(1, raw.ndim))
    mean, deviation = (f(raw, axis=axes, keepdims=True) for f in (np.mean, np.std))
    pixels = (raw - mean) / (deviation + 1e-6)
    if model.robust:
        pixels = pixels.clip(-_FARTHEST, _FARTHEST)
    with torch.inference_mode():
        output = network(torch.from_numpy(pixels[np.newaxis].astype(np.float32)))[0]
    if not _inside(model):
        output = output.sigmoid() if len(output) == 1 else output.softmax(0)
        output = 1 - output if model.inverted else output
    return output.numpy()


def _difference(model, raw, result):
    """The largest difference between the model's own probabilities and the package's."""
    plane = raw if model.channel_axis is not None else raw[0]
    own = run_out(model.predicting_plane(plane))
    own = own[np.newaxis] if own.ndim < raw.ndim else model.undo_noise(own)
    return float(np.abs(own - result).max())


# ----------------------------------------------------------------------------------- weights


def _inside(model):
    """Whether what the format cannot describe goes into the network: mirrors, known noise."""
    return model.flips or (model.transition is not None and len(model.classes) > 2)


def _write_weights(model, folder, raw):
    """Write the weights in each format; returns the result for the test image."""
    import copy

    import torch

    network = copy.deepcopy(model.network).cpu().float().eval()
    network = network.to(memory_format=torch.contiguous_format)
    if not _inside(model) and model.architecture["network"] in _IN_MONAI:
        tensors = {name: t.detach().clone() for name, t in network.state_dict().items()}
        torch.save(tensors, folder / "weights.pt")
    whole = _whole(model, network) if _inside(model) else network
    example = torch.from_numpy(raw[np.newaxis])
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which others need
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace(whole, example, check_trace=False)
        traced.save(str(folder / "weights.torchscript"))
    result = _as_described(model, whole, raw)
    by_script = _as_described(model, traced, raw)
    larger = np.concatenate([raw, raw], axis=-1)
    pairs = (result, by_script), tuple(_as_described(model, n, larger) for n in (whole, traced))
    if any(np.abs(a - b).max() > _TOLERANCE for a, b in pairs):
        raise ValueError("TorchScript gives another result than the network; it is not exported.")
    return result


def _whole(model, network):
    """The network with its last steps inside: logits to probabilities, mirrors, known noise."""
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            undo = None
            if model.transition is not None and len(model.classes) > 2:
                undo = torch.tensor(np.linalg.inv(model.transition).T, dtype=torch.float32)
            self.undo = undo

        def forward(self, image: Any) -> Any:
            mirrors: list[list[int]] = [[], [-1], [-2], [-2, -1]] if model.flips else [[]]
            total: Any = 0
            for axes in mirrors:
                logits = self.network(image.flip(axes) if axes else image)
                p = logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)
                total = total + (p.flip(axes) if axes else p)
            total = total / len(mirrors)
            if self.undo is not None:
                total = torch.einsum("ij,bj...->bi...", self.undo, total)
            return 1 - total if model.inverted else total

    return Whole().eval()


# ------------------------------------------------------------------------------- description


def _described(model, folder, name, authors, description, license):
    from bioimageio.spec.model import v0_5 as zoo

    try:
        return zoo.ModelDescr(
            name=name,
            description=description[:1024],
            inputs=[_input(zoo, model, folder)],
            outputs=[_output(zoo, model, folder)],
            authors=[zoo.Author(name=author) for author in authors],
            license=license,
            cite=[zoo.CiteEntry(text=_PAPER, doi=zoo.Doi(_PAPER_DOI))],
            documentation=_file(folder / "README.md"),
            covers=[_file(folder / "cover.png")],
            tags=[
                "segmentation",
                "2d" if model.spatial_dims == 2 else "3d",
                "pytorch",
                "napari-metastructure",
                model.architecture["network"].replace("_", "-"),
            ],
            weights=_weights(zoo, model, folder),
            config=zoo.Config(**{CONFIG: _header(model)}, **_tolerance(zoo, folder)),
        )
    except ValueError as error:
        raise ValueError(f"bioimage.io does not accept this description: {_first(error)}") from None


def _tolerance(zoo, folder):
    """How exactly others have to repeat the test result; the format wants 1 % of its maximum.

    That is less than usual where the test image shows hardly any object.
    """
    largest = float(np.load(folder / "test_output.npy").max())
    if largest >= 100 * _TOLERANCE:
        return {}
    one = zoo.ReproducibilityTolerance(absolute_tolerance=0.005 * largest)
    return {"bioimageio": zoo.BioimageioConfig(reproducibility_tolerance=[one])}


def _first(error):
    """The first complaint of a validation, in one line."""
    complaints = getattr(error, "errors", list)()
    if not complaints:
        return str(error).splitlines()[0]
    where = ".".join(str(part) for part in complaints[0]["loc"])
    if where.startswith("license"):  # all the others would be listed
        return "license should be an identifier of SPDX, such as CC-BY-4.0, CC0-1.0 or MIT."
    if where.startswith("name"):
        return "the name should have 5 to 128 letters, digits, spaces or any of _+-()."
    if "too small for reliable testing" in complaints[0]["msg"]:
        return "on the test image the model gives almost 0; give an image with objects."
    return f"{where}: {complaints[0]['msg']}."


def _file(path):
    from bioimageio.spec.common import FileDescr

    return FileDescr(source=path)


def _space(model):
    return "zyx"[-model.spatial_dims :]


def _input(zoo, model, folder):
    smallest, _ = _sizes(model)
    space = [
        zoo.SpaceInputAxis(
            id=zoo.AxisId(axis),
            size=zoo.ParameterizedSize(min=least, step=step),
            concatenable=False,
        )
        for axis, least, step in zip(_space(model), smallest, model.multiple)
    ]
    names = [f"channel{number}" for number in range(model.in_channels)]
    axes = tuple(map(zoo.AxisId, _space(model)))
    before = [zoo.ZeroMeanUnitVarianceDescr(kwargs=zoo.ZeroMeanUnitVarianceKwargs(axes=axes))]
    if model.robust:
        before.append(zoo.ClipDescr(kwargs=zoo.ClipKwargs(min=-_FARTHEST, max=_FARTHEST)))
    return zoo.InputTensorDescr(
        id=zoo.TensorId("image"),
        axes=[zoo.BatchAxis(), zoo.ChannelAxis(channel_names=names), *space],
        data=zoo.IntervalOrRatioDataDescr(type="float32"),
        test_tensor=_file(folder / "test_input.npy"),
        preprocessing=before,
    )


def _output(zoo, model, folder):
    _, halo = _sizes(model)
    space = [
        zoo.SpaceOutputAxisWithHalo(
            id=zoo.AxisId(axis),
            halo=cut,
            size=zoo.SizeReference(tensor_id=zoo.TensorId("image"), axis_id=zoo.AxisId(axis)),
        )
        for axis, cut in zip(_space(model), halo)
    ]
    binary = len(model.classes) == 2
    names = ["object"] if binary else [f"class{label}" for label in model.classes]
    after = []
    if not _inside(model):
        after.append(zoo.SigmoidDescr() if binary else zoo.SoftmaxDescr())
        if model.inverted:
            after.append(zoo.ScaleLinearDescr(kwargs=zoo.ScaleLinearKwargs(gain=-1.0, offset=1.0)))
    return zoo.OutputTensorDescr(
        id=zoo.TensorId("probability"),
        axes=[zoo.BatchAxis(), zoo.ChannelAxis(channel_names=names), *space],
        data=zoo.IntervalOrRatioDataDescr(type="float32"),
        test_tensor=_file(folder / "test_output.npy"),
        postprocessing=after,
    )


def _weights(zoo, model, folder):
    import torch

    version = zoo.Version(torch.__version__.split("+")[0])
    found, state = {}, folder / "weights.pt"
    if state.exists():
        name, arguments = monai_call(**model.architecture)
        found["pytorch_state_dict"] = zoo.PytorchStateDictWeightsDescr(
            source=state,
            architecture=zoo.ArchitectureFromLibraryDescr(
                callable=zoo.Identifier(name), kwargs=arguments, import_from="monai.networks.nets"
            ),
            pytorch_version=version,
            dependencies=_file(_environment(folder)),
        )
    found["torchscript"] = zoo.TorchscriptWeightsDescr(
        source=folder / "weights.torchscript",
        pytorch_version=version,
        parent="pytorch_state_dict" if state.exists() else None,
    )
    return zoo.WeightsDescr(**found)


def _environment(folder):
    """What the state dict needs besides PyTorch, as the file of a conda environment."""
    import monai
    import torch

    pytorch = torch.__version__.split("+")[0]
    path = folder / "environment.yaml"
    path.write_text(
        "channels: [conda-forge, nodefaults]\n"
        f"dependencies: [python, pytorch >={pytorch}, monai >={monai.__version__}]\n",
        encoding="utf-8",
    )
    return path


def _header(model):
    """What this plugin needs to use the model as before, as values of YAML."""
    return json.loads(json.dumps(model.header(), default=str))


def _packed(described):
    from bioimageio.spec import save_bioimageio_package_to_stream

    with io.BytesIO() as stream:  # a file would be left open by the library
        save_bioimageio_package_to_stream(described, output_stream=stream)
        return stream.getvalue()


# ------------------------------------------------------------------------------ for the reader


def _cover(raw, result):
    """A picture of the test image, and of the result on it, as PNG."""
    from PIL import Image

    flat = raw if raw.ndim == 3 else raw[:, raw.shape[1] // 2]
    shown = result if result.ndim == 3 else result[:, result.shape[1] // 2]
    low, high = np.percentile(flat[0], (1, 99.5))
    grey = np.clip((flat[0] - low) / max(high - low, 1e-6), 0, 1)
    share = shown[0] if len(shown) == 1 else 1 - shown[0]
    orange = np.array([0.9, 0.6, 0.0])  # told apart from grey by all who see colours differently
    overlay = grey[..., np.newaxis] * (1 - 0.6 * share[..., np.newaxis])
    overlay = overlay + 0.6 * share[..., np.newaxis] * orange
    both = np.concatenate([np.repeat(grey[..., np.newaxis], 3, axis=-1), overlay], axis=1)
    picture = Image.fromarray((both.clip(0, 1) * 255).astype(np.uint8))
    height = min(512, max(128, picture.height))
    picture = picture.resize((2 * height, height))  # covers are twice as wide as high
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _readme(model, name, description, difference):
    record, binary = model.record or {}, len(model.classes) == 2
    lines = [f"# {name}", "", description or name, "", "## How it was made", ""]
    made = record.get("operation")
    if made:
        lines.append(
            f"By `{made}` of napari-metastructure on {record.get('started', 'an unknown date')}"
            f", {record.get('steps', 'an unknown number of')} training steps."
        )
    if record.get("noise"):
        kinds = ", ".join(spec["kind"] for spec in record["noise"])
        lines.append(f"Noise had been added to the training labels: {kinds}.")
    if text := (record.get("noise_estimate") or {}).get("text"):
        lines.append(text)
    if not made:
        lines.append("The model holds no record of its training.")
    unit = "plane" if model.spatial_dims == 2 else "volume"
    lines += ["", "## Input and output", ""]
    lines.append(
        f"The input is a {unit} with {model.in_channels} channel(s), each brought to zero mean and "
        f"unit deviation over the whole {unit}. When the program that runs the model cuts an image "
        "into tiles, it should take mean and deviation from the whole image, not from each tile."
    )
    if binary:
        lines.append(
            f"The output is the probability of the object. A pixel is object where it lies above "
            f"**{model.threshold:.4g}** (source: {model.threshold_source})."
        )
    else:
        labels = ", ".join(map(str, model.classes))
        lines.append(f"The output holds a map for each class (labels {labels}); the largest wins.")
    if _inside(model):
        lines.append(
            "Averages over mirror images, and the correction for the known noise of the training "
            "labels, as far as the model has them, are part of the TorchScript network."
        )
    lines += ["", "## Validation", ""]
    scores = record.get("validation") or {}
    if scores:
        told = ", ".join(f"{key} {value:.3f}" for key, value in scores.items())
        on = record.get("validated_on") or "the validation labels"
        lines.append(
            f"Scores on validation images, which were not trained on, compared with {on}: {told}."
        )
    else:
        lines.append("No scores were recorded when the model was trained.")
    lines += [
        "Before you use the model, check it on your own images: outline the objects in a few of "
        "them by hand, apply the model, and compare the Dice score (2-D and 3-D masks) or the "
        "average precision (counted objects), for instance with `napari-metastructure compare`.",
        "",
        f"On the test image, the package's probabilities differ from the plugin's by at most "
        f"{difference:.2g}. The plugin leaves outliers (hot pixels, padding) out of an image's "
        "mean and deviation; other programs may count them.",
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"
