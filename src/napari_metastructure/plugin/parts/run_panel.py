"""Run, pause and stop a job in a background thread, and watch it."""

import atexit
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pyqtgraph as pg
from napari.qt.threading import create_worker
from napari.utils import progress
from napari.utils.notifications import notification_manager, show_error, show_info
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QGridLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget
from superqt.utils import WorkerBase

from napari_metastructure.jobs.events import (
    BETWEEN_STEPS,
    FileDone,
    FileProgress,
    Memory,
    Note,
    Progress,
    Step,
)
from napari_metastructure.jobs.generators import in_background
from napari_metastructure.jobs.job import Job, events_within
from napari_metastructure.jobs.time_left import TimeLeft
from napari_metastructure.plugin.keys import with_key
from napari_metastructure.plugin.parts.colours import COLOURS, in_colours
from napari_metastructure.plugin.parts.dock import note, say
from napari_metastructure.plugin.parts.long_names import WrappedLabel
from napari_metastructure.plugin.parts.pauses import import_quietly, set_aside
from napari_metastructure.plugin.parts.plots import FollowsTheme
from napari_metastructure.plugin.preferences import use_threads

__all__ = ["Curves", "JobError", "RunPanel", "late_job", "notify_error"]


_SECONDS_BETWEEN_UPDATES = 0.2
_PARTS = 100  # of a file, for the bar
_BETWEEN_TURNS = 10  # ms; with 0 neither timers nor drawing would come in between
_MOST_AT_EXIT = 60_000  # ms that the program waits for a job's present step
_driven: set[Job] = set()


class JobError(Exception):
    """A failure inside a job, with its one-sentence reason."""


