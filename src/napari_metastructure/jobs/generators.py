"""Generators that report progress and return a result, driven to their end."""

import atexit
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Full, Queue, SimpleQueue
from typing import Any
from weakref import WeakSet

__all__ = [
    "Grace",
    "in_background",
    "run_out",
    "run_until_stopped",
    "side_by_side",
    "told_by",
]

_SECONDS_BETWEEN_EVENTS = 0.1
_SECONDS_AT_EXIT = 60.0
_MOST_THREADS = 8
_in_background: WeakSet[threading.Thread] = WeakSet()


def run_out(generator: Any) -> Any:
    """Run a generator to its end; returns its value."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def run_until_stopped(job: Any, generator: Any, event: Any) -> Generator[Any, Any, Any]:
    """Run a generator to its end and return its value; None if the job is stopped before.

    Itself a generator: it yields `event` after each step.
    """
    while not job.stopping:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
        yield event
    generator.close()
    return None


class Grace:
    """The moment for which a stopped job may go on.

    Parameters
    ----------
    job : Job
    seconds : float
        For all that is run, from when the first of it finds the job stopped.
    """

    def __init__(self, job: Any, seconds: float) -> None:
        self.job, self.seconds = job, seconds
        self._end = float("inf")

    def run(self, generator: Any, event: Any) -> Generator[Any, Any, Any]:
        """Run a generator and return its value; None once its steps would take too long.

        Itself a generator: it yields `event` after each step. Where the other one yields (done,
        total), all that is left counts, and what begins after a refusal is refused, too.
        """
        taken, left = 0.0, 1  # by the step before; steps
        while True:
            begun = time.perf_counter()
            if self.job.stopping:
                self._end = min(self._end, begun + self.seconds)
            if begun + taken * left > self._end:
                self._end = float("-inf")
                generator.close()
                return None
            try:
                step = next(generator)
            except StopIteration as end:
                return end.value
            taken = time.perf_counter() - begun
            left = max(1, step[1] - step[0]) if isinstance(step, tuple) else 1
            yield event


def in_background(
    job: Any, event: Any, function: Callable, *arguments: Any, **options: Any
) -> Generator[Any, Any, Any]:
    """Run a function that takes seconds and cannot be stopped, in a thread of its own.

    A generator: it yields `event` at once and every 0.1 s, and returns what the function returns.
    When the job is stopped it returns None, and the function's value is dropped when it comes: so
    the function should change nothing that is used later.

    Parameters
    ----------
    job : Job
    event : object
    function : callable
    *arguments, **options
        Of the function.

    Raises
    ------
    Exception
        What the function raises.
    """
    yield event
    if job.stopping:
        return None
    thread, value = _begun(function, *arguments, **options)
    _in_background.add(thread)
    thread.join(_SECONDS_BETWEEN_EVENTS)
    while thread.is_alive():
        yield event
        if job.stopping:
            return None
        thread.join(_SECONDS_BETWEEN_EVENTS)
    return value.result()


def _begun(function, *arguments, **options):
    """A thread that runs a function, and the future of what that returns or raises."""
    value: Future[Any] = Future()

    def run():
        try:
            value.set_result(function(*arguments, **options))
        except BaseException as error:
            value.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, value


@atexit.register
def _wait_for_threads():
    """Wait a while for functions that stopped jobs have left: Python's end under them crashes."""
    end = time.monotonic() + _SECONDS_AT_EXIT
    for thread in list(_in_background):
        thread.join(max(0.0, end - time.monotonic()))


class _Left(BaseException):
    """Ends a function that nobody listens to any more."""


def _next_of(queue):
    """Wait for an item in a way that Ctrl-C can interrupt, also on Windows."""
    while True:
        try:
            return queue.get(timeout=_SECONDS_BETWEEN_EVENTS)
        except Empty:
            continue


def told_by(function: Callable[[Callable[[Any], None]], Any]) -> Generator[Any, Any, Any]:
    """What a function tells while it runs, in a thread of its own; returns what it returns.

    Parameters
    ----------
    function : callable
        ``function(tell)``; ``tell(event)`` yields an event and returns when the next one is asked
        for. If the generator is closed instead, ``tell`` raises, and the end of the function is
        waited for.

    Raises
    ------
    BaseException
        What the function raises.
    """
    told: SimpleQueue[Any] = SimpleQueue()
    heard: SimpleQueue[bool] = SimpleQueue()

    def tell(event):
        told.put(event)
        if not heard.get():
            raise _Left

    def run():
        try:
            return function(tell)
        finally:
            told.put(_Left)

    thread, value = _begun(run)
    interrupted = False
    try:
        while (event := _next_of(told)) is not _Left:
            yield event
            heard.put(True)
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        heard.put(False)
        if not interrupted:
            thread.join()
    return value.result()


def side_by_side(
    generators: Sequence[Iterator], threads: int | None = None
) -> Generator[Any, Any, Any]:
    """What several generators yield, in the order in which it comes.

    They run in threads, as many at once as there are cores, save one for the window, and at most
    8; each of them is at most one item ahead of the caller. When this is closed, they end with the
    item they are at, which nobody waits for.

    Parameters
    ----------
    generators : sequence of iterators
        Which share nothing that they change.
    threads : int, optional
        At most so many at once.

    Raises
    ------
    BaseException
        What a generator raises.
    """
    from joblib import cpu_count

    found: Queue[tuple] = Queue(1)
    left, end = threading.Event(), object()

    def put(item, error=None):
        while not left.is_set():
            try:
                return found.put((item, error), timeout=_SECONDS_BETWEEN_EVENTS)
            except Full:
                continue

    def run(generator):
        try:
            for item in generator:
                put(item)
                if left.is_set():
                    return
            put(end)
        except BaseException as error:
            put(end, error)

    pool = ThreadPoolExecutor(min(max(1, cpu_count() - 1), threads or _MOST_THREADS, _MOST_THREADS))
    try:
        for generator in generators:
            pool.submit(run, generator)
        running = len(generators)
        while running:
            item, error = _next_of(found)
            if error is not None:
                raise error
            if item is end:
                running -= 1
            else:
                yield item
    finally:
        left.set()
        pool.shutdown(wait=False, cancel_futures=True)
