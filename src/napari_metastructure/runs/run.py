"""A run of one operation on files: what goes in, what comes out, and the record of it."""

import os
import platform
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure import __version__
from napari_metastructure.arrays.blocks import is_lazy
from napari_metastructure.files.fingerprint import fingerprint
from napari_metastructure.files.names import paths_of, stems
from napari_metastructure.files.outputs import Output, check_apart, image_path, with_ending
from napari_metastructure.files.pixels import Pixels, in_planes
from napari_metastructure.files.read import read, read_labels, read_matched, read_pair
from napari_metastructure.files.results import MODEL, recorded_colours, result_digest
from napari_metastructure.files.write import check_names, create_zarr, save
from napari_metastructure.jobs.job import Job

__all__ = ["Run", "carry_out", "repeatable", "warnings_as_lines"]

_VERSIONS = ("torch", "monai", "numpy", "scikit-image", "scipy")
_OF_ONE_RUN = ("scheduler", "checkpoint", "fresh")
_SCORES = ".json"
_TABLE = ".csv"
_LABELS = ("labels", "clean", "reference", "strokes", "validation_labels")
_MAYBE_COLOURED = ("labels", "clean", "reference", "validation_labels", "prediction")


@dataclass
class Run:
    """One run.

    Attributes
    ----------
    operation : str
        Name in `operations.OPERATIONS`.
    inputs : dict of {str: source}
        Files, folders, globs or lists of these, by role; None for those not given.
    outputs : dict of {str: path}
        Files to be made, by role; None for those not wanted.
    config : Parameters, optional
        The operation's parameter model.
    options : dict
        Its other settings, values that JSON can hold.
    overwrite : bool
        Replace outputs that exist.
    quiet : bool
        No progress bar.
    facts : dict
        What the operation adds to the record.
    stopped, partial : bool
        Ended early by the user; not all of the output was made.
    client : distributed.Client, optional
        While the run goes on, of the scheduler in its options.
    results : dict of {str: Output}
        While the run goes on, where its outputs are made.
    watcher : callable, optional
        What runs a `Job`, in place of a progress bar, and returns its last event.
    said : list of str
        The lines for the user.
    """

    operation: str
    inputs: dict
    outputs: dict
    config: Any = None
    options: dict = field(default_factory=dict)
    overwrite: bool = False
    quiet: bool = False
    facts: dict = field(default_factory=dict)
    stopped: bool = False
    partial: bool = False
    client: object = None
    results: dict = field(default_factory=dict)
    watcher: Callable[[Job], Any] | None = None
    said: list = field(default_factory=list)

    def __post_init__(self):
        self.inputs = {name: value for name, value in self.inputs.items() if value}
        self.outputs = {
            role: self._named(role, value) for role, value in self.outputs.items() if value
        }

    def _named(self, role: str, path) -> Path:
        """The path of an output, with the ending that is missing; others are refused."""
        if self.is_image(role):
            return image_path(path)
        if self.operation == "measure":
            return with_ending(path, _TABLE)
        return with_ending(path, MODEL if role == "model" else _SCORES)

    def is_image(self, role: str) -> bool:
        """Whether an output is pixels, not a model, scores or a table."""
        if self.operation == "measure":
            return role == "objects"
        return role != "model" and self.operation != "compare"

    @property
    def is_main(self) -> bool:
        """Whether this process writes and shows: of several that train together, the first."""
        return int(os.environ.get("RANK", 0)) == 0

    def say(self, text: str) -> None:
        """A line for the user."""
        self.said.append(text)
        if self.is_main and not self.quiet:
            print(text, file=sys.stderr)

    def watch(self, job: Job) -> Any:
        """Run a `Job` with a progress bar; returns its last event."""
        from napari_metastructure.jobs.progress import run_to_end

        if self.watcher is not None:
            return self.watcher(job)
        last = run_to_end(job, hidden=self.quiet or not self.is_main)
        self.stopped = self.stopped or last.stopped
        if last.stopped:
            self.say("Stopped: what was done so far is kept.")
        return last

    def read(self, role: str, reader: Any = None) -> Any:
        """The pixels of an input, by a `reader` if one is given; None if it was not given."""
        if role not in self.inputs:
            return None
        reader = reader or (read_labels if role in _LABELS else read)
        return self._noted(role, reader(self.inputs[role]))

    def _coloured(self, role, pixels):
        """Labels with the colours that they had before a run of ours made numbers of them."""
        if role not in _MAYBE_COLOURED or pixels.colours or pixels.arrays[0].dtype.kind == "f":
            return pixels
        return replace(pixels, colours=recorded_colours(self.inputs[role]))

    def _noted(self, role, pixels):
        """The pixels of an input, with a note if they are not finished."""
        pixels = self._coloured(role, pixels)
        if not pixels.complete:
            self.say(f"Note: {self.inputs[role]} is a partial result.")
        if self.client is None or isinstance(pixels.data, list):
            return pixels
        return replace(pixels, data=in_planes(pixels.data))

    def read_pair(self) -> tuple:
        """Images and labels, each from their input."""
        channel_axis = self.config.channel_axis
        sources = self.inputs["images"], self.inputs["labels"]
        images, labels = read_pair(*sources, channel_axis=channel_axis, say=self.say)
        labels = self._coloured("labels", labels)
        if isinstance(images.data, list):
            self.say(f"The images differ in shape: {len(images.data)} arrays, not one stack.")
        return images, labels

    def read_matched(
        self,
        images: str,
        labels: str,
        nouns: tuple[str, str],
        readers: tuple = (None, read_labels),
    ) -> tuple:
        """The pixels of two inputs in the order of their names; None for one that was not given."""
        if images not in self.inputs or labels not in self.inputs:
            return self.read(images, readers[0]), self.read(labels, readers[1])
        found = read_matched(self.inputs[images], self.inputs[labels], nouns, self.say, readers)
        return tuple(self._noted(role, pixels) for role, pixels in zip((images, labels), found))

    def streams(self, role: str) -> bool:
        """Whether an output is written block by block, while it is made."""
        return role in self.outputs and self.outputs[role].suffix == ".zarr"

    def check_form(self, like: Pixels) -> None:
        """Refuse outputs that cannot take what the images give, before the work.

        Raises
        ------
        ValueError
            If arrays of several shapes are to go to one file, or two results to one name.
        """
        for role, path in self.outputs.items():
            if not self.is_image(role):
                continue
            if isinstance(like.data, list) and path.suffix:
                raise ValueError(
                    f"The images differ in shape, so that they do not fit in one file: give "
                    f"{path.name} no ending, to be a folder."
                )
            if not path.suffix:
                check_names(like.names)

    def create(self, role: str, shape: Sequence[int], dtype: Any, like: Any) -> Any:
        """A new OME-Zarr image for an output."""
        return create_zarr(self.results[role].draft, shape, dtype, like=like)

    def write(self, role: str, data: Any, like: Any = None) -> None:
        """Write an output, if it is wanted; lazy data to OME-Zarr block by block."""
        if role not in self.results:
            return
        if is_lazy(data) and self.streams(role):
            from napari_metastructure.jobs.cluster import store

            dtype = np.uint8 if data.dtype == bool else data.dtype
            out = self.create(role, data.shape, dtype, like)
            out.record = self.brief()
            last = self.watch(store(data, out, self.client, activity="writing"))
            if self.partial:  # what it was made of
                out.complete = False
                out.note(out.record)
            self.partial = self.partial or last.stopped
            return
        how = {"like": like, "record": self.brief(), "complete": not self.partial}
        self.save(role, lambda path: save(path, data, **how))

    def save(self, role: str, saving: Callable[[Path], Any]) -> None:
        """Write an output whole; where that fails, such as on a full disk, in a temporary folder.

        Raises
        ------
        OSError
            With a sentence that says where the result is instead.
        """
        draft = self.results[role].draft
        try:
            saving(draft)
        except OSError as error:
            _save_elsewhere(draft.name, saving, error)

    def brief(self) -> dict:
        """The record without what is known only at the end, for the inside of a file."""
        config = self.config.model_dump(mode="json") if self.config is not None else {}
        return {"operation": self.operation, "config": config, **self.facts}


