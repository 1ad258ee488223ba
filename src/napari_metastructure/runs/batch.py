"""The same on many files: a model, or recorded steps, file by file, with one table for all."""

import json
import os
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.files.channels import masks_beside
from napari_metastructure.files.errors import sentence, writing
from napari_metastructure.files.fingerprint import fingerprint
from napari_metastructure.files.names import has_record, images_below, is_zarr, paths_of, stem
from napari_metastructure.files.pairs import folder_layout
from napari_metastructure.files.read import image_files
from napari_metastructure.files.records import load_json, read_lines, read_record, record_path
from napari_metastructure.files.reservations import in_place_of
from napari_metastructure.jobs.events import (
    BETWEEN_STEPS,
    FileDone,
    FileProgress,
    Note,
    Progress,
    Result,
)
from napari_metastructure.jobs.events import Step as TrainingStep
from napari_metastructure.jobs.generators import told_by
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels.objects import ObjectsConfig
from napari_metastructure.runs.operations import perform
from napari_metastructure.runs.run import Run
from napari_metastructure.runs.steps import OUTPUTS, SOURCE, Step, plan
from napari_metastructure.words import counted

__all__ = ["OUTPUTS", "Batch", "Files", "batch", "check_folder", "plan", "source_role"]

_PLAN, _LINES = "batch.json", "files.jsonl"
_FAILURES = (ValueError, TypeError, OSError, RuntimeError, ImportError, MemoryError)
_DOING = {
    "corrupt": "corrupting",
    "density": "densities",
    "measure": "measuring",
    "predict": "predicting",
    "segment": "segmenting",
}  # what is told until a job tells more
_TABLES = {"tables": "objects.csv", "summaries": "summary.csv"}


@dataclass(frozen=True)
class Batch:
    """The end of a batch.

    Attributes
    ----------
    folder : Path
        Of the results.
    rows : list of dict
        Of each file that was dealt with, as in `jobs.events.FileDone`.
    waiting : list of str
        Files that were not, as the batch was stopped.
    tables : list of Path
        With a row for each object, and for each plane or volume, of all files.
    """

    folder: Path
    rows: list
    waiting: list
    tables: list

    @property
    def failed(self) -> list:
        """The rows of files that could not be done."""
        return [row for row in self.rows if row["error"]]

    @property
    def summary(self) -> str:
        """What was done, with a line for each file that failed."""
        total = len(self.rows) + len(self.waiting)
        done = len(self.rows) - len(self.failed)
        lines = [f"{done} of {total} files done, {len(self.failed)} failed."]
        if self.waiting:
            lines.append("Stopped; run the same again to continue.")
        return "\n".join(lines + [f"{row['file']}: {row['error']}" for row in self.failed])


def batch(
    images: Any,
    steps: Any,
    folder: str | os.PathLike,
    outputs: Collection[str] = ("table",),
    *,
    objects: Any = None,
    device: str | None = None,
) -> Job:
    """Apply a model, or repeat recorded steps, on each image of a folder.

    The same call again continues: files that are done already are left as they are.

    Parameters
    ----------
    images : path, str or sequence of these
        A folder, with the folders in it, whose names become groups; or files, or a glob. Masks
        beside images are left out, and files that are channels of one image are one image.
    steps : path, sequence of paths or sequence of Step
        Models (.safetensors, or packages of bioimage.io) or records (.record.json), one after the
        other; or what `plan` made of these.
    folder : path
        For the results, in a folder for each kind of output: ``labels/GROUP/NAME.ome.tif``. Also
        gets ``objects.csv`` and ``summary.csv``, the tables of all files with their names and
        groups, and ``files.jsonl``, a line for each file.
    outputs : collection of {"probabilities", "objects", "table"}
        What to make besides labels; by default what the records say. This and the next two are
        used if `steps` are paths, since `Step` objects hold them already.
    objects : ObjectsConfig or dict, optional
        How labels are split into objects, where no record tells it.
    device : str, optional
        Device, in place of that of the records.

    Returns
    -------
    Job
        Yields `FileProgress` while a file is under way, and a `FileDone` for each file. A file
        that cannot be read or processed is listed with the reason, and the others are processed.
        Ends with a `Result` that holds a `Batch`. After `stop` the current file is discarded; the
        same call continues with it.

    Raises
    ------
    ValueError, FileNotFoundError
        If there is no image, a model or record cannot be repeated, or the folder holds something
        else. At once, before the job.

    Examples
    --------
    >>> found = batch("plates", "cells.safetensors", "results").run()  # doctest: +SKIP
    >>> print(found.summary)  # doctest: +SKIP
    4 of 4 files done, 0 failed.
    """
    folder = Path(folder).expanduser()
    steps = [steps] if isinstance(steps, (str, os.PathLike)) else list(steps)
    if not all(isinstance(step, Step) for step in steps) or not steps:
        config = None if objects is None else ObjectsConfig.of(objects)
        steps = plan(steps, outputs, objects=config, device=device)
    files = Files(images, folder, source_role(steps))
    check_folder(folder, steps)
    return Job(lambda job: _work(job, files, steps, folder, _identity(steps)))


