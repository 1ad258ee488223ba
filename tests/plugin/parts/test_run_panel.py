import subprocess
import sys
import threading
from functools import partial

import pytest
from napari.utils.notifications import notification_manager
from pytestqt.exceptions import capture_exceptions
from qtpy.QtCore import QTimer

from napari_metastructure.jobs.events import (
    FileDone,
    FileProgress,
    Memory,
    Note,
    Progress,
    Result,
    Step,
)
from napari_metastructure.jobs.job import Job
from napari_metastructure.plugin.parts import run_panel
from napari_metastructure.plugin.parts.run_panel import RunPanel, late_job


def test_status_tells_memory_and_notes_are_notifications(qtbot):
    def work(job):
        yield Memory(3 * 2**30, "cuda:0")
        yield Note("cuda:0 ran out of memory.")
        yield Progress("predicting", 2, 2)
        shown.append(None)
        yield Result(None)

    panel, shown, texts = RunPanel(), [], []
    qtbot.addWidget(panel)
    panel.yielded.connect(lambda event: texts.append(panel.status.text()))
    with notification_manager:
        before = len(notification_manager.records)
        with qtbot.waitSignal(panel.finished, timeout=10_000):
            panel.start(Job(work), "Prediction")
        told = [record.message for record in notification_manager.records[before:]]
    assert told == ["cuda:0 ran out of memory."]
    assert any(text.endswith("0 s · memory 3.00 GiB on cuda:0") for text in texts)


def _with_turns(qtbot, after):
    """A panel that ends with three turns, and what they note: after the first one, `after` is
    called with the panel.
    """
    panel, noted = RunPanel(), []
    qtbot.addWidget(panel)

    def steps():
        for number in range(3):
            noted.append((number, panel.running))
            QTimer.singleShot(1, lambda: noted.append("another event"))
            if number == 0:
                QTimer.singleShot(0, lambda: after(panel))
            yield

    panel.yielded.connect(lambda event: panel.in_turns(steps()))
    panel.finished.connect(lambda: noted.append("finished"))
    panel.start(Job(lambda job: (event for event in [Result(None)])), "Density")
    qtbot.waitUntil(lambda: len(noted) > 0, timeout=10_000)
    qtbot.waitUntil(lambda: not panel.running, timeout=10_000)
    qtbot.wait(50)
    return noted


def test_the_window_lives_between_turns_and_the_job_ends_after_them(qtbot):
    noted = _with_turns(qtbot, lambda panel: None)
    steps = [(0, True), "another event", (1, True), "another event", (2, True), "another event"]
    assert [one for one in noted if one != "finished"] == steps
    assert noted.index("finished") > noted.index((2, True))


def test_turns_are_left_out_when_the_dock_is_closed(qtbot):
    noted = _with_turns(qtbot, lambda panel: panel.abandon())
    assert (1, True) not in noted
    assert "finished" in noted


def test_turns_are_left_out_when_the_window_goes(qtbot):
    noted = _with_turns(qtbot, lambda panel: panel.let_go())
    assert (1, True) not in noted
    assert "finished" not in noted


def test_what_is_complete_can_no_longer_be_stopped_or_paused(qtbot):
    panel, enabled = RunPanel(), []
    qtbot.addWidget(panel)

    def steps():
        while not panel._has_ended:
            yield
        enabled.extend([panel.stop_button.isEnabled(), panel.pause_button.isEnabled()])
        panel.stop()  # by its key
        panel.toggle_pause()
        yield

    panel.yielded.connect(lambda event: panel.in_turns(steps()))
    with qtbot.waitSignal(panel.finished, timeout=10_000):
        panel.start(Job(lambda job: (event for event in [Result(None)])), "Density")
    assert enabled == [False, False]
    assert panel.status.text().startswith("Density finished")


def test_a_turn_that_fails_ends_the_job(qtbot):
    def steps():
        yield
        raise MemoryError("of the display")

    panel = RunPanel()
    qtbot.addWidget(panel)
    panel.yielded.connect(lambda event: panel.in_turns(steps()))
    with capture_exceptions() as raised, qtbot.waitSignal(panel.finished, timeout=10_000):
        panel.start(Job(lambda job: (event for event in [Result(None)])), "Density")
    assert [kind for kind, *_ in raised] == [MemoryError]
    assert not panel.running


def test_each_phase_has_a_line_and_a_bar(qtbot):
    events = (
        Progress("loading PyTorch", 0, 1),
        Progress("reading", 3, 12),
        Step(4, 10, 1, 0.5),
        Progress("validating", 1, 2),
        FileProgress("predicting", 3, 12, 0.125, 0, 1),
        FileDone({}, 2, 5),
        Result(None),
    )
    panel, texts, bars = RunPanel(), [], []
    qtbot.addWidget(panel)

    def look(_):  # what the event before has left
        texts.append(panel.status.text().split(" · ")[0])
        bars.append((panel.progress_bar.value(), panel.progress_bar.maximum()))

    panel.yielded.connect(look)
    with qtbot.waitSignal(panel.finished, timeout=10_000):
        panel.start(Job(lambda job: (event for event in events)), "Training")
    told = ["loading PyTorch", "reading", "epoch 1, loss 0.500", "validating", "predicting"]
    assert texts[1:] == [*told, "2 of 5 files"]
    assert bars[1:] == [(0, 0), (3, 12), (4, 10), (4, 10), (3, 12), (200, 500)]


