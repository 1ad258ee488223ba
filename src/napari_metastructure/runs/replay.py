"""Repeat a run from its record, and say whether the result is the same."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.files.fingerprint import fingerprint
from napari_metastructure.files.read import read
from napari_metastructure.files.records import read_record
from napari_metastructure.files.results import MODEL, result_digest
from napari_metastructure.runs.operations import config_of, perform
from napari_metastructure.runs.run import Run, repeatable

__all__ = ["Replayed", "replay"]

TOLERANCE = 1e-4
"""Largest difference of floats, probabilities or weights, that counts as the same."""


@dataclass(frozen=True)
class Replayed:
    """Whether a repeated run gave the same, and what differs, as sentences."""

    same: bool
    lines: list


def replay(path: str | Path, *, keep: Any = None, quiet: bool = False) -> Any:
    """Repeat the run of a record, in a temporary folder.

    Parameters
    ----------
    path : path
        A ``.record.json`` that a command wrote.
    keep : path, optional
        Folder to leave the new results in.
    quiet : bool
        No progress bar.

    Returns
    -------
    Replayed

    Raises
    ------
    ValueError, OSError
        If the file is no record, or inputs are missing or have changed.
    """
    record = _read(path)
    lines = []
    _check_inputs(record)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outputs = _outputs(record, folder)
        run = Run(
            record["operation"],
            {role: source["path"] for role, source in record["inputs"].items()},
            outputs,
            config_of(record),
            repeatable(record),
            quiet=quiet,
        )
        try:
            again = perform(run)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            reason = f"{type(error).__name__}: {error}"[:200]
            raise ValueError(
                f"{path} does not describe a run that can be repeated ({reason})."
            ) from error
        lines += _other_circumstances(record, again)
        if record.get("stopped"):
            lines.append("The recorded run was stopped early, so the whole run may differ.")
        same = True
        for role, output in record["outputs"].items():
            is_same, line = _compare(output, outputs[role])
            same = same and is_same
            lines.append(line)
    return Replayed(same, lines)


def _read(path):
    record = read_record(path)
    if not record["outputs"]:
        raise ValueError(f"{path} describes a run that wrote nothing to compare with.")
    return record


def _outputs(record, folder):
    """Paths of the new results by role; those of one name, as a batch has, in a folder each."""
    names = {role: Path(output["path"]).name for role, output in record["outputs"].items()}
    if len({name.lower() for name in names.values()}) == len(names):
        return {role: folder / name for role, name in names.items()}
    for role in names:
        (folder / role).mkdir(exist_ok=True)
    return {role: folder / role / name for role, name in names.items()}


def _check_inputs(record):
    for role, known in record["inputs"].items():
        found = fingerprint(known["path"])
        if found["sha256"] != known["sha256"]:
            raise ValueError(
                f"The {role} at {known['path']} have changed since the run; it cannot be repeated."
            )


def _other_circumstances(record, again):
    """Sentences on what was different: versions, and the device."""
    lines = []
    for name, version in again["versions"].items():
        before = record["versions"].get(name)
        if before not in (None, version):
            lines.append(f"{name} was {before} and is now {version}.")
    before, now = record.get("device", "cpu"), again.get("device", "cpu")
    if before != now:
        lines.append(f"The run was on {before} and is now on {now}.")
    return lines


def _compare(output, path):
    """Whether a new output is that of the record, and a sentence on it."""
    before, name = Path(output["path"]), Path(output["path"]).name
    if result_digest(path) == output["digest"]:
        return True, f"{name}: the same, bit for bit."
    if not before.exists() or result_digest(before) != output["digest"]:
        return False, f"{name}: not the same bit for bit, and the first result is missing or was "
        "changed."
    if path.suffix in (".json", ".csv"):
        return False, f"{name}: differs."
    old, new = (_numbers(one) for one in (before, path))
    if old.keys() != new.keys() or any(old[key].shape != new[key].shape for key in old):
        return False, f"{name}: differs in shape."
    if any(value.dtype.kind in "biu" for value in old.values()) and path.suffix != MODEL:
        changed = sum(int(np.count_nonzero(old[key] != new[key])) for key in old)
        share = changed / sum(value.size for value in old.values())
        return False, f"{name}: differs in {changed} pixels ({100 * share:.3f} %)."
    gap = max(float(np.abs(old[key].astype(float) - new[key]).max(initial=0)) for key in old)
    if gap <= TOLERANCE:
        return True, f"{name}: the same within {TOLERANCE:g} (largest difference {gap:.2g})."
    return False, f"{name}: differs by up to {gap:.2g}."


def _numbers(path):
    """The arrays of a result by name."""
    if path.suffix == MODEL:
        from safetensors.numpy import load_file

        return load_file(path)
    return {str(i): np.asarray(a) for i, a in enumerate(read(path).arrays)}
