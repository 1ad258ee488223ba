"""Jobs in the terminal: a progress bar, and Ctrl-C as the stop button."""

import signal
import sys
import threading
from contextlib import closing, contextmanager
from typing import Any

from napari_metastructure.jobs.events import (
    BETWEEN_STEPS,
    FileDone,
    FileProgress,
    Memory,
    Note,
    Progress,
    Scored,
    Step,
    Validated,
)

__all__ = ["code_of_stop", "end_if_terminated", "run_to_end"]

_INTERRUPTED, _TERMINATED = 130, 143  # exit codes of a shell's commands: what follows does not run
_terminated = threading.Event()  # as SIGTERM has come


def code_of_stop() -> int:
    """The exit code of a command whose job was stopped: by Ctrl-C, or by SIGTERM."""
    return _TERMINATED if _terminated.is_set() else _INTERRUPTED


def end_if_terminated() -> None:
    """End the program instead of its next job once SIGTERM has stopped one.

    Raises
    ------
    SystemExit
        With code 143.
    """
    if _terminated.is_set():
        print("Terminated: no further job begins.", file=sys.stderr)
        sys.exit(_TERMINATED)


def run_to_end(job: Any, *, hidden: bool = False) -> Any:
    """Run a job with a progress bar in the terminal; returns its last event.

    The first Ctrl-C (or a request to terminate) stops the job, which then ends with what it has; a
    second Ctrl-C interrupts it.

    Parameters
    ----------
    job : Job
    hidden : bool
        Show nothing.
    """
    from tqdm.auto import tqdm

    seconds = 0.1 if sys.stderr.isatty() else 10  # a log should stay short
    bar = tqdm(unit="step", disable=hidden, mininterval=seconds, maxinterval=seconds)
    with closing(job), _ctrl_c_stops(job), bar:
        show, event = _Shown(bar), None
        for event in job:
            show(event)
    return event


class _Shown:
    """What a bar shows of a job's events."""

    def __init__(self, bar):
        self.bar, self.facts, self.activity = bar, {}, None

    def __call__(self, event):
        if isinstance(event, Step):
            self._move(event.step, event.total, "training")
            self.facts["loss"] = f"{event.loss:.3f}"
        elif isinstance(event, Progress) and event.activity not in BETWEEN_STEPS:
            self._move(event.done, event.total, event.activity)
        elif isinstance(event, Scored):
            self._move(event.done, event.total, "runs")
        elif isinstance(event, FileProgress):
            percent = f" {100 * event.part // event.parts} %" if event.parts > 1 else ""
            self._move(event.done, event.total, "files")
            self.facts["now"] = f"{event.activity}{percent}"
        elif isinstance(event, FileDone):
            self._move(event.done, event.total, "files")
            self.facts.pop("now", None)
            if event.row["error"] and not self.bar.disable:
                self.bar.write(f"{event.row['file']}: {event.row['error']}", file=sys.stderr)
        elif isinstance(event, Validated):
            self.facts["dice"] = f"{event.dice:.3f}"
        elif isinstance(event, Memory):
            self.facts["memory"] = event.text
        elif isinstance(event, Note) and not self.bar.disable:
            self.bar.write(event.text, file=sys.stderr)
        self.bar.set_postfix(self.facts, refresh=False)

    def _move(self, done, total, activity):
        if activity != self.activity or (total > 1 and total != self.bar.total):
            if self.activity:
                self.bar.refresh()  # the end of the activity before
            self.activity = activity
            self.bar.set_description_str(activity, refresh=False)
            self.bar.reset(total if total > 1 else None)
        self.bar.update(done - self.bar.n)


@contextmanager
def _ctrl_c_stops(job):
    """Let the first Ctrl-C stop the job; a second one interrupts as usual.

    So does SIGTERM, which schedulers of clusters send when a job's time is over. An interrupt
    raised inside the generator would end it without its last events.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, _frame):
        job.stop()
        if number == signal.SIGTERM:
            _terminated.set()
        signal.signal(signal.SIGINT, usual[signal.SIGINT])

    usual = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