def carry_out(run: Run, work: Callable) -> Any:
    """Do a run and write its record beside each output.

    Parameters
    ----------
    run : Run
    work : callable
        The operation: takes the run and fills its outputs.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    ValueError, TypeError, OSError, RuntimeError
        With one sentence for the user.
    """
    inputs = {}
    with warnings_as_lines(run), _results(run):
        if run.is_main:
            inputs = {role: fingerprint(source) for role, source in run.inputs.items()}
        started, clock = datetime.now(), time.perf_counter()
        with _connected(run):
            work(run)
        record = {
            **run.brief(),
            "options": run.options,
            "inputs": inputs,
            "outputs": {},
            "stopped": run.stopped,
            "partial": run.partial,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 2),
            "versions": _versions(),
        }
        record.setdefault("device", "cpu")
        _give_names(run, record)
    return record


def repeatable(record: dict) -> dict:
    """The options of a recorded run, without those that are of no other run."""
    return {name: v for name, v in record["options"].items() if name not in _OF_ONE_RUN}


def _give_names(run, record):
    """Rename each result, with the record that tells of all of them."""
    digests = {role: result_digest(result.draft) for role, result in run.results.items()}
    for role, result in run.results.items():
        path = result.settle(run.partial)
        record["outputs"][role] = {"path": os.path.abspath(path), "digest": digests[role]}
    for role, result in run.results.items():
        try:
            result.commit(record)
        except OSError as error:  # of the record, say
            if not result.draft.is_file():
                raise
            _save_elsewhere(result.path.name, partial(shutil.copyfile, result.draft), error)
        if result.path != run.outputs[role]:
            run.say(f"Note: {run.outputs[role]} stays as it is.")
        run.outputs[role] = result.path


