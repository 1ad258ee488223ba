"""A training's state, kept in a checkpoint and taken up again: on a CPU bit for bit."""

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.files.fingerprint import digest
from napari_metastructure.jobs.checkpoint import read_checkpoint, write_checkpoint
from napari_metastructure.labels.metrics import Tally

__all__ = ["Resume", "fingerprint_of"]

_SECONDS_BETWEEN = 20
_FREE = {"device", "compile", "seed", "time_limit"}  # settings that may change on the way


def fingerprint_of(images: Any, labels: Any, validation: Any, noise: list) -> str:
    """What tells the data of one training from those of another."""
    from hashlib import sha256

    parts = [digest(one) for one in (images, labels, *validation) if one is not None]
    parts += [spec.model_dump_json() for spec in noise]
    return sha256(" ".join(parts).encode()).hexdigest()


class Resume:
    """Keeps a training in a file every so many seconds, and brings it back.

    Parameters
    ----------
    path : path
    config : TrainingConfig
    fingerprint : str
        Of the data, see `fingerprint_of`.
    fresh : bool
        Leave what the file holds, if that is a checkpoint; it is replaced.

    Attributes
    ----------
    state : dict or None
        What the file holds, if it fits.

    Raises
    ------
    ValueError
        If the file is damaged, or holds a training of other data or settings.
    """

    def __init__(self, path: str | Path, config: Any, fingerprint: str, fresh: bool) -> None:
        self.path = Path(path).expanduser()
        self.settings = config.model_dump(mode="json", exclude=_FREE)
        self.seed, self.fingerprint = config.seed, fingerprint
        self.tensors: dict = {}
        self.state: dict | None = None
        self._next = time.perf_counter() + _SECONDS_BETWEEN
        found = read_checkpoint(self.path)  # also before it is replaced: it may be no checkpoint
        if found is not None and not fresh:
            self.tensors, self.state = found
            self._check()

    def _check(self):
        state = self.state
        what = None
        if state.get("fingerprint") != self.fingerprint:
            what = "other images, labels or noise"
        elif state.get("settings") != self.settings:
            before, now = state.get("settings", {}), self.settings
            names = [name for name in now if now[name] != before.get(name)]
            what = f"other settings ({', '.join(names)})"
        elif self.seed not in (None, state["seed"]):
            what = "another seed"
        if what:
            raise ValueError(
                f"The checkpoint {self.path} is of a training with {what}; give another name, or "
                "start anew (fresh=True, --fresh)."
            )

    @property
    def text(self) -> str:
        """What is taken up, in one sentence."""
        state = self.state or {}
        when = datetime.fromisoformat(state["written"]).strftime("%H:%M on %d %B")
        return f"The training of {when} resumes after step {state['step']}."

    def is_due(self) -> bool:
        """Whether it is time to write again."""
        return time.perf_counter() >= self._next

    def keep(self, training: Any, step: int) -> None:
        """Write the state of a training after a step.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        self._next = time.perf_counter() + _SECONDS_BETWEEN
        trainer, validation = training.trainer, training.validation
        tensors = _named("network", trainer.network.state_dict())
        tensors |= _named("average", trainer.average.state_dict())
        tensors |= _named("best", validation.weights or {})
        optimizer = trainer.optimizer.state_dict()
        for number, values in optimizer["state"].items():
            tensors |= _named(f"optimizer.{number}", values)
        state = {
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "seed": training.seed,
            "written": datetime.now().isoformat(timespec="seconds"),
            "seconds": time.perf_counter() - training.clock,
            "step": step,
            "total": int(training.duration.total),
            "optimizer": optimizer["param_groups"],
            "schedule": _plain(trainer.schedule.state_dict()),
            "scaler": trainer.scaler.state_dict(),
            "sampler": training.sampler_state,
            "losses": training.losses,
            "notes": trainer.notes,
            "stopped_early": training.stopped_early,
            "validation_due": training.validation_due,
            "duration": training.duration.state(),
            "validation": _validation_state(validation),
        }
        write_checkpoint(self.path, tensors, state)

    def restore(self, training: Any) -> int:
        """Bring a training that was just prepared to where it was; returns the steps done."""
        state, trainer = self.state or {}, training.trainer
        trainer.network.load_state_dict(_under("network", self.tensors))
        trainer.average.load_state_dict(_under("average", self.tensors))
        moments: dict[int, dict] = {}
        for name, tensor in _under("optimizer", self.tensors).items():
            number, key = name.split(".", 1)
            moments.setdefault(int(number), {})[key] = tensor
        trainer.optimizer.load_state_dict({"state": moments, "param_groups": state["optimizer"]})
        trainer.schedule.load_state_dict(state["schedule"])
        trainer.scaler.load_state_dict(state["scaler"])
        trainer.notes[:] = state["notes"]
        training.sampler.rng.bit_generator.state = state["sampler"]
        training.losses[:], training.stopped_early = state["losses"], state["stopped_early"]
        training.validation_due = state["validation_due"]
        training.clock -= state["seconds"]
        training.duration.take_up(state["duration"])
        _restore_validation(training.validation, state["validation"], self.tensors)
        return int(state["step"])


def _named(prefix, tensors):
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix, tensors):
    start = f"{prefix}."
    return {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)}


def _plain(state):
    """A schedule's state without functions, which it brings with it anyway."""
    return {name: value for name, value in state.items() if not callable(value)}


def _validation_state(validation):
    tally = validation.tally
    return {
        "history": validation.history,
        "merit": float(validation.merit),
        "scores": validation.scores,
        "tally": None if tally is None else [part.tolist() for part in tally.counts],
        "has_weights": validation.weights is not None,
    }


def _restore_validation(validation, state, tensors):
    validation.history[:] = state["history"]
    validation.merit, validation.scores = state["merit"], state["scores"]
    if state["tally"] is not None:
        validation.tally = Tally.of(*(np.array(part, np.int64) for part in state["tally"]))
    if state["has_weights"]:
        validation.weights = _under("best", tensors)
