"""Predictions of one plane while a job runs, for the user to watch."""

import time
from collections.abc import Generator
from typing import Any

from napari_metastructure.jobs.events import Preview, Progress
from napari_metastructure.jobs.generators import run_until_stopped

__all__ = ["Previews"]

_SECONDS_BETWEEN_PREVIEWS = 2.0


class Previews:
    """Predictions of the job's preview image, not more often than is worth its time."""

    def __init__(self, job: Any, model: Any) -> None:
        self.job, self.model = job, model
        self._next = time.perf_counter()

    def if_due(self, epoch: int) -> Generator[Any, Any, Any]:
        """Predict the job's preview image if it is time; generator of `Preview`."""
        started, image = time.perf_counter(), self.job.preview
        if image is None or started < self._next:
            return
        prediction = self.model.predicting_plane(image)
        probability = yield from run_until_stopped(
            self.job, prediction, Progress("previewing", 0, 1)
        )
        now = time.perf_counter()
        self._next = now + max(_SECONDS_BETWEEN_PREVIEWS, 10 * (now - started))
        if probability is not None:
            yield Preview(epoch, probability, image)