def _save_elsewhere(name, saving, error):
    """Save what the disk did not take in a temporary folder, and raise the error that says so."""
    folder = Path(tempfile.mkdtemp(prefix="napari-metastructure-"))
    try:
        saving(folder / name)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise error from None
    raise OSError(f"{error} Until then the result is in {folder / name}.") from None


@contextmanager
def _results(run):
    """The places of all outputs, checked before the work, and given free after it."""
    if not run.is_main:
        yield
        return
    _check_plan(run)
    try:
        for role, path in run.outputs.items():
            run.results[role] = Output(path, overwrite=run.overwrite, of_a_run=True)
        yield
    except Exception as error:
        text = str(error)
        for result in run.results.values():
            if result.keep_started():
                run.say(f"The result so far is kept in {result.path}, marked as partial.")
                text = text.replace(str(result.draft), str(result.path))
        if text == str(error):
            raise
        raise RuntimeError(text) from error
    finally:
        for result in run.results.values():
            result.discard()


def _check_plan(run):
    """Outputs are apart from all that is read, and from each other."""
    places = {}
    for role, path in run.outputs.items():
        for source in run.inputs.values():
            check_apart(path, source, is_image=run.is_image(role))
        place = path.parent.resolve() / path.name
        for other, known in places.items():
            if place == other or place in other.parents or other in place.parents:
                raise ValueError(f"{path} and {known} are both results; give each its own name.")
        places[place] = path
        if run.is_image(role) and not path.suffix and "images" in run.inputs:
            check_names(stems(paths_of(run.inputs["images"])))
        if path.suffix == ".zarr":
            from napari_metastructure.files.ome_zarr import require_zarr

            require_zarr()


def _versions():
    from importlib.metadata import PackageNotFoundError, version

    found = {"napari-metastructure": __version__, "python": platform.python_version()}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, "platform": f"{sys.platform} {platform.machine()}"}


@contextmanager
def _connected(run):
    """The client of the run's scheduler, if it has one."""
    if not run.options.get("scheduler"):
        yield
        return
    from napari_metastructure.jobs.cluster import connect

    other = [path for role, path in run.outputs.items() if not run.streams(role)]
    if other:
        raise ValueError(f"With a scheduler, {other[0].name} should end in .ome.zarr.")
    with connect(run.options["scheduler"]) as run.client:
        try:
            yield
        finally:
            run.client = None


@contextmanager
def warnings_as_lines(run: Run) -> Iterator[None]:
    """Our own warnings, such as those about missing chunks, as a line each, as they come."""
    said = set()

    def show(message, category, *_, **__):
        text = str(message)
        if category is UserWarning and text not in said:
            said.add(text)
            run.say(f"Note: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show
        yield
