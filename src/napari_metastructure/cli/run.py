"""A run of one operation on files: what goes in, what comes out, and the record of it."""

import json
import os
import platform
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import click
import numpy as np

from napari_metastructure import __version__
from napari_metastructure.arrays.blocks import is_lazy
from napari_metastructure.files.fingerprint import digest, fingerprint
from napari_metastructure.files.names import paths_of
from napari_metastructure.files.pixels import in_planes
from napari_metastructure.files.read import read, read_labels, read_pair
from napari_metastructure.files.write import check_new, create_zarr, write

__all__ = ["MODEL", "Run", "carry_out", "record_path", "result_digest"]

_VERSIONS = ("torch", "monai", "numpy", "scikit-image", "scipy")
MODEL = ".safetensors"
_LABELS = ("labels", "clean", "reference", "validation_labels")


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
    """

    operation: str
    inputs: dict
    outputs: dict
    config: object = None
    options: dict = field(default_factory=dict)
    overwrite: bool = False
    quiet: bool = False
    facts: dict = field(default_factory=dict)
    stopped: bool = False
    partial: bool = False
    client: object = None

    def __post_init__(self):
        self.inputs = {name: value for name, value in self.inputs.items() if value}
        self.outputs = {name: Path(value) for name, value in self.outputs.items() if value}

    @property
    def is_main(self):
        """Whether this process writes and shows: of several that train together, the first."""
        return int(os.environ.get("RANK", 0)) == 0

    def say(self, text):
        """A line for the user."""
        if self.is_main and not self.quiet:
            click.echo(text, err=True)

    def watch(self, job):
        """Run a `Job` with a progress bar; returns its last event."""
        from napari_metastructure.jobs.progress import run_to_end

        last = run_to_end(job, hidden=self.quiet or not self.is_main)
        self.stopped = self.stopped or last.stopped
        if last.stopped:
            self.say("Stopped: what was done so far is kept.")
        return last

    def read(self, role, **how):
        """The pixels of an input; None if it was not given."""
        if role not in self.inputs:
            return None
        pixels = (read_labels if role in _LABELS else read)(self.inputs[role], **how)
        if not pixels.complete:
            self.say(f"Note: {self.inputs[role]} is a partial result.")
        if self.client is None or isinstance(pixels.data, list):
            return pixels
        return replace(pixels, data=in_planes(pixels.data))

    def read_pair(self):
        """Images and labels, each from their input."""
        channel_axis = self.config.channel_axis
        sources = self.inputs["images"], self.inputs["labels"]
        images, labels = read_pair(*sources, channel_axis=channel_axis)
        if isinstance(images.data, list):
            self.say(f"The images differ in shape: {len(images.data)} arrays, not one stack.")
        return images, labels

    def streams(self, role):
        """Whether an output is written block by block, while it is made."""
        return role in self.outputs and self.outputs[role].suffix == ".zarr"

    def create(self, role, shape, dtype, like):
        """A new OME-Zarr image for an output."""
        path = self.outputs[role].resolve()
        return create_zarr(path, shape, dtype, like=like, overwrite=self.overwrite)

    def write(self, role, data, like=None):
        """Write an output, if it is wanted; lazy data to OME-Zarr block by block."""
        if role not in self.outputs or not self.is_main:
            return
        if is_lazy(data) and self.streams(role):
            from napari_metastructure.jobs.cluster import store

            dtype = np.uint8 if data.dtype == bool else data.dtype
            out = self.create(role, data.shape, dtype, like)
            out.record = self.brief()
            last = self.watch(store(data, out, self.client, activity="writing"))
            self.partial = self.partial or last.stopped
            return
        record, overwrite = self.brief(), self.overwrite
        write(self.outputs[role], data, like=like, record=record, overwrite=overwrite)

    def brief(self):
        """The record without what is known only at the end, for the inside of a file."""
        config = self.config.model_dump(mode="json") if self.config is not None else {}
        return {"operation": self.operation, "config": config, **self.facts}


def carry_out(run, work):
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
    _check_outputs(run)
    inputs = {}
    if run.is_main:
        inputs = {role: fingerprint(source) for role, source in run.inputs.items()}
    started, clock = datetime.now(), time.perf_counter()
    with _warnings_as_lines(run), _connected(run):
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
    if run.is_main:
        record["outputs"] = {
            role: {"path": str(path.resolve()), "digest": result_digest(path)}
            for role, path in run.outputs.items()
        }
        for path in run.outputs.values():
            _write_record(path, record)
    return record


def record_path(output):
    """Where the record of an output lies."""
    output = Path(output)
    return output.with_name(f"{output.name}.record.json")


def result_digest(path):
    """SHA-256 of what a result holds, whatever else is in the file: pixels, weights or scores."""
    path = Path(path)
    if path.suffix == MODEL:
        import hashlib

        from safetensors.numpy import load_file

        total = hashlib.sha256()
        for name, weights in sorted(load_file(path).items()):
            total.update(f"{name} {weights.shape} {weights.dtype}".encode())
            total.update(weights.tobytes())
        return total.hexdigest()
    if path.suffix == ".json":
        return fingerprint(path)["sha256"]
    return digest(read(path, missing="fill"))


def _check_outputs(run):
    """Outputs are new, and none is an input."""
    sources = set()
    for source in run.inputs.values():
        sources.update(path.resolve() for path in paths_of(source))
    for path in run.outputs.values():
        if path.resolve() in sources:
            raise ValueError(f"{path} is what the run reads; give the result another name.")
        if run.is_main:
            check_new(path, overwrite=run.overwrite)


def _write_record(output, record):
    with open(record_path(output), "w", encoding="utf-8") as file:
        json.dump(record, file, indent=1, default=str)


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
def _warnings_as_lines(run):
    """Our own warnings, such as those about missing chunks, as a line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", UserWarning)
        yield
    for text in dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning):
        run.say(f"Note: {text}")
