"""A training's state, kept in a checkpoint and taken up again: on a CPU bit for bit."""

import time
from collections.abc import Callable, Generator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from napari_metastructure.files.fingerprint import digest
from napari_metastructure.jobs.checkpoint import (
    read_checkpoint,
    remove_remnants,
    write_checkpoint,
)
from napari_metastructure.jobs.events import Note, Progress
from napari_metastructure.jobs.generators import in_background

__all__ = ["Resume", "digests", "resuming"]

_SECONDS_BETWEEN = 20
_FREE = {"device", "compile", "seed", "time_limit"}  # settings that may change on the way
_NOT_NEEDED = {"model"}  # data that need not be given again: the checkpoint has what came of it


def digests(data: Mapping[str, Any]) -> dict[str, str]:
    """What tells the data of one training from those of another, by what they are called.

    Parameters
    ----------
    data : dict of {str: array or sequence of arrays}
        None is left out.
    """
    return {name: digest(value) for name, value in data.items() if value is not None}


def resuming(
    job: Any,
    path: str | Path | None,
    operation: str,
    config: Any,
    data: Callable[[], Mapping[str, Any]],
    fresh: bool,
) -> Generator[Any, Any, "Resume | None"]:
    """The `Resume` of a training that is kept in a file; a generator of `Progress`.

    Parameters
    ----------
    job : Job
    path, operation, config, fresh
        As of `Resume`. Without a path there is none, nor if the job is stopped meanwhile.
    data : callable
        Gives the data of `Resume`.
    """
    if path is None:
        return None
    event = Progress("looking for a checkpoint", 0, 1)
    found = yield from in_background(job, event, data)
    return None if found is None else Resume(path, operation, config, found, fresh)


class Resume:
    """Keeps a training in a file every so many seconds, and brings it back.

    The training has a ``trainer``, a ``seed``, a list ``notes``, and methods ``state()``, which
    returns all else that has to be kept (a dict of tensors and a dict of values that JSON holds),
    and ``take_up(tensors, values)``.

    Parameters
    ----------
    path : path
    operation : str
        "train" or "segment".
    config : TrainingConfig or SegmentConfig
    data : dict
        What tells the data, see `digests`; any values that JSON holds.
    fresh : bool
        Leave what the file holds, if that is a checkpoint; it is replaced.

    Attributes
    ----------
    state : dict or None
        What the file holds, if it fits, until it is taken up.

    Raises
    ------
    ValueError
        If the file is damaged, or holds a training of other data or settings.
    """

    def __init__(
        self, path: str | Path, operation: str, config: Any, data: Mapping[str, Any], fresh: bool
    ) -> None:
        self.path = Path(path).expanduser()
        self.operation, self.data = operation, dict(data)
        self.settings = config.model_dump(mode="json", exclude=_FREE)
        self.seed = config.seed
        self.tensors: dict = {}
        self.state: dict | None = None
        self._next = time.perf_counter() + _SECONDS_BETWEEN
        remove_remnants(self.path)
        found = read_checkpoint(self.path)  # also before it is replaced: it may be no checkpoint
        if found is not None and not fresh:
            self.tensors, self.state = found
            self._check()

    def _check(self):
        state = self.state
        data, settings = state.get("data", {}), state.get("settings", {})
        given = set(self.data) | (set(data) - _NOT_NEEDED)
        other_data = [name for name in sorted(given) if data.get(name) != self.data.get(name)]
        other = [name for name, now in self.settings.items() if now != settings.get(name)]
        if state.get("operation") != self.operation:
            self.refuse(f"is of {state.get('operation')}, not of {self.operation}")
        if other_data:
            self.refuse(f"is of a training with other {' and '.join(other_data)}")
        if other:
            self.refuse(f"is of a training with other settings ({', '.join(other)})")
        if self.seed not in (None, state["seed"]):
            self.refuse("is of a training with another seed")

    def refuse(self, why: str) -> None:
        """Raise a `ValueError` that says why the file does not fit and what can be done."""
        raise ValueError(
            f"The checkpoint {self.path} {why}; give another name, or start anew (fresh=True, "
            "--fresh)."
        )

    @property
    def text(self) -> str:
        """What is taken up, in one sentence."""
        state = self.state or {}
        when = datetime.fromisoformat(state["written"]).strftime("%H:%M on %d %B")
        return f"The training of {when} resumes after step {state['step']}."

    def seed_or(self, seed: Any) -> Any:
        """The seed of the training that is taken up; the given one if there is none."""
        return seed if self.state is None else self.state["seed"]

    def is_due(self) -> bool:
        """Whether it is time to write again."""
        return time.perf_counter() >= self._next

    def keep(self, training: Any, step: int, total: int) -> Generator[Note, None, None]:
        """Write the state after a step; generator of a `Note` where that fails.

        That stops no training.
        """
        self._next = time.perf_counter() + _SECONDS_BETWEEN
        tensors, of_trainer = training.trainer.state()
        more, values = training.state()
        tensors = _named("trainer", tensors) | _named("training", more)
        state = {
            "operation": self.operation,
            "data": self.data,
            "settings": self.settings,
            "seed": training.seed,
            "written": datetime.now().isoformat(timespec="seconds"),
            "step": step,
            "total": int(total),
            "threads": _threads(),
            "trainer": of_trainer,
            "training": values,
        }
        try:
            write_checkpoint(self.path, tensors, state)
        except OSError as error:
            text = f"The checkpoint could not be written ({error.strerror or error})."
            if text not in training.notes:
                training.notes.append(text)
                yield Note(f"{text} The training continues without it.")

    def kept(self) -> tuple[dict[str, Any], dict] | None:
        """What the training's ``state()`` was, as long as it is not taken up; None without one."""
        if self.state is None:
            return None
        return _under("training", self.tensors), self.state["training"]

    def restore(self, training: Any) -> Generator[Note, None, int]:
        """Bring a training that was just prepared to where it was; returns the steps done.

        A generator of `Note`; it does nothing where there is nothing to take up.
        """
        if self.state is None:
            return 0
        yield Note(self.text)
        state, tensors = self.state, self.tensors
        training.trainer.take_up(_under("trainer", tensors), state["trainer"])
        training.take_up(_under("training", tensors), state["training"])
        self.state, self.tensors = None, {}
        before, now = state.get("threads"), _threads()
        if before not in (None, now) and training.device.type == "cpu":
            text = (
                f"The number of threads has changed from {before} to {now}, so the training may "
                "differ from an uninterrupted one in the last digits."
            )
            training.notes.append(text)
            yield Note(text)
        return int(state["step"])


def _threads():
    """Of this process, on which the rounding depends."""
    import torch

    return torch.get_num_threads()


def _named(prefix, tensors):
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix, tensors):
    start = f"{prefix}."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}
