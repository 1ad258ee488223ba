"""A long computation that tells how far it is and can be stopped."""

import time
import weakref
from collections.abc import Iterator
from typing import Any

from napari_metastructure.jobs.events import Result
from napari_metastructure.jobs.progress import end_if_terminated, run_to_end

__all__ = ["Job", "events_within"]


class Job:
    """A long computation: iterate over it to run it and get its events.

    Parameters
    ----------
    work : callable
        ``work(job)`` returns the generator of events; it looks at the job's attributes between
        two events.

    Attributes
    ----------
    stopping : bool
        Whether `stop` was called.
    preview : array or None
        Plane (or volume) to show predictions of while the job runs; may be set at any time and
        from any thread.
    """

    def __init__(self, work: Any) -> None:
        self.stopping = False
        self.preview = None
        self._closing = False
        self._within: Any = lambda: None  # gives the job that runs as a part of this one
        self._seconds_away, self._left = 0.0, time.perf_counter()
        self._events = work(weakref.proxy(self))  # so that a job that is dropped ends at once

    def __iter__(self):
        return self

    def __next__(self):
        self._seconds_away += time.perf_counter() - self._left
        try:
            event = next(self._events)
        finally:
            self._left = time.perf_counter()
        if self._closing:  # by another thread, while this one computed the event
            self._events.close()
            raise StopIteration
        return event

    def __repr__(self):
        return (
            "<Job: call .run() to run it to its end with a progress bar, or iterate over it for "
            "its events; .stop() ends it early>"
        )

    def run(self, *, hidden: bool = False) -> Any:
        """Run to the end with a progress bar; Ctrl-C ends it early with what it has.

        So does SIGTERM; the program then ends, with code 143, where it would run its next job.

        Parameters
        ----------
        hidden : bool
            Show no bar.

        Returns
        -------
        Done or object
            The last event, or its value if it is a `Result`.
        """
        end_if_terminated()
        last = run_to_end(self, hidden=hidden)
        return last.value if isinstance(last, Result) else last

    def clock(self) -> float:
        """Seconds of a clock for the job's work, which stands still between two events.

        So a pause does not count, nor what whoever iterates does with an event.
        """
        return time.perf_counter() - self._seconds_away

    def stop(self) -> None:
        """Ask for an early end: the next events are the last ones, up to `Done`."""
        self.stopping, within = True, self._within()
        if within is not None:  # at once: its next event may take long
            within.stop()

    def close(self) -> None:
        """End at once, without `Done`, and free what the job holds.

        From any thread: while another one computes an event, the job ends there after that event.
        """
        self.stopping = self._closing = True
        try:
            self._events.close()
        except ValueError:  # it runs in another thread, which closes it
            if not getattr(self._events, "gi_running", False):
                self._events.close()


def events_within(outer: Any, inner: Job) -> Iterator[Any]:
    """The events of a job that is part of another one, whose stop and preview reach it.

    Parameters
    ----------
    outer, inner : Job
    """
    inner.preview = outer.preview
    outer._within = weakref.ref(inner)
    for event in inner:
        yield event
        inner.preview = outer.preview
        if outer.stopping:
            inner.stop()
