"""The command line: ``napari-metastructure``."""

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from napari_metastructure import __version__
from napari_metastructure.cli.options import config_options
from napari_metastructure.few_labels.configs import SegmentConfig
from napari_metastructure.files.errors import sentence
from napari_metastructure.files.pairs import pair_of
from napari_metastructure.files.units import symbol
from napari_metastructure.jobs.progress import code_of_stop
from napari_metastructure.labels.density import DensityConfig
from napari_metastructure.labels.noise import NoiseSpec
from napari_metastructure.labels.objects import ObjectsConfig
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.sweep.configs import SweepConfig
from napari_metastructure.words import counted

__all__ = ["main"]

SAMPLES = (
    "er",
    "er_dilated",
    "er_flipped",
    "er_sampled",
    "er_stack",
    "mitochondria",
    "mitochondria_stack",
    "mitosis",
    "nuclei",
    "nuclei_stack",
    "real_nuclei",
    "cell",
    "cells3d",
    "retina",
    "tissue",
)
_EXPECTED = (ValueError, TypeError, OSError, RuntimeError, ImportError)
_OTHER_FORMATS = {".pt", ".pth", ".ckpt", ".onnx", ".h5", ".pkl", ".json", ".zip", ".zarr", ".npy"}
_OTHER_FORMATS |= {".tif", ".tiff", ".png"}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def commands() -> None:
    """Segmentation from cheap, noisy or missing annotations.

    IMAGES and LABELS are a file (TIFF, OME-TIFF, PNG, .npy), an OME-Zarr folder, a folder of files,
    or a glob in quotes ('cells/*.tif'). A folder that holds images/ and masks/ gives both.

    Every command leaves a record beside its result; "replay" repeats it.

    \b
    napari-metastructure corrupt masks -o noisy.ome.tif --kind flip --ratio 0.4
    napari-metastructure train images noisy.ome.tif -o model.safetensors
    napari-metastructure predict model.safetensors new.ome.zarr -o cells.ome.zarr
    napari-metastructure compare truth.ome.tif cells.ome.zarr
    """


def output_option(help: str, name: str = "output", required: bool = True) -> Callable:
    """The option for the main result."""
    flags = ("-o", "--output", name)
    return click.option(*flags, required=required, type=click.Path(), help=help)


def common_options(command: Callable) -> Callable:
    """The options of every command that makes files."""
    command = click.option("--quiet", is_flag=True, help="Show no progress.")(command)
    return click.option("--overwrite", is_flag=True, help="Replace results that exist.")(command)


def scheduler_option(command: Callable) -> Callable:
    return click.option(
        "--scheduler",
        help="Address of a dask.distributed scheduler, such as tcp://host:8786, whose workers "
        "do the computing. They must be able to read and write the files; the result is "
        "OME-Zarr.",
    )(command)


def checkpoint_options(command: Callable) -> Callable:
    """The options of commands whose training can be resumed."""
    command = click.option(
        "--fresh", is_flag=True, help="Start anew, even if there is a checkpoint."
    )(command)
    return click.option(
        "--checkpoint",
        type=click.Path(dir_okay=False),
        help="A .safetensors file in which the training is saved every 20 s; the same command "
        "resumes it.",
    )(command)


def _kept(checkpoint, fresh):
    return {} if checkpoint is None else {"checkpoint": checkpoint, "fresh": fresh}


def perform(*arguments: Any, **options: Any) -> Any:
    """Do a run; returns its record, which is written beside its results."""
    from napari_metastructure.runs.operations import perform
    from napari_metastructure.runs.run import Run

    run = Run(*arguments, **options)
    record = perform(run)
    for path in run.outputs.values():
        run.say(f"Wrote {path}{', which is partial' if run.partial else ''}.")
    if run.stopped:
        sys.exit(code_of_stop())
    return record


@commands.command()
@click.argument("labels")
@output_option("The noisy labels: .ome.tif, .ome.zarr, .npy, or a new folder of files.")
@config_options(NoiseSpec)
@scheduler_option
@common_options
def corrupt(labels: Any, output: Any, config: Any, scheduler: str | None, **common: Any) -> None:
    """Make noisy copies of LABELS, such as cheap or quick annotation gives.

    \b
    napari-metastructure corrupt masks -o noisy.ome.tif --kind sample --fraction 0.1 --seed 1
    napari-metastructure corrupt masks.ome.zarr -o noisy.ome.zarr --kind dilate --radius 3
    """
    options = {"scheduler": scheduler}
    perform("corrupt", {"labels": labels}, {"output": output}, config, options, **common)