class Files:
    """The files of a batch: their names from the top, their groups, and the names of results.

    Parameters
    ----------
    images : path, str or sequence of these
        As in `batch`.
    leave_out : path, optional
        Of the results.
    role : {"images", "labels"}
        What the steps take. Where a folder holds both, as `files.pairs` knows them, the others are
        left out.

    Attributes
    ----------
    paths : list of Path
        Of an image with a file for each channel, the path that `read` takes for all of them.
    names : list of str
    notes : list of str
        What the user should know, in sentences.

    Raises
    ------
    ValueError, FileNotFoundError
        If there is no image.
    """

    def __init__(
        self, images: Any, leave_out: str | os.PathLike | None = None, role: str = "images"
    ) -> None:
        self.notes: list[str] = []
        with _noting(self.notes):
            if isinstance(images, (str, os.PathLike)) and _is_plain_folder(images):
                self.top = Path(images).expanduser()
                results = None if leave_out is None else Path(leave_out).expanduser().resolve()
                if self.top.resolve() == results:
                    raise ValueError("Images and results need a folder each.")
                found = images_below(self.top, leave_out)
                found = self._wanted(self._unmade(found) if role == "images" else found, role)
            else:
                found = paths_of(images)
                self.top = Path(os.path.commonpath([path.parent for path in found]))
            self.paths = self._whole(found) if role == "images" else found
        self.names = [path.relative_to(self.top).as_posix() for path in self.paths]
        self._stems = _names_of_results(self.paths)

    def _unmade(self, paths: list[Path]) -> list[Path]:
        """The images without results of this program, such as those of an earlier batch."""

        def is_result(path):
            inner = (self.top / place for place in path.relative_to(self.top).parents[:-1])
            return any(map(has_record, (path, *inner)))

        results = [path for path in paths if is_result(path)]
        if not results or len(results) == len(paths):
            return paths
        self._tell_left_out("result", "of this program ", results)
        return [path for path in paths if path not in results]

    def _tell_left_out(self, noun, of, paths, why=""):
        count = f"1 {noun} {of}is" if len(paths) == 1 else f"{len(paths)} {noun}s {of}are"
        example = paths[0].relative_to(self.top).as_posix()
        such = "such as " if paths[1:] else ""
        self.notes.append(f"{count} left out ({such}{example}){why}.")

    def _wanted(self, paths: list[Path], role: str) -> list[Path]:
        """The images without the masks beside them, or the masks without the images."""
        images, masks = set(), set()
        folders = {folder for path in paths for folder in path.relative_to(self.top).parents}
        for layout in filter(None, (folder_layout(self.top / folder) for folder in folders)):
            for known, source in zip((images, masks), layout):
                known.update(_files_in(source))
        for folder in {path.parent for path in paths}:  # imagesTs of nnU-Net, say
            masks.update(masks_beside([path for path in paths if path.parent == folder]))
        others, noun = (masks, "mask") if role == "images" else (images, "image")
        left = [path for path in paths if path in others]
        if not left or len(left) == len(paths):
            return paths
        self._tell_left_out(noun, "", left, f"; the steps take {role}")
        return [path for path in paths if path not in others]

    def _whole(self, paths: list[Path]) -> list[Path]:
        """The images, of which some may have a file for each channel."""
        found: list[Path] = []
        several: list[list[Path]] = []
        for folder in dict.fromkeys(path.parent for path in paths):
            cases = image_files([path for path in paths if path.parent == folder])
            found += cases
            several += [files for files in cases.values() if files[1:]]
        if several:
            first = [path.relative_to(self.top).as_posix() for path in several[0]]
            images = f"{counted(len(several), 'image')} of {len(first)} channels"
            text = f"{images} ({first[0]} to {several[0][-1].name})."
            self.notes.append(text)
        return found

    def group(self, number: int) -> str:
        """The folders between the top and a file."""
        return Path(self.names[number]).parent.as_posix().removeprefix(".")

    def result(self, number: int, ending: str) -> Path:
        """The name of a file's result, from the folder of these results."""
        if ending == ".ome.tif" and is_zarr(self.paths[number]):
            ending = ".ome.zarr"
        return Path(self.group(number), f"{self._stems[number]}{ending}")


