from napari_metastructure.jobs.events import Memory, Note, Progress, Result
from napari_metastructure.jobs.job import Job
from napari_metastructure.plugin.parts.run_panel import RunPanel


def test_status_tells_memory_and_notes_are_notifications(qtbot):
    from napari.utils.notifications import notification_manager

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
    assert any(text.endswith("left · 3.00 GiB on cuda:0") for text in texts)