class RunPanel(QWidget):
    """Buttons, progress and status of one job at a time.

    Parameters
    ----------
    action : str
        Text of the start button.

    Attributes
    ----------
    clicked : Signal
        The start button was clicked.
    yielded : Signal(object)
        What the job yields, in the main thread.
    finished : Signal
        The job has ended, was stopped or has failed.
    busy : Signal(bool)
        Whether a job is under way.
    """

    clicked = Signal()
    yielded = Signal(object)
    finished = Signal()
    busy = Signal(bool)

    def __init__(self, action: str = "Run") -> None:
        super().__init__()
        self.worker: Any = None
        self.job: Any = None
        self._bar: Any = None
        self._problem: str | None = None
        self._turns: deque[Iterator] = deque()  # what is done before the job counts as finished
        self._has_ended = False
        self.description = ""
        self.run_button = QPushButton(action)
        self.pause_button = QPushButton("Pause")
        self.stop_button = QPushButton("Stop")
        self.run_button.setToolTip(with_key("Start in the background.", "run"))
        self.pause_button.setToolTip("Pause before the next step, or go on.")
        self.stop_button.setToolTip(
            with_key("Stop at the next step and keep the result so far.", "stop")
        )
        self.run_button.clicked.connect(self.clicked)
        self.pause_button.clicked.connect(self.toggle_pause)
        self.stop_button.clicked.connect(self.stop)
        self.progress_bar = QProgressBar()
        self.status = WrappedLabel()
        self.reason = note()
        self._ticks = QTimer(self, interval=1000)
        self._ticks.timeout.connect(self._draw)

        buttons = QGridLayout()
        buttons.addWidget(self.run_button, 0, 0, 1, 2)
        buttons.addWidget(self.pause_button, 1, 0)
        buttons.addWidget(self.stop_button, 1, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(buttons)
        layout.addWidget(self.reason)
        layout.addWidget(self.progress_bar)
        layout.addWidget(self.status)
        self._refresh()

    @property
    def running(self) -> bool:
        """Whether a job is under way."""
        return self.worker is not None

    @property
    def paused(self) -> bool:
        """Whether the job is held."""
        return self.running and self.worker.is_paused

    def set_problem(self, reason: str | None) -> None:
        """Disable the start button for this reason; None enables it."""
        self._problem = reason
        self._refresh()

    def start(self, job: Job, description: str) -> None:
        """Run a `Job` in a background thread."""
        set_aside()
        self.job, self._started, self._next_show = job, time.monotonic(), 0.0
        self.description, self._memory = description, ""
        self._activity, self._time_left = "", TimeLeft()
        self._text, self._at, self._ends = "", (0, 0), None
        self._has_ended = False
        worker = create_worker(_drive, job, _start_thread=False, _ignore_errors=True)
        self.worker = worker
        self.worker.yielded.connect(self._on_event)
        self.worker.errored.connect(self._on_error)
        self.worker.paused.connect(self._refresh)
        self.worker.resumed.connect(self._refresh)
        self.worker.finished.connect(self._on_finished)
        self.status.setText(f"{description} …")
        self._refresh()
        QTimer.singleShot(0, lambda: self._start(worker))  # the click returns at once

    def _start(self, worker):
        if self.worker is not worker:  # the window has gone
            return
        bar = progress(total=0, desc=self.description)  # handles events, such as closing
        if self.worker is not worker:
            bar.close()
            return
        self._bar = bar
        self._ticks.start()
        worker.start()

    def in_turns(self, steps: Iterator) -> None:
        """Take steps that take long, such as adding a layer, with the window's events in between.

        The job counts as under way until the last one; if the dock or the window is closed
        meanwhile, the others are left out.

        Parameters
        ----------
        steps : iterator
            Each ``next`` is a step.
        """
        self._turns.append(steps)
        if len(self._turns) == 1:
            QTimer.singleShot(_BETWEEN_TURNS, self._take_turn)

    def _take_turn(self):
        if not self._turns:  # closed meanwhile
            return
        over = True
        try:
            over = next(self._turns[0], self) is self
        finally:
            if over and self._turns:
                self._turns.popleft()
            if self._turns:
                QTimer.singleShot(_BETWEEN_TURNS, self._take_turn)
            elif self._has_ended and self.running:
                self._end()

    def toggle_pause(self) -> None:
        """Hold the job before its next step, or let it go on."""
        if self.running and not self._has_ended:
            self._time_left.interrupt()
            self._ends = None
            self.worker.toggle_pause()
            self.pause_button.setEnabled(False)

    def stop(self) -> None:
        """End the job early with what it has."""
        if self.running and not self._has_ended:
            self.job.stop()
            self.worker.resume()
            self.status.setText("stopping …")
            self.stop_button.setEnabled(False)

    def abandon(self) -> None:
        """End the job without a result, as when the widget is closed."""
        if self.running:
            self._quit()
            if self._has_ended:
                self._end()

    def _quit(self):
        self._turns.clear()
        self.job.stop()
        self.worker.resume()
        self.worker.quit()

    def let_go(self) -> None:
        """End the job and hear no more of it, as when the window goes."""
        if not self.running:
            return
        self._quit()
        self.worker.yielded.disconnect(self._on_event)
        self.worker.errored.disconnect(self._on_error)
        self.worker.paused.disconnect(self._refresh)
        self.worker.resumed.disconnect(self._refresh)
        self.worker.finished.disconnect(self._on_finished)
        self._ticks.stop()
        self.worker = self.job = self._bar = None

    def _on_event(self, event):
        if self.job is not None:
            self.yielded.emit(event)
        if self.job is None:  # closed meanwhile
            return
        if isinstance(event, Step):
            text = f"epoch {event.epoch}, loss {event.loss:.3f}"
            self._show(event.step, event.total, text, "training")
        elif isinstance(event, Memory):
            self._memory = f" · memory {event.text}"
        elif isinstance(event, Note):
            show_info(event.text)
        elif isinstance(event, Progress):
            self._show(event.done, event.total, event.activity)
        elif isinstance(event, FileProgress) and event.total == 1:
            self._show(event.part, event.parts, event.activity)
        elif isinstance(event, FileProgress):
            done = event.done + event.share
            self._show(done, event.total, event.text, "files", timed=False, parts=_PARTS)
        elif isinstance(event, FileDone):
            text = f"{event.done} of {event.total} files"
            self._show(event.done, event.total, text, "files", parts=_PARTS)

    def _show(self, done, total, text, activity=None, *, timed=True, parts=1):
        """Show how far the job is, a few times a second: napari's bar redraws the window."""
        now, activity, self._text = time.monotonic(), activity or text, text
        if activity not in BETWEEN_STEPS:  # the bar stays that of the steps
            whole = total * parts if total > 1 else 0  # 0: a bar without an end
            self._at = int(done * parts), whole
        if now < self._next_show and done < total and activity == self._activity:
            return
        self._next_show, self._activity = now + _SECONDS_BETWEEN_UPDATES, activity
        if timed:
            left = self._time_left.look(activity, done, total, now)
            self._ends = None if left is None else now + left
        self._draw()

    def _draw(self):
        """The bar and the line below it, whose clock goes on while a step takes long."""
        if self.paused or not self._text:
            return
        if not self.job.stopping:
            self.status.setText(f"{self._text} · {self._times()}{self._memory}")
        self._draw_bar(*self._at)

    def _times(self):
        """How long the job has taken, and how long it still takes if that is known."""
        now = time.monotonic()
        left = 0 if self._ends is None else round(self._ends - now)
        return _clock(now - self._started) + (f", about {_clock(left)} left" if left > 0 else "")

    def _draw_bar(self, done, total):
        self.progress_bar.setRange(0, total)
        self.progress_bar.setValue(done)
        bar = self._bar
        if bar.total != total:
            bar.reset(total)  # handles events, such as the job's end
        if bar is self._bar and bar.n != done:
            bar.update(done - bar.n)

    def _on_error(self, error):
        self.status.setText(f"{self.description} failed: {error}")
        notification_manager.receive_error(type(error), error, error.__traceback__)

    def _on_finished(self):
        self._has_ended = True
        if self._turns:
            self._refresh()
        else:
            self._end()

    def _end(self):
        failed = "failed" in self.status.text()
        end = "stopped" if self.job.stopping else "finished"
        self._ticks.stop()
        self.job.close()
        self._bar.close()
        self.worker = self.job = self._bar = None
        self.progress_bar.setRange(0, 1)
        self.progress_bar.setValue(0)
        if not failed:
            elapsed = _clock(time.monotonic() - self._started)
            self.status.setText(f"{self.description} {end} after {elapsed}")
        self._refresh()
        self.finished.emit()

    def _refresh(self):
        running = self.running
        self.run_button.setEnabled(not running and self._problem is None)
        self.pause_button.setEnabled(running and not self._has_ended)
        self.pause_button.setText("Resume" if self.paused else "Pause")
        self.stop_button.setEnabled(running and not self._has_ended)
        self.progress_bar.setVisible(running)
        say(self.reason, None if running else self._problem)
        self.status.setVisible(bool(self.status.text()) or running)
        self.busy.emit(running)


def _drive(job):
    """The job as a generator function; errors keep their sentence (RuntimeError would be lost)."""
    use_threads()
    _driven.add(job)
    try:
        yield from job
    except RuntimeError as error:
        raise JobError(str(error)) from error
    finally:
        _driven.discard(job)


@atexit.register
def _end_jobs():
    """End what still runs when the program does, as a script without `napari.run()`.

    Threads that go on while Python and Qt are taken apart crash.
    """
    jobs = list(_driven)
    for job in jobs:
        job.stop()
    with suppress(RuntimeError):  # they take too long, or Qt has gone
        WorkerBase.await_workers(_MOST_AT_EXIT)
    for job in jobs:
        job.close()


def late_job(function: str, **arguments: Any) -> Job:
    """A job made by ``module:function`` in the worker's thread: importing torch takes its time.

    Of arguments that are a `functools.partial`, or lists of them, what these give is used, such as
    copies of what the user may change; they are called at once.
    """

    def work(job):
        values = [*arguments.values()]
        if _is_later(values):
            event = Progress("reading the labels", 0, 1)  # before more is painted on them
            values = yield from in_background(job, event, _given, values)
            if values is None:
                yield Note("Stopped while the labels were read; nothing was computed.")
                return
        module, name = function.split(":")
        found = sys.modules.get(module)
        if not hasattr(found, name):  # perhaps a stopped job has begun to import it
            event = Progress("loading PyTorch", 0, 1)
            found = yield from in_background(job, event, import_quietly, module)
        if found is None:
            yield Note("Stopped while PyTorch was loaded; nothing was computed.")
            return
        made_by = getattr(found, name)
        use_threads()
        yield from events_within(job, made_by(**dict(zip(arguments, values))))

    return Job(work)


def _is_later(value):
    """Whether it is a function that gives an argument, or a list with one."""
    if isinstance(value, list):
        return any(map(_is_later, value))
    return isinstance(value, partial)


def _given(value):
    """An argument, or what a function gives in its place."""
    if isinstance(value, list):
        return [_given(one) for one in value]
    return value() if isinstance(value, partial) else value


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


class Curves(FollowsTheme, pg.GraphicsLayoutWidget):
    """Live curves, one panel above the other, redrawn at most four times a second.

    Parameters
    ----------
    panels : dict of {str: list of str}
        Title of each panel, and the names of its curves.
    x_label : str
        Of the last panel.
    """

    def __init__(self, panels: Mapping[str, Sequence[str]], x_label: str = "step") -> None:
        super().__init__()
        self.setBackground(None)
        self.setFixedHeight(130 * len(panels))
        self._points, self._curves = {}, {}
        for row, (title, names) in enumerate(panels.items()):
            title = title if len(names) == 1 else f"{title}: {in_colours(names)}"
            plot = self.addPlot(row=row, col=0, title=title, enableMenu=False)
            plot.hideButtons()
            plot.showGrid(y=True, alpha=0.2)
            plot.getAxis("bottom").enableAutoSIPrefix(False)
            plot.getAxis("left").enableAutoSIPrefix(False)
            if row == len(panels) - 1:
                plot.setLabel("bottom", x_label)
            for name, colour in zip(names, COLOURS):
                symbol = {"symbol": "o", "symbolSize": 4, "symbolBrush": colour} if row else {}
                self._curves[name] = plot.plot(pen=pg.mkPen(colour, width=2), name=name, **symbol)
        self.clear_points()
        self._timer = QTimer(self, interval=250, singleShot=True)
        self._timer.timeout.connect(self._draw)

    def clear_points(self) -> None:
        """Begin anew."""
        self._points = {name: ([], []) for name in self._curves}
        self._draw()

    def add_point(self, name: str, x: float, y: float) -> None:
        """Append a point to a curve."""
        xs, ys = self._points[name]
        xs.append(x)
        ys.append(y)
        if not self._timer.isActive():
            self._timer.start()

    def _draw(self):
        for name, (xs, ys) in self._points.items():
            self._curves[name].setData(xs, ys)


def notify_error(error: Exception | str) -> None:
    """Show the sentence of an error as a napari notification."""
    show_error(str(error))