def _names_of_results(paths):
    """Names without endings; those that would be the same in a folder keep theirs: a_tif, a_png."""
    names = [stem(path) for path in paths]
    for _ in range(2):  # a_tif may be the name of a file, too
        counts = Counter((path.parent, name.lower()) for path, name in zip(paths, names))
        names = [
            name if counts[path.parent, name.lower()] == 1 else path.name.replace(".", "_")
            for path, name in zip(paths, names)
        ]
    return names


def source_role(steps: Sequence[Step]) -> str:
    """What steps take of a file: "images", or "labels" where none takes images."""
    taken = {role for step in steps for role, source in step.inputs.items() if source == SOURCE}
    return "labels" if taken == {"labels"} else "images"


def _files_in(source):
    """The files of one part of a folder that holds images and masks."""
    if isinstance(source, list):
        return source
    try:
        return images_below(source)
    except ValueError:  # an empty folder
        return []


def _is_plain_folder(path):
    path = Path(path).expanduser()
    return path.is_dir() and not is_zarr(path)


@contextmanager
def _noting(notes):
    """Our own warnings as sentences in a list."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    notes += [str(one.message) for one in caught]


def _identity(steps):
    """What tells a batch from another in the same folder."""
    return {"steps": [step.identity() for step in steps]}


def check_folder(folder: Path, steps: Sequence[Step] | None = None) -> None:
    """Refuse a folder for results in which there is something else, or a batch of other steps.

    Parameters
    ----------
    folder : path
    steps : sequence of Step, optional
        Of the batch, if they are known yet.

    Raises
    ------
    ValueError
        What there is, in one sentence.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give the results another name.")
    if (folder / _PLAN).exists():
        known = load_json(folder / _PLAN, "the steps of a batch")
        if steps and known != json.loads(json.dumps(_identity(steps), default=str)):
            raise ValueError(f"{folder} holds a batch of other steps; choose another folder.")
        return
    found = sorted(item.name for item in folder.iterdir() if item.name[0] != ".")
    if found:
        raise ValueError(
            f"{folder} holds other files, such as {found[0]}, but no batch; choose another folder."
        )


def _work(job, files, steps, folder, identity) -> Iterator[Any]:
    for text in files.notes:
        yield Note(text)
    total = len(files.paths)
    yield Progress("files", 0, total)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _PLAN).write_text(json.dumps(identity, indent=1, default=str), encoding="utf-8")
    known = {row["file"]: row for row in read_lines(folder / _LINES, _is_row)}
    rows: list[dict] = []
    for number, name in enumerate(files.names):
        if job.stopping:
            break
        row = partial(_row, job, files, number, steps, folder, known.get(name))
        try:
            row = yield from told_by(row)
        except _Stopped:
            break
        if row is not known.get(name):
            with writing(folder / _LINES), open(folder / _LINES, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(row) + "\n")
        rows.append(row)
        yield FileDone(row, len(rows), total)
    tables = _tables(folder, rows)
    found = Batch(folder, rows, files.names[len(rows) :], tables)
    yield Result(found, stopped=bool(found.waiting))


class _Stopped(BaseException):
    """Ends the file under way; no `Exception`, so that nothing of it is kept."""


def _row(job, files, number, steps, folder, known, tell):
    """What became of a file; that of before if all is there still."""
    clock = time.perf_counter()
    row = {"file": files.names[number], "group": files.group(number), "sha256": None}
    row |= {"error": None, "notes": [], "outputs": {}}
    try:
        row["sha256"] = fingerprint(files.paths[number])["sha256"]
        if known and _is_done(known, row["sha256"], folder):
            return known
        _take_steps(job, files, number, steps, folder, row, tell)
    except Exception as error:  # whatever it is, the other files are done
        known_kind = isinstance(error, _FAILURES) and str(error)
        row["error"] = sentence(error) if known_kind else f"{type(error).__name__}: {error}"
    return row | {"seconds": round(time.perf_counter() - clock, 2)}