def test_a_long_file_of_a_batch_moves_the_bar_and_the_clock(qtbot):
    """The bar is that of all files; the clock goes on between two events."""
    go_on = threading.Event()

    def work(job):
        yield FileDone({}, 1, 5)
        yield FileProgress("predicting", 1, 4, 0.125, 1, 5)
        go_on.wait(20)
        yield Result(None)

    panel = RunPanel()
    qtbot.addWidget(panel)
    panel.start(Job(work), "Batch")
    for seconds in (1, 3):
        line = f"file 2 of 5: predicting · {seconds} s"
        qtbot.waitUntil(lambda: panel.status.text() == line, timeout=10_000)  # noqa: B023
    assert (panel.progress_bar.value(), panel.progress_bar.maximum()) == (112, 500)
    panel.stop()
    go_on.set()
    qtbot.waitUntil(lambda: not panel.running)


def test_a_second_click_and_a_closed_window_while_the_bar_is_made(monkeypatch, qtbot):
    def start():
        panel.start(Job(lambda job: (event for event in [Result(None)])), "Training")

    def bar(**how):
        found.append((panel.running, panel.run_button.isEnabled()))
        panel.run_button.click()
        if leaves:
            panel.let_go()
        return made(**how)

    panel, made, found, leaves, results = RunPanel(), run_panel.progress, [], [], []
    qtbot.addWidget(panel)
    panel.clicked.connect(start)
    panel.yielded.connect(results.append)
    monkeypatch.setattr(run_panel, "progress", bar)
    with qtbot.waitSignal(panel.finished, timeout=10_000):
        panel.run_button.click()
    assert found == [(True, False)]
    assert len(results) == 1
    leaves.append(True)
    panel.run_button.click()
    assert panel.running  # the click returns before the bar is made
    qtbot.waitUntil(lambda: not panel.running)
    assert len(found) == 2
    panel.run_button.click()
    panel.let_go()
    qtbot.wait(50)
    assert len(found) == 2
    assert len(results) == 1


def test_what_the_user_may_change_is_copied_before_an_import(monkeypatch):
    done = []
    monkeypatch.setattr(run_panel, "import_quietly", lambda module: done.append(module))
    copies = {name: partial(done.append, name) for name in ("one", "two")}
    module = "napari_metastructure.not_imported_yet"
    list(late_job(f"{module}:train", images=[0], labels=[copies["one"]], clean=copies["two"]))
    assert done == ["one", "two", module]


def test_stop_does_not_wait_for_an_import(monkeypatch, taking_long, qtbot):
    panel = RunPanel()
    qtbot.addWidget(panel)
    monkeypatch.setattr(run_panel, "import_quietly", taking_long)
    panel.start(late_job("napari_metastructure.not_imported_yet:train"), "Training")
    qtbot.waitUntil(taking_long.begun.is_set)
    with notification_manager, qtbot.waitSignal(panel.finished, timeout=1000):
        panel.stop()
    assert panel.status.text().startswith("Training stopped after")
    assert "nothing was computed" in notification_manager.records[-1].message


SCRIPT = """
import sys, threading, time
from qtpy.QtWidgets import QApplication
from napari_metastructure.jobs.events import Progress
from napari_metastructure.jobs.generators import in_background
from napari_metastructure.jobs.job import Job
from napari_metastructure.plugin.parts.run_panel import RunPanel

def work(job):
    try:
        while True:
            yield from in_background(job, Progress("working", 0, 1), busy)
    finally:
        print("cleaned up", flush=True)

begun = threading.Event()

def busy():
    begun.set()
    time.sleep(1)
    print("function ended", flush=True)

app = QApplication([])
panel = RunPanel()
panel.start(Job(work), "Test")
while not (begun.is_set() and panel.status.text().startswith("working")):
    app.processEvents()
if sys.argv[1] == "paused":
    panel.toggle_pause()
    while not panel.paused:
        app.processEvents()
if sys.argv[1] == "raised":
    raise KeyError("the script's own")
"""


@pytest.mark.parametrize(("how", "code"), [("ended", 0), ("paused", 0), ("raised", 1)])
def test_a_script_that_ends_while_a_job_runs_ends_it(how, code):
    """Its threads went on while Python and Qt were taken apart, which crashed."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == code, ended.stderr
    assert "cleaned up" in ended.stdout
    assert ended.stdout.count("function ended") >= 1
    assert "aborted thread" not in ended.stderr
    assert "Fatal" not in ended.stderr