@commands.command()
@click.argument("images")
@click.argument("labels", required=False)
@output_option("The model: a .safetensors file.", "model")
@click.option("--validation-images", help="Images for validation, instead of a part of IMAGES.")
@click.option("--validation-labels", help="Clean labels of the validation images, or of IMAGES.")
@click.option(
    "--noise",
    help="How the labels were corrupted: the record of corrupt, or a file of its parameters. "
    "By default the record beside LABELS, if there is one; none: the noise is not known.",
)
@click.option(
    "--start-from",
    type=click.Path(exists=True, dir_okay=False),
    help="A model to continue from, with its network; its classes may be different.",
)
@checkpoint_options
@config_options(TrainingConfig)
@common_options
def train(
    images: Any,
    labels: Any,
    model: Any,
    validation_images: Any,
    validation_labels: Any,
    noise: Any,
    start_from: str | None,
    checkpoint: str | None,
    fresh: bool,
    config: Any,
    **common: Any,
) -> None:
    """Train a network on IMAGES and LABELS, clean or noisy.

    LABELS may be left out if IMAGES is a folder that holds images/ and masks/. Ctrl-C ends the
    training early and keeps the best weights so far. Several processes or machines train together
    under torchrun (see docs/cluster.md).

    \b
    napari-metastructure train cells -o cells.safetensors
    napari-metastructure train images.ome.tif noisy.ome.tif -o cells.safetensors --epochs 20
    torchrun --nproc-per-node 2 -m napari_metastructure train cells -o cells.safetensors
    """
    from napari_metastructure.runs.operations import known_noise

    say = partial(click.echo, err=True)
    images, labels = pair_of(images, labels, say)
    inputs = {"images": images, "labels": labels}
    inputs |= {"validation_images": validation_images, "validation_labels": validation_labels}
    inputs |= {"start_from": start_from}
    options: dict[str, Any] = {"noise": known_noise(noise, labels, say)}
    options |= _kept(checkpoint, fresh)
    perform("train", inputs, {"model": model_path(model)}, config, options, **common)


@commands.command()
@click.argument("model")
@click.argument("images")
@output_option("The labels: .ome.tif, .ome.zarr, .npy, or a new folder of files.", required=False)
@click.option("--probabilities", type=click.Path(), help="Where to write the probabilities too.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Threshold to use instead of that of the model.",
)
@click.option("--tile", type=click.IntRange(min=16), help="Side of a tile in pixels.")
@click.option(
    "--overlap",
    type=click.FloatRange(0, 1, max_open=True),
    help="Share of a tile that overlaps with its neighbours.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Tiles predicted at once.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda:0 or mps.")