def _is_row(row):
    """Whether an object is the row of a file, of which all that is asked is there."""
    names = isinstance(row.get("file"), str) and isinstance(row.get("outputs"), dict)
    return names and {"sha256", "error"} <= row.keys()


def _is_done(row, sha256, folder):
    there = all((folder / path).exists() for path in row["outputs"].values())
    return there and row["error"] is None and row["sha256"] == sha256


def _take_steps(job, files, number, steps, folder, row, tell):
    told = _Told(job, tell, (number, len(files.paths)), len(steps), row["notes"])
    made: dict[Any, Path] = {}

    def place(source):
        if source == SOURCE:
            return files.paths[number]
        return made[source] if isinstance(source, tuple) else source

    for index, step in enumerate(steps):
        outputs = {}
        for role, kind in step.outputs.items():
            name = Path(kind) / files.result(number, step.ending(role))
            made[index, role] = outputs[role] = folder / name
            outputs[role].parent.mkdir(parents=True, exist_ok=True)
        run = Run(
            step.operation,
            {role: place(source) for role, source in step.inputs.items()},
            outputs,
            _own_seed(step.config, files.names[number]) if step.redraws else step.config,
            dict(step.options),
            overwrite=True,
            quiet=True,
            watcher=told.watch,
        )
        told.begin(index, _DOING[step.operation])
        try:
            record = perform(run)
        finally:
            row["notes"] += run.said
        row["outputs"] |= {
            step.outputs[role]: path.relative_to(folder).as_posix()
            for role, path in outputs.items()
        }
        if "objects" in record:
            row["objects"] = record["objects"]


class _Told:
    """What is told of a file while its steps are taken.

    Parameters
    ----------
    job : Job
        The batch.
    tell : callable
        Takes an event.
    at : tuple of int
        Files that are done, and all files.
    steps : int
        That are taken.
    notes : list of str
        Of the file.
    """

    def __init__(self, job: Any, tell: Callable, at: tuple, steps: int, notes: list) -> None:
        self.job, self.tell, self.at, self.notes = job, tell, at, notes
        self.step, self.steps = 0, steps

    def begin(self, step: int, activity: str) -> None:
        """Tell that a step begins."""
        self.step = step
        self.progress(activity, 0, 1)

    def progress(self, activity: str, part: int, parts: int) -> None:
        """Tell how far an activity is; ends the file if the batch is stopped."""
        share = (self.step + part / max(parts, 1)) / self.steps
        self.tell(FileProgress(activity, part, parts, share, *self.at))
        if self.job.stopping:
            raise _Stopped

    def watch(self, inner: Job) -> Any:
        """Run a step's job to its end; returns its last event."""
        with closing(inner):
            for event in inner:
                if isinstance(event, TrainingStep):
                    self.progress("training", event.step, event.total)
                elif isinstance(event, Progress) and event.activity not in BETWEEN_STEPS:
                    self.progress(event.activity, event.done, event.total)
                elif isinstance(event, Note):
                    self.notes.append(event.text)
                elif self.job.stopping:
                    raise _Stopped
        return event


def _own_seed(config, name):
    """Random numbers of its own for each file, the same whatever other files there are."""
    if config.seed is None:
        return config
    seed = (*np.atleast_1d(config.seed).tolist(), zlib.crc32(name.encode()))
    return type(config).of(config, seed=seed)


def _tables(folder, rows):
    """One table of all files for each kind of table."""
    import pandas as pd

    found = []
    for kind, name in _TABLES.items():
        parts = [row for row in rows if row["error"] is None and kind in row["outputs"]]
        if not parts:
            continue
        table = pd.concat([_named(folder, row, kind) for row in parts], ignore_index=True)
        with in_place_of(folder / name) as draft:
            table.to_csv(draft, index=False)
        found.append(folder / name)
    return found


def _named(folder, row, kind):
    """The table of a file with its name, its group and the unit of its lengths."""
    import pandas as pd

    path = folder / row["outputs"][kind]
    table = pd.read_csv(path)
    units = dict.fromkeys(read_record(record_path(path)).get("units", ()))
    for name, value in (("unit", ", ".join(units)), ("file", row["file"]), ("group", row["group"])):
        table.insert(0, name, value)
    return table
