"""How long a training lasts: a number of steps, or until the held-back score stops rising."""

import math
import time
from collections.abc import Callable

__all__ = ["AutomaticDuration", "FixedDuration", "OpenEndedRate"]

_LEAST_STEPS = 400
_STEPS_PER_CLASS = 200  # more for each class beyond two
_MOST_CLASSES = 10  # that ask for more steps
_MOST_STEPS = 20_000
_PATIENCE = 200  # steps
_PATIENT_EPOCHS = 4
_RISE = 0.002  # of what the area under the curve is above one half, less is none
_LEAST_RISE = 0.00005
_TOLD = 0.25  # of what clean labels tell: noisier ones ask for more steps
_MOST_PATIENT = 2.0  # times as many
_FALL = 0.3  # steps of falling rate for each step before
_WARM_UP = 50  # steps


class FixedDuration:
    """A number of steps that is known beforehand.

    Parameters
    ----------
    total : int
        Steps.
    """

    reason = "all epochs done"

    def __init__(self, total: int) -> None:
        self.total = total

    def update(self, step: int, score: float | None = None) -> None:
        """Nothing to learn from a step or a score."""

    def state(self) -> dict:
        """Nothing to keep."""
        return {}

    def take_up(self, state: dict) -> None:
        """Nothing to bring back."""


class OpenEndedRate:
    """Factor of the learning rate: it rises, stays, and from `finish` on falls to nothing."""

    def __init__(self) -> None:
        self._begin, self._length = math.inf, 1

    def finish(self, step: int, length: int) -> None:
        """Fall from a step on, over so many steps."""
        self._begin, self._length = step, length

    def __call__(self, step: int) -> float:
        """The factor at a step, counted from 0."""
        rise = min(1.0, (step + 1) / _WARM_UP)
        return rise * min(1.0, max(0.0, 1 - (step - self._begin) / self._length))


class AutomaticDuration:
    """Until the held-back score has stopped rising, then a fall of the learning rate.

    Parameters
    ----------
    rate : OpenEndedRate
    steps_per_epoch : int
        Steps between two scores.
    time_limit : float or None
        Seconds from now on; the fall begins early enough to end in time.
    classes : int
        With more of them more steps are the least, and there is more patience: the area under the
        curve, mean over the classes, stops rising long before the borders between them are right.
    clock : callable
        Gives the seconds that the limit is for.
    enough : int, optional
        Steps in all where there is no score, the fall among them.

    Attributes
    ----------
    total : int
        Steps in all; an estimate until `reason` is set.
    reason : str or None
        Why the fall of the rate began.
    """

    def __init__(
        self,
        rate: OpenEndedRate,
        steps_per_epoch: int,
        time_limit: float | None = None,
        classes: int = 2,
        clock: Callable[[], float] = time.perf_counter,
        enough: int | None = None,
    ) -> None:
        self._rate, self._limit = rate, time_limit
        self._enough = None if enough is None else max(1, round(enough / (1 + _FALL)))
        self._clock, self._begun = clock, clock()
        more = _STEPS_PER_CLASS * (min(classes, _MOST_CLASSES) - 2)
        self._least = _LEAST_STEPS + more
        self._patience = max(_PATIENT_EPOCHS * steps_per_epoch, _PATIENCE + more // 2)
        self._best, self._best_step = -math.inf, 0
        self.reason: str | None = None
        self.total = self._end(self._enough or max(self._least, self._patience))

    def update(self, step: int, score: float | None = None) -> None:
        """Take note of a step that is done, and of the score if there is a new one."""
        if self.reason is not None:
            return
        if score is not None and score > self._best + self._rise():
            self._best, self._best_step = score, step
        more = self._noise_factor()
        enough = self._enough or round(
            max(more * self._least, self._best_step + more * self._patience)
        )
        self.total = max(self._end(enough), self._end(step))
        if step >= enough:
            stopped = "the validation score has stopped rising"
            self._finish(step, stopped if self._enough is None else "all epochs done")
        elif step >= _MOST_STEPS:
            self._finish(step, f"{_MOST_STEPS} steps done")
        elif self._limit and (self._clock() - self._begun) * (1 + _FALL) > self._limit:
            self._finish(step, f"time limit of {self._limit:g} s")

    def _above_chance(self):
        """What the area under the curve is above one half; noise of the labels shrinks it."""
        return max(self._best, 0.5) - 0.5

    def _rise(self):
        """The least rise that counts."""
        return max(_LEAST_RISE, _RISE * self._above_chance())

    def _noise_factor(self):
        """How many times as many steps noisy labels ask for: they teach less at each step, and a
        score on them stands still by chance.
        """
        if self._best == -math.inf:
            return 1.0
        told = max(2 * self._above_chance(), 1e-9)
        return min(max(1.0, (_TOLD / told) ** 0.5), _MOST_PATIENT)

    def state(self) -> dict:
        """What is to be kept of it, for a checkpoint."""
        return {
            "best": self._best,
            "best_step": self._best_step,
            "reason": self.reason,
            "total": self.total,
            "rate": vars(self._rate),
            "seconds": self._clock() - self._begun,
        }

    def take_up(self, state: dict) -> None:
        """Go on from a `state`."""
        self._best, self._best_step = state["best"], state["best_step"]
        self.reason, self.total = state["reason"], state["total"]
        vars(self._rate).update(state["rate"])
        self._begun = self._clock() - state["seconds"]

    def _finish(self, step, reason):
        self.total, self.reason = self._end(step), reason
        self._rate.finish(step, self.total - step)

    @staticmethod
    def _end(step):
        return step + max(1, round(_FALL * step))
