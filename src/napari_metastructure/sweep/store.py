"""What a sweep keeps of its finished runs, in memory or in a folder, so that it can be resumed."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.files.errors import reading
from napari_metastructure.files.records import load_json, read_lines
from napari_metastructure.files.reservations import in_place_of
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.sweep.configs import SweepConfig
from napari_metastructure.sweep.one_run import SweepData
from napari_metastructure.sweep.plan import SweepRun
from napari_metastructure.sweep.report import SCORES

__all__ = ["Store"]

Row = dict[str, Any]


class Store:
    """Rows and predictions of the finished runs, in memory or as they come in a folder.

    A row is one line at the end of ``runs.jsonl``, so that a sweep that is killed loses
    the run under way at most.

    Parameters
    ----------
    folder : path or None
        Made if need be; None keeps everything in memory.
    config : SweepConfig
    fingerprint : str
        Of the data, see `SweepData.fingerprint`.

    Raises
    ------
    ValueError
        If the folder holds a sweep of other data or settings, or a damaged line, or another sweep
        is at work in it, in this process or in any other.
    """

    def __init__(self, folder: str | Path | None, config: SweepConfig, fingerprint: str) -> None:
        self.folder = None if folder is None else Path(folder)
        self._rows, self._predictions, self._lock = {}, {}, None
        if self.folder is None:
            return
        self._check_own()
        (self.folder / "predictions").mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        try:
            self._open(config, fingerprint)
        except BaseException:
            self.close()
            raise

    def _open(self, config, fingerprint):
        self._lines = self.folder / "runs.jsonl"
        self._check({"settings": _settings(config), "data": fingerprint})
        for row in read_lines(self._lines, _is_row):
            self._rows[SweepRun(row["kind"], row["amount"], row["seed"])] = row

    def close(self) -> None:
        """Leave the folder to others."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _check_own(self):
        """Refuse a folder in which there is something, but no sweep."""
        if not self.folder.exists() or (self.folder / "identity.json").exists():
            return
        found = sorted(item.name for item in self.folder.iterdir() if item.name[0] != ".")
        if found:
            raise ValueError(
                f"{self.folder} holds other files, such as {found[0]}, but no sweep; "
                "choose another folder."
            )

    def _check(self, identity):
        """Refuse a folder with the sweep of other data or settings."""
        path = self.folder / "identity.json"
        if not path.exists():
            with in_place_of(path) as draft:
                draft.write_text(json.dumps(identity, indent=1), encoding="utf-8")
        known = load_json(path, "the settings of a sweep")
        if not isinstance(known, dict) or not isinstance(known.get("settings"), dict):
            raise ValueError(
                f"{path} does not hold the settings of a sweep; choose another folder."
            )
        settings = identity["settings"]
        changed = sorted(
            name for name, value in known["settings"].items() if settings.get(name) != value
        )
        if changed:
            raise ValueError(
                f"{self.folder} holds a sweep with another {', '.join(changed)}; "
                "choose another folder, or the settings of that sweep."
            )
        if known.get("data") != identity["data"]:
            raise ValueError(
                f"{self.folder} holds a sweep of other images or labels; choose another folder."
            )

    def is_done(self, run: SweepRun) -> bool:
        """Whether a run has ended well."""
        return self._rows.get(run, {}).get("status") == "done"

    def count(self, runs: Iterable[SweepRun]) -> int:
        """How many of the runs have ended, well or not."""
        return sum(run in self._rows for run in runs)

    def row(self, run: SweepRun) -> Row | None:
        """The row of a run; None if there is none yet."""
        return self._rows.get(run)

    def add(self, run: SweepRun, row: Row, prediction: list[np.ndarray] | None) -> None:
        """Keep a finished run: the row comes last, so that it stands for the whole."""
        self._rows[run] = row
        if self.folder is None:
            self._predictions[run] = prediction
            return
        if prediction is not None:
            path = self._path(run)
            np.savez_compressed(path.with_suffix(".part.npz"), *prediction)
            path.with_suffix(".part.npz").replace(path)
        with open(self._lines, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def prediction(self, run: SweepRun) -> list[np.ndarray] | None:
        """The predicted labels, one array per scored image; None if there are none."""
        if self.folder is None:
            return self._predictions.get(run)
        if not self.is_done(run) or not self._path(run).exists():
            return None
        with reading(self._path(run)), np.load(self._path(run)) as file:
            return [file[name] for name in file.files]

    def pictures(self, data: SweepData, runs: list[SweepRun]) -> dict[str, np.ndarray]:
        """A scored plane with objects, and the prediction of each run of the first seed for it.

        Parameters
        ----------
        data : SweepData
        runs : list of SweepRun

        Returns
        -------
        dict of {str: ndarray, (y, x)}
            "image", "labels", and a label plane by the title of each run.
        """
        truths = data.scored_labels
        plane = max(range(len(truths)), key=lambda number: (truths[number] > 0).mean())
        truth = np.array(data.classes)[np.maximum(truths[plane], 0)]
        image = np.asarray(data.scored_images[plane])
        found = {"image": image.mean(0) if image.ndim > truth.ndim else image, "labels": truth}
        for run in runs:
            prediction = self.prediction(run) if run.seed == runs[0].seed else None
            if prediction is not None:
                found[run.title] = prediction[plane]
        return {name: np.asarray(p[len(p) // 2] if p.ndim == 3 else p) for name, p in found.items()}

    def _path(self, run):
        return self.folder / "predictions" / f"{run.name}.npz"


def _is_row(row):
    """Whether an object is the row of a run, of which all that is asked is there."""
    numbers = (*SCORES, "amount", "seconds")
    return (
        isinstance(row.get("kind"), str)
        and type(row.get("seed")) is int
        and row.get("status") in ("done", "failed")
        and all(name in row and _is_number(row[name]) for name in numbers)
        and isinstance(row.get("error", 0), (str, type(None)))
    )


def _is_number(value):
    return value is None or type(value) in (int, float)


def _locked(folder):
    """The folder's lock, held; the system frees it when the process ends, however it ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"Another sweep is running in {folder}; wait until it ends, or choose another folder."
        ) from None
    return lock


def _settings(config):
    """What two runs must share to stand in one table."""
    names = set(TrainingConfig.model_fields) - {"seed", "device"}
    return {name: value for name, value in config.model_dump(mode="json").items() if name in names}