@scheduler_option
@common_options
def predict(
    model: Any,
    images: Any,
    output: Any,
    probabilities: Any,
    overwrite: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Segment IMAGES with a trained MODEL.

    \b
    napari-metastructure predict cells.safetensors new.ome.tif -o labels.ome.tif
    napari-metastructure predict cells.safetensors 'day2/*.tif' -o day2_labels
    """
    if not (output or probabilities):
        raise click.UsageError("Nothing to write: give --output, --probabilities, or both.")
    inputs = {"model": model, "images": images}
    outputs = {"output": output, "probabilities": probabilities}
    perform("predict", inputs, outputs, None, options, overwrite=overwrite, quiet=quiet)


@commands.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.argument("images")
@output_option("The package; .bioimageio.zip is added if it is missing.")
@click.option("--name", required=True, help="Name of the model, at least 5 letters.")
@click.option(
    "--author",
    "authors",
    required=True,
    multiple=True,
    help="An author; may be given several times.",
)
@click.option("--description", default="", help="What the model is for.")
@click.option(
    "--license", default="CC-BY-4.0", show_default=True, help="SPDX identifier of the licence."
)
@click.option("--overwrite", is_flag=True, help="Replace a package that exists.")
def export(model: Any, images: Any, output: Any, overwrite: bool, **texts: Any) -> None:
    """Write a MODEL as a package for bioimage.io, which other programs can run.

    The centre of the first of IMAGES becomes the test image, which is part of the package.

    \b
    napari-metastructure export cells.safetensors cells/images -o cells \\
        --name "Cells in phase contrast" --author "A. Biologist"
    """
    from napari_metastructure.files.outputs import check_new
    from napari_metastructure.files.read import read
    from napari_metastructure.learning.bioimageio_export import export_bioimageio, package_path
    from napari_metastructure.learning.loading import load_model
    from napari_metastructure.runs.operations import find_channels

    path = check_new(package_path(output), overwrite=overwrite)
    pixels, network = read(images), load_model(model, "cpu")
    find_channels(network, pixels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        export_bioimageio(network, path, pixels.arrays[0], **texts)
    for warning in caught:
        click.echo(f"Note: {warning.message}", err=True)
    click.echo(f"Wrote {path}.", err=True)


@commands.command()
@click.argument("images")
@output_option("The masks: .ome.tif, .ome.zarr, .npy, or a new folder of files.")
@click.option("--probabilities", type=click.Path(), help="Where to write the probabilities too.")
@click.option("--model", type=click.Path(), help="Where to save the network, a .safetensors file.")
@click.option("--labels", help="A first segmentation, for --start labels.")
@click.option(
    "--strokes",
    help="A few strokes on the images: 0 not annotated, 1 background, 2 object, 3 ... further "
    "classes. A folder may hold strokes for some of the images, by their names.",
)
@checkpoint_options
@config_options(SegmentConfig)
@common_options
def segment(
    images: Any,
    output: Any,
    probabilities: Any,
    model: Any,
    labels: Any,
    strokes: Any,
    checkpoint: str | None,
    fresh: bool,
    config: Any,
    **common: Any,
) -> None:
    """Segment IMAGES with a few strokes, or without labels.

    \b
    napari-metastructure segment cells/images -o masks.ome.tif
    napari-metastructure segment cells.ome.tif -o masks --polarity dark --model cells.safetensors
    napari-metastructure segment cells/images --strokes cells/strokes -o masks
    """
    inputs = {"images": images, "labels": labels, "strokes": strokes}
    outputs = {"output": output, "probabilities": probabilities}
    outputs["model"] = model_path(model) if model else None
    perform("segment", inputs, outputs, config, _kept(checkpoint, fresh), **common)


@commands.command()
@click.argument("labels")
@output_option("The density maps, one per class along a first axis: .ome.tif or .npy.")
@click.option(
    "--clean",
    help="Clean labels: write the difference between LABELS and what these and the noise "
    "predict, in standard deviations.",
)
@config_options(DensityConfig)
@scheduler_option
@common_options
def density(
    labels: Any, output: Any, clean: Any, config: Any, scheduler: str | None, **common: Any
) -> None:
    """Show how the classes of LABELS are spread: the meta-structure.

    \b
    napari-metastructure density masks.ome.tif -o density.ome.tif --radius 15
    napari-metastructure density noisy.ome.tif --clean masks.ome.tif -o residual.ome.tif
    """
    inputs, options = {"labels": labels, "clean": clean}, {"scheduler": scheduler}
    record = perform("density", inputs, {"output": output}, config, options, **common)
    for share in record.get("within_3_sigma", ()):
        click.echo(f"{100 * share:.2f} % of the pixels lie within 3 standard deviations.")


@commands.command()
@click.argument("reference")
@click.argument("prediction")
@output_option("Also write the scores to this .json file.", required=False)
@click.option("--ignore-label", type=int, help="A label to ignore, besides -1.")
@click.option(
    "--objects",
    type=click.Choice(["numbered", "components"]),
    help="Also score objects: all pixels of a label, or connected parts of the mask.",
)
@click.option(
    "--spatial-dims",
    type=click.IntRange(2, 3),
    default=2,
    show_default=True,
    help="Whether objects lie in planes or in volumes.",
)
@common_options
def compare(
    reference: Any,
    prediction: Any,
    output: Any,
    ignore_label: int | None,
    objects: Any,
    spatial_dims: int,
    **common: Any,
) -> None:
    """Score PREDICTION, labels or probabilities, against the labels in REFERENCE.

    \b
    napari-metastructure compare truth.ome.tif labels.ome.tif
    napari-metastructure compare cells/masks day2_labels -o scores.json
    """
    inputs = {"reference": reference, "prediction": prediction}
    options = {"ignore_label": ignore_label, "objects": objects, "spatial_dims": spatial_dims}
    record = perform("compare", inputs, {"output": output}, None, options, **common)
    result = record["result"]
    for name, value in result["scores"].items():
        if name == "per_class":
            for label, scores in value.items():
                known = {key: score for key, score in scores.items() if score == score}
                text = ", ".join(f"{key} {score:.4f}" for key, score in known.items())
                click.echo(f"class {label}: {text}")
        elif value == value:  # nan where it has no meaning
            click.echo(f"{name:<10}{value:.4f}")
    for row in result.get("objects", {}).get("rows", ()):
        ap = f"average precision {row['average_precision']:.4f}"
        click.echo(f"objects at IoU {row['iou']:g}: F1 {row['f1']:.4f}, {ap}")
    click.echo("\n".join(result["sentences"]))


@commands.command()
@click.argument("masks")
@output_option("The table, a row for each object: a .csv file.")
@click.option("--images", help="Images of the same pixels, to take intensities from.")
@click.option("--summary", help="Where to write count and coverage of each image: a .csv file.")
@click.option("--objects", help="Where to write the objects, numbered one by one.")
@click.option("--numbered", is_flag=True, help="MASKS already number their objects.")
@click.option("--skeleton", is_flag=True, help="Measure length and branch points of skeletons.")
@config_options(ObjectsConfig)
@common_options
def measure(
    masks: Any,
    output: Any,
    images: Any,
    summary: Any,
    objects: Any,
    numbered: Any,
    skeleton: Any,
    config: Any,
    **common: Any,
) -> None:
    """Count and measure the objects in MASKS, labels or probabilities.

    Lengths and sizes are in the units of the files, or those of --scale.

    \b
    napari-metastructure measure masks.ome.tif -o objects.csv --min-size 20 --fill-holes
    napari-metastructure measure cells/masks -o cells.csv --images cells/images --method watershed
    """
    inputs = {"labels": masks, "images": images}
    outputs = {"output": output, "summary": summary, "objects": objects}
    options = {"numbered": numbered, "skeleton": skeleton}
    record = perform("measure", inputs, outputs, config, options, **common)
    where = "volumes" if record["config"]["spatial_dims"] == 3 else "planes"
    units = ", ".join({"pixel": "pixels"}.get(u, symbol(u)) for u in dict.fromkeys(record["units"]))
    click.echo(f"{counted(record['objects'], 'object')} in {where}; lengths in {units}.")


@commands.command()
@click.argument("images")
@click.argument("steps", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@output_option("Folder for the results; files that are already done are not repeated.")
@click.option("--probabilities", is_flag=True, help="Write probabilities too.")
@click.option("--objects", is_flag=True, help="Write the objects, numbered one by one.")
@click.option("--no-table", is_flag=True, help="Do not measure the objects.")
@click.option(
    "--device", help="Device to use instead of that of the records: auto, cpu, cuda:0 or mps."
)
@config_options(ObjectsConfig, leave_out=("threshold", "seeds", "split_contrast"))
@click.option("--quiet", is_flag=True, help="Show no progress.")
def batch(
    images: Any,
    steps: Any,
    output: Any,
    probabilities: bool,
    objects: bool,
    no_table: bool,
    device: str | None,
    config: Any,
    quiet: bool,
) -> None:
    """Apply STEPS, models or records of runs, to each file of the folder IMAGES.

    Subfolders become groups. Results are named like the files; objects.csv is one table of all
    objects. Files that cannot be read or processed are listed at the end, and the others are
    processed. The same command resumes a stopped batch and tries failed files again.

    \b
    napari-metastructure batch plates cells.safetensors -o results --min-size 20
    napari-metastructure batch plates masks.ome.tif.record.json cells.csv.record.json -o results
    """
    from napari_metastructure.runs.batch import batch, plan

    asked = {"probabilities": probabilities, "objects": objects, "table": not no_table}
    outputs = [name for name, is_wanted in asked.items() if is_wanted]
    job = batch(images, plan(steps, outputs, objects=config, device=device), output)
    found = job.run(hidden=quiet)
    click.echo(found.summary)
    for path in found.tables:
        click.echo(f"Wrote {path}.")
    if found.failed:
        raise RuntimeError("some files failed; the same command tries them again.")
    if found.waiting:
        sys.exit(code_of_stop())


@commands.command()
@click.argument("images")
@click.argument("labels", required=False)
@output_option("Folder for the runs and the report; runs that are already done are not repeated.")
@click.option("--validation-images", help="Images for scoring, instead of the last ones.")
@click.option("--validation-labels", help="Clean labels of the validation images.")
@config_options(SweepConfig)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def sweep(
    images: Any,
    labels: Any,
    output: Any,
    validation_images: Any,
    validation_labels: Any,
    config: Any,
    quiet: bool,
) -> None:
    """Train on LABELS with more and more noise, to see how good they must be.

    The folder gets a line per run as it is done (runs.jsonl), a table (sweep.csv), curves and a
    page that opens offline (sweep.html). The same command resumes an interrupted sweep.

    \b
    napari-metastructure sweep cells -o cells_sweep --sample 0.5,0.1 --flip 0.4 --seeds 2
    napari-metastructure sweep cells -o cells_sweep --settings sweep.yaml
    """
    from napari_metastructure.runs.operations import sweep

    images, labels = pair_of(images, labels, partial(click.echo, err=True))
    inputs = {"images": images, "labels": labels}
    inputs |= {"validation_images": validation_images, "validation_labels": validation_labels}
    found = sweep(inputs, output, config, quiet)
    click.echo(found.summary)
    click.echo(f"Wrote {output}{', which is partial' if found.stopped else ''}.")
    if found.stopped:
        sys.exit(code_of_stop())


@commands.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
def info(paths: Any) -> None:
    """Show what is in images, folders, models, records or results.

    \b
    napari-metastructure info cells.ome.zarr cells.safetensors noisy.ome.tif.record.json
    """
    from napari_metastructure.cli.describe import describe

    failed = False
    for path in paths:
        click.echo(path)
        try:
            for line in describe(path):
                click.echo(f"  {line}")
        except _EXPECTED as error:  # the others are shown
            click.echo(f"Error: {sentence(error)}", err=True)
            failed = True
    if failed:
        sys.exit(1)


@commands.command()
@click.argument("record", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--keep", type=click.Path(file_okay=False), help="Folder for the results of the repeated run."
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
def replay(record: Any, keep: Any, quiet: bool) -> None:
    """Repeat the run of a RECORD and say whether its result is the same.

    The exit code is 0 if it is the same, bit for bit or within rounding, otherwise 1.

    \b
    napari-metastructure replay noisy.ome.tif.record.json
    """
    from napari_metastructure.runs.replay import replay

    found = replay(record, keep=keep, quiet=quiet)
    for line in found.lines:
        click.echo(line)
    if not found.same:
        raise RuntimeError("the result is not the same as that of the recorded run.")
    click.echo("The result is the same.")


@commands.command()
@click.argument("name", type=click.Choice(SAMPLES))
@output_option("A new folder for images/ and, if there are labels, masks/.")
def sample(name: str, output: str) -> None:
    """Write a sample as files, to try the other commands on.

    \b
    napari-metastructure sample nuclei -o nuclei
    napari-metastructure segment nuclei/images -o masks.ome.tif
    """
    from napari_metastructure.files.outputs import check_new
    from napari_metastructure.files.write import write
    from napari_metastructure.plugin import samples

    folder = check_new(output)
    layers = getattr(samples, name)()  # before the folder, as a download may fail
    folder.mkdir()
    for data, attributes, kind in layers:
        names = {"field": "i", "z": "z", "y": "y", "x": "x"}
        axes = "".join(names[label] for label in attributes["axis_labels"])
        shape = {"axes": axes, "scale": attributes.get("scale"), "units": attributes.get("units")}
        if attributes.get("rgb"):
            shape["axes"] += "c"
        place = "masks" if kind == "labels" else "images"
        if kind == "labels" and attributes.get("visible") is False:
            place = "clean"
        single = data.ndim == 2 + bool(attributes.get("rgb")) or "z" in axes
        if single:
            (folder / place).mkdir()
        write(folder / place / f"{name}.ome.tif" if single else folder / place, data, **shape)
    click.echo(f"Wrote {', '.join(sorted(f'{path}' for path in folder.iterdir()))}.", err=True)


@commands.command()
@click.option("--output", default="demo", show_default=True, help="Folder for the results.")
@click.option(
    "--sample",
    type=click.Choice(["er", "mitochondria", "nuclei"]),
    default="er",
    show_default=True,
    help="Sample images to work on.",
)
@click.option("--epochs", default=40, show_default=True, help="Length of each training.")
def demo(output: Any, sample: Any, epochs: Any) -> None:
    """Corrupt labels, train on them and score the result, in a napari window.

    Leaves a screenshot of the window, the layers as OME-TIFF and a table of scores.

    \b
    napari-metastructure demo --sample nuclei
    """
    from napari_metastructure.plugin.demo import run

    run(output, sample, epochs)


def model_path(typed: str | Path) -> str | Path:
    """The path of a model to be saved; the name of another format is refused."""
    ending = Path(typed).suffix.lower()
    if ending in _OTHER_FORMATS:
        raise click.UsageError(f"{typed} should end in .safetensors, not in {ending}.")
    return typed


def main(arguments: Sequence[str] | None = None) -> None:
    """Console entry point; an expected failure is one sentence and exit code 1."""
    try:
        commands.main(args=arguments, standalone_mode=True)
    except _EXPECTED as error:
        click.echo(f"Error: {sentence(error)}", err=True)
        sys.exit(1)
