"""The operations of the command line, on files: each takes a `Run` and fills its outputs."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.arrays.axes import without_channels
from napari_metastructure.arrays.blocks import is_lazy
from napari_metastructure.files.errors import writing
from napari_metastructure.files.fingerprint import fingerprint
from napari_metastructure.files.label_images import with_colours_of
from napari_metastructure.files.outputs import check_apart
from napari_metastructure.files.pairs import by_image
from napari_metastructure.files.pixels import LAZY
from napari_metastructure.files.read import read_labels, read_outcome
from napari_metastructure.files.reservations import reserve
from napari_metastructure.files.results import record_beside
from napari_metastructure.files.settings import read_settings
from napari_metastructure.jobs.events import Result
from napari_metastructure.runs.run import Run, carry_out, warnings_as_lines

__all__ = ["OPERATIONS", "config_of", "find_channels", "known_noise", "perform", "sweep"]


def corrupt(run: Run) -> None:
    """Noisy copies of labels."""
    from napari_metastructure.labels import noise

    if run.config.seed is None:
        seed = int(np.random.default_rng().integers(2**32))
        run.config = type(run.config).of(run.config, seed=seed)
    labels = run.read("labels")
    run.check_form(labels)
    noisy = [
        noise.corrupt(array, _other_seed(run.config, i)) for i, array in enumerate(labels.arrays)
    ]
    run.facts["noise"] = run.config.summary()
    _keep_colours(run.facts, labels)
    like = labels.in_dimensions(run.config.spatial_dims)
    run.write("output", _like_source(noisy, labels), like)


def train(run: Run) -> None:
    """A model from images and labels."""
    from napari_metastructure.learning.training import train

    images, labels = run.read_pair()
    _use_channels(run, images, labels)
    noise = run.options.get("noise")
    if noise:
        run.say(
            f"The labels are known to be noisy: {noise['kind']}; the threshold takes that into "
            "account."
        )
    options = {"noise": noise, "model": run.inputs.get("start_from"), **_validation(run, labels)}
    done = _trained(run, train(images.data, labels.data, run.config, **options, **_kept(run)))
    _keep_colours(done.record, labels)
    _take_model(run, done)


def _keep_colours(facts, labels):
    """Keep which number stands for which colour, where the labels were colours."""
    if labels.colours:
        facts["colours"] = list(labels.colours)


def segment(run: Run) -> None:
    """Masks of images, with a few strokes or without annotation."""
    from napari_metastructure.few_labels.segment import segment

    images, labels = run.read_matched("images", "labels", ("image", "mask"))
    strokes = run.read("strokes")
    if strokes is not None and strokes.colours:
        raise ValueError(
            f"{run.inputs['strokes']} holds colours; save strokes as numbers: 0 not annotated, "
            "1 background, 2 object."
        )
    run.check_form(images)
    _use_channels(run, images)
    labels = None if labels is None else labels.data
    strokes = None if strokes is None else _on_all(run, strokes, images)
    like, out = images.without(run.config.channel_axis), None
    like = like.in_dimensions(run.config.spatial_dims)
    if any(map(is_lazy, images.arrays)):  # they may be larger than memory: masks come one by one
        if "probabilities" in run.outputs:
            raise ValueError(
                "For images this large only masks can be written. Leave out --probabilities, "
                "save the --model, and use predict."
            )
        shapes = [without_channels(array.shape, run.config.channel_axis) for array in images.arrays]
        out = [_target(run, "output", shape, np.dtype(np.uint8), like) for shape in shapes]
    given = {"strokes": strokes, "labels": labels, "out": out, **_kept(run)}
    done = _trained(run, segment(images.data, run.config, **given))
    _take_model(run, done)
    if out and hasattr(out[0], "finish"):
        run.partial = done.stopped
        (out[0].note if done.stopped else out[0].finish)(run.brief())
    else:
        run.write("output", _like_source(done.masks, like), like)
    run.write("probabilities", _like_source(done.probabilities or [None], like), like)


def _kept(run):
    """Where a training is kept, as arguments of `train` and `segment`."""
    return {name: run.options[name] for name in ("checkpoint", "fresh") if name in run.options}


def _on_all(run, strokes, images):
    """Strokes on every image, zeros where there is no file of them."""
    if not images.names or len(strokes.names) in (0, len(images.names)):
        return strokes.data
    numbers, axis = by_image(images.names, strokes.names), run.config.channel_axis
    painted = sum(number is not None for number in numbers)
    run.say(f"Strokes on {painted} of {len(numbers)} images.")
    if isinstance(images.data, list):
        shapes = [without_channels(array.shape, axis) for array in images.data]
    else:
        shapes = [without_channels(images.data.shape, axis)[1:]] * len(numbers)
    planes = [
        np.zeros(shape, np.uint8) if number is None else np.asarray(strokes.data[number])
        for number, shape in zip(numbers, shapes)
    ]
    return planes if isinstance(images.data, list) else np.stack(planes)


def predict(run: Run) -> None:
    """Labels, or probabilities, that a model gives to images."""
    from napari_metastructure.learning.loading import load_model

    options = {name: value for name, value in run.options.items() if value is not None}
    options.pop("scheduler", None)
    images = run.read("images")
    run.check_form(images)
    model = load_model(run.inputs["model"], options.pop("device", "auto"))
    if "threshold" in options:
        model.threshold, model.threshold_source = options.pop("threshold"), "set by hand"
    run.facts["device"] = str(model.device)
    run.facts["threshold"] = model.threshold
    if model.record.get("colours"):
        run.facts["colours"] = model.record["colours"]
    unused = find_channels(model, images)
    if unused > 1:
        run.say(f"The model takes one channel: each of the {unused} is segmented on its own.")
    like = images.without(model.channel_axis).in_dimensions(model.spatial_dims)
    role = "probabilities" if "probabilities" in run.outputs else "output"
    found = []
    for array in images.arrays:
        found.append(_predicted(run, role, model, array, like, options))
        if run.stopped:
            run.partial = True
            break
    if not hasattr(found[0], "finish"):  # an OME-Zarr image is written already
        run.write(role, _like_source(found, like), like)
    if role == "probabilities" and "output" in run.outputs:
        labels = [_decided(model, array) for array in found]
        run.write("output", _like_source(labels, like), like)


def find_channels(model: Any, images: Any) -> int:
    """Take the channels of a model from where these images have them: one image, or a stack.

    Parameters
    ----------
    model : SegmentationModel
    images : Pixels

    Returns
    -------
    int
        How many channels there are that the model does not take.

    Raises
    ------
    ValueError
        If the model needs channels that are not there, or takes no colours.
    """
    axis = images.channel_axis
    if model.channel_axis is None:
        if axis is not None and images.axes[axis] == "s":
            raise ValueError(
                "The model takes grey images, but these are in colours; save them as grey images, "
                "or train a model on colours."
            )
        return 0 if axis is None else images.arrays[0].shape[axis]
    if axis is not None:
        model.channel_axis = axis
    shape = images.arrays[0].shape
    if not -len(shape) <= model.channel_axis < len(shape):
        raise ValueError(
            f"The model needs {model.in_channels} channels, but an image of shape {shape} has "
            "no channels."
        )
    return 0


def _predicted(run, role, model, array, like, tiling):
    """The array that a model makes of one image; an OME-Zarr image if that is to be the output."""
    from napari_metastructure.learning import cluster_prediction
    from napari_metastructure.learning.prediction import predict

    labels = role == "output"
    shape, dtype = without_channels(array.shape, model.channel_axis), np.dtype(np.float32)
    if labels:
        dtype = np.min_scalar_type(max(model.classes))
    elif len(model.classes) > 2:
        shape = (len(model.classes), *shape)
    out = _target(run, role, shape, dtype, like)
    if run.client is not None:
        job = cluster_prediction.predict(model, array, out, run.client, labels=labels, **tiling)
    else:
        job = predict(model, array, out=out, labels=labels, **tiling)
    return run.watch(job).value


def _target(run, role, shape, dtype, like):
    """What to write an output to as it comes: its OME-Zarr image, or memory or a temporary file."""
    if run.streams(role) and not isinstance(like.data, list):
        return run.create(role, shape, dtype, like)
    if np.prod(shape, dtype=float) * dtype.itemsize <= LAZY:
        return np.zeros(shape, dtype)
    file = tempfile.TemporaryFile(dir=run.outputs[role].parent)  # noqa: SIM115, np.memmap has it
    if hasattr(os, "posix_fallocate"):  # a disk that is full later would end the process
        with writing(run.outputs[role]):
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)) * dtype.itemsize)
    return np.memmap(file, dtype, shape=shape)


def _decided(model, probabilities):
    """Labels of probabilities, lazily where these are."""
    if not hasattr(probabilities, "lazy"):
        return model.decide(probabilities)
    lazy, dtype = probabilities.lazy, np.min_scalar_type(max(model.classes))
    if len(model.classes) == 2:
        return lazy.map_blocks(model.decide, dtype=dtype)
    return lazy.rechunk({0: -1}).map_blocks(model.decide, dtype=dtype, drop_axis=0)


def density(run: Run) -> None:
    """Density maps of the classes, or how far noisy labels are from what is expected of them."""
    from napari_metastructure.labels import density, transition
    from napari_metastructure.labels.planewise import as_mask, number_objects

    labels, clean = run.read("labels"), run.read("clean")
    run.check_form(labels)
    if clean is not None:
        clean = _numbered_as(run, "clean", clean, "labels", labels)
    if any(number_objects(array) for one in (labels, clean) if one for array in one.arrays):
        run.say(
            "There are many labels, which look like numbered objects: the maps are those of "
            "background and of all objects together."
        )
        labels, clean = (
            one and replace(one, data=_like_source([as_mask(a) for a in one.arrays], one))
            for one in (labels, clean)
        )
    window = run.config.model_dump(exclude={"radius"})
    maps, within = [], []
    pairs = zip(labels.arrays, clean.arrays if clean else [None] * len(labels.arrays))
    for noisy, true in pairs:
        if true is None:
            maps.append(density.observed(noisy, run.config.radius, **window))
            continue
        matrix = transition.estimate(true, noisy, ignore_label=run.config.ignore_label)
        found = density.residual(noisy, true, matrix, run.config.radius, in_sigma=True, **window)
        within.append(float((abs(found) <= 3).mean()))
        maps.append(found)
    if within:
        run.facts["within_3_sigma"] = within
    like = labels.in_dimensions(run.config.spatial_dims)
    run.write("output", _like_source(maps, labels), like)


def _numbered_as(run, role, labels, other, others):
    """Labels with the numbers of others, where either were colours."""
    try:
        return with_colours_of(labels, others)
    except ValueError:
        pair = (role, other) if others.colours else (other, role)
        numbers, colours = (run.inputs[name] for name in pair)
        raise ValueError(
            f"{numbers} holds numbers but {colours} colours, so that it is not known which label "
            "is which; save both alike."
        ) from None


def compare(run: Run) -> None:
    """Scores of labels or probabilities against a reference."""
    from napari_metastructure.jobs.job import Job
    from napari_metastructure.labels.comparison import Request, comparing

    nouns = "prediction", "reference"
    prediction, reference = run.read_matched(*nouns, nouns, (read_outcome, read_labels))
    if prediction.arrays[0].dtype.kind != "f":
        prediction = _numbered_as(run, "prediction", prediction, "reference", reference)
    else:
        prediction = _classes_first(prediction, reference)
    ignore_label = run.options.get("ignore_label")
    objects: dict[str, Any] = {
        name: run.options.get(name, {"spatial_dims": 2}.get(name))
        for name in ("objects", "spatial_dims")
    }
    request = Request(reference.arrays, prediction.arrays, ignore_label, errors=False, **objects)
    found = run.watch(Job(lambda job: comparing(job, request))).value
    if found is None:
        raise ValueError("The comparison was stopped; there is no result.")
    result = {"scores": found.scores, "classes": found.classes, "matrix": found.matrix.tolist()}
    result |= {"verdict": str(found.verdict), "kept": found.kept, "sentences": found.sentences}
    if found.objects:
        result["objects"] = asdict(found.objects)
    run.facts["result"] = result
    if "output" in run.results:
        draft = run.results["output"].draft
        with writing(draft):
            draft.write_text(json.dumps(result, indent=1), encoding="utf-8")


def _classes_first(prediction, reference):
    """Probabilities with the axis of the classes, where a file names it, before all others."""
    axis = prediction.axes.find("c")
    if axis < 1 or "c" in reference.axes or len(prediction.axes) != len(reference.axes) + 1:
        return prediction
    arrays = [np.moveaxis(array, axis, 0) for array in prediction.arrays]
    return replace(prediction, data=_like_source(arrays, prediction))


def measure(run: Run) -> None:
    """Objects of masks, told apart and measured, in one table for all images."""
    import pandas as pd

    from napari_metastructure.labels import objects

    nouns = "image", "mask"
    images, masks = run.read_matched("images", "labels", nouns, (None, read_outcome))
    run.check_form(masks)
    given = "scale" in run.config.model_fields_set
    config, units = _with_pixel_size(run.config, masks)
    run.facts["pixel_size"] = "given" if given else "of the file"
    tables, summaries, found = [], [], []
    _tell_merged(run, masks)
    for number, mask in enumerate(masks.arrays):
        image = None if images is None else _channels(images, number, mask)
        labels = mask if run.options["numbered"] else objects.split(mask, config)
        size = {"scale": config.scale, "spatial_dims": config.spatial_dims}
        table = objects.measure(labels, image, skeleton=run.options["skeleton"], **size)
        tables.append(_named_rows(table, masks, number))
        summaries.append(_named_rows(objects.summary(labels, **size), masks, number))
        found.append(labels)
    run.config = config
    run.facts |= {"units": units, "objects": int(sum(map(len, tables)))}
    for role, rows in (("output", tables), ("summary", summaries)):
        if role in run.results:
            draft = run.results[role].draft
            with writing(draft):
                pd.concat(rows, ignore_index=True).to_csv(draft, index=False)
    like = masks.in_dimensions(config.spatial_dims)
    run.write("objects", _like_source(found, masks), like)


def _tell_merged(run, masks):
    """Say that labels of several classes or objects are one mask, unless they number objects."""
    from napari_metastructure.labels.planewise import labels_in, merged

    labels = (labels_in(mask) for mask in masks.arrays if mask.dtype.kind != "f")
    text = None if run.options["numbered"] else next(filter(None, map(merged, labels)), None)
    if text:
        run.say(f"{text} If each label is an object, give --numbered.")


def _channels(images, number, mask):
    """An image to take intensities from; one with channels as a mapping of these."""
    array, axis = images.arrays[number], images.channel_axis
    if axis is None or array.ndim != mask.ndim + 1:
        return array
    before = (slice(None),) * axis
    return {f"channel_{i}": array[(*before, i)] for i in range(array.shape[axis])}


def _with_pixel_size(config, pixels):
    """The config in the units of a file, where it does not say, and these units."""
    given = config.scale if "scale" in config.model_fields_set else None
    dims = config.spatial_dims or (np.size(given) if np.size(given) in (2, 3) else None)
    dims = dims or (3 if pixels.axes.endswith("zyx") else 2)
    scale = tuple(pixels.scale[-dims:]) if given is None else given
    units = list(pixels.units[-dims:]) if given is None else ["the unit of --scale"] * dims
    return type(config).of(config, scale=scale, spatial_dims=dims), units


def _named_rows(table, pixels, number):
    """A table with the name of the image, or of the plane along the first axis."""
    if isinstance(pixels.data, list):
        names = [pixels.names[number] if pixels.names else str(number)] * len(table)
    elif pixels.names and "axis_0" in table:
        names = [pixels.names[int(plane)] for plane in table["axis_0"]]
    else:
        return table
    table.insert(0, "image", names)
    return table


OPERATIONS = {
    function.__name__: function
    for function in (corrupt, train, segment, predict, density, compare, measure)
}


def config_of(record: dict[str, Any]) -> Any:
    """The parameter model of a record's operation with the record's values; None if it has none.

    Raises
    ------
    ValueError
        If a value does not fit.
    """
    from napari_metastructure.few_labels.configs import SegmentConfig
    from napari_metastructure.labels.density import DensityConfig
    from napari_metastructure.labels.noise import NoiseSpec
    from napari_metastructure.labels.objects import ObjectsConfig
    from napari_metastructure.learning.configs import TrainingConfig

    models: dict[str, Any] = {
        "corrupt": NoiseSpec,
        "train": TrainingConfig,
        "segment": SegmentConfig,
        "density": DensityConfig,
        "measure": ObjectsConfig,
    }
    model = models.get(record["operation"])
    return model(**record["config"]) if model else None


def perform(run: Run) -> Any:
    """Do a run of one of the `OPERATIONS` on files; returns its record.

    Raises
    ------
    ValueError, TypeError, OSError, RuntimeError
        With one sentence for the user.
    """
    if run.operation not in OPERATIONS:
        raise ValueError(f"There is no operation {run.operation!r}.")
    return carry_out(run, OPERATIONS[run.operation])


def sweep(inputs: dict, folder: Any, config: Any, quiet: bool) -> Any:
    """A sweep in a folder, where the runs that are done count; returns the `Sweep`."""
    from napari_metastructure.sweep.sweep import sweep

    run, folder = Run("sweep", inputs, {}, config, quiet=quiet), Path(folder).expanduser()
    for source in run.inputs.values():
        check_apart(folder, source)
    images, labels = run.read_pair()
    _use_channels(run, images, labels)
    validation = _validation(run, labels)
    reserved = reserve(folder)
    try:
        job = sweep(images.data, labels.data, run.config, folder=folder, **validation)
        with warnings_as_lines(run):
            found = run.watch(job).value
        found.record["inputs"] = {role: fingerprint(s) for role, s in run.inputs.items()}
        found.save(folder)
    finally:
        shutil.rmtree(reserved, ignore_errors=True)
    return found


def _validation(run, labels):
    """The images and labels to validate on, as far as they are given; numbered as the labels."""
    roles = "validation_images", "validation_labels"
    images, clean = run.read_matched(*roles, ("validation image", "mask"))
    found = images, None if clean is None else with_colours_of(clean, labels)
    return {role: pixels.data for role, pixels in zip(roles, found) if pixels is not None}


def known_noise(source: Any, labels: Any, say: Callable = warnings.warn) -> dict | None:
    """How labels were corrupted: from a record, a file of `NoiseSpec` values, or by their record.

    Parameters
    ----------
    source : path, "none" or None
        None: look for the record beside the labels; it counts if it is of these.
    labels : path
    say : callable
        Gets a sentence if the record beside the labels is of others.
    """
    from napari_metastructure.labels.noise import NoiseSpec

    if source == "none":
        return None
    if source is None:
        beside = isinstance(labels, (str, os.PathLike))
        record, own = record_beside(labels) if beside else (None, False)
        if record is None or record["operation"] != "corrupt":
            return None
        if not own:
            say(
                f"{labels} has changed since the noise in its record was made, so this noise is "
                "not used; state it with --noise if it still holds."
            )
            return None
        return NoiseSpec(**record["config"]).model_dump(mode="json")
    return NoiseSpec(**read_settings(source)).model_dump(mode="json")


def _use_channels(run, images, labels=None):
    """Train on all channels or colours of the images, where the files name them."""
    axis = images.channel_axis
    if run.config.channel_axis is not None or axis is None:
        return
    if labels is None or labels.arrays[0].ndim == images.arrays[0].ndim - 1:
        run.say(f"The network sees all {images.arrays[0].shape[axis]} channels of the images.")
        run.config = type(run.config).of(run.config, channel_axis=axis)


def _trained(run, job):
    """The end of a training that has begun."""
    done = run.watch(job)
    if isinstance(done, Result):
        raise ValueError("The training was stopped before its first step, so there is no result.")
    return done


def _take_model(run, done):
    """What a training says of itself goes to the record, its model to the output."""
    from napari_metastructure.parameters import Parameters

    record = dict(done.record)
    config = record.pop("config")
    if isinstance(run.config, Parameters):
        run.config = type(run.config).of(config)
    left_out = ("operation", "started", "seconds", "versions", "noise")
    run.facts |= {name: value for name, value in record.items() if name not in left_out}
    run.facts["loss"] = done.history["loss"]
    if "model" in run.results:
        if not run.facts.get("steps", 1):
            raise ValueError(
                "The training was stopped before its first step, so there is no model."
            )
        run.save("model", done.model.save)


def _like_source(arrays, pixels):
    return arrays if isinstance(pixels.data, list) else arrays[0]


def _other_seed(spec, number):
    """Each array of a list draws its own numbers."""
    if number == 0:
        return spec
    return type(spec).of(spec, seed=(*np.atleast_1d(spec.seed).tolist(), number))
