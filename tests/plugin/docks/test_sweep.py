"""The noise sweep dock, clicked in a real napari window."""

import numpy as np
import pytest

from napari_metastructure.plugin.layers import RECORD
from tests.plugin.conftest import assert_same_place

LONG = 100_000


@pytest.fixture
def dock(placed_layers, open_dock):
    """A dock set up for two runs that take seconds: clean labels, and half of the pixels."""
    dock = open_dock("Noise sweep")[1]
    values = {"sample": (0.5,), "flip": (), "dilate": (), "erode": (), "seeds": 1, "epochs": 1}
    dock.form.set_values({**values, "skeletonize": False, "random": False})
    small = {"channels": 4, "depth": 3, "patch_size": 32, "batch_size": 2, "min_steps": 5}
    dock.advanced.set_values(small)
    return dock


def finish(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)


def test_two_runs(qtbot, viewer, dock, placed_layers, open_dock, tmp_path):
    assert "2 trainings" in dock.plan_note.text()
    dock.panel.run_button.click()
    finish(qtbot, dock)
    assert [row["status"] for row in dock.sweep.table] == ["done", "done"]
    assert "Full annotation reaches" in dock.summary.text()
    assert "Click a point to see its prediction." in dock.summary.text()
    dock.save(tmp_path)
    assert (tmp_path / "sweep.html").is_file()
    said = dock.summary.text()
    viewer.window.remove_dock_widget(dock.parent())
    dock = open_dock("Noise sweep")[1]  # a sweep takes long: what it found is not lost
    assert dock.summary.text() == said
    assert dock.save_button.isEnabled()

    _, curves = dock.plot._panels[0]
    qtbot.waitUntil(lambda: len(curves["sample"][1].points()) == 1)
    points = curves["sample"][1]
    points.sigClicked.emit(points, points.points(), None)  # as a mouse click does
    image, labels = placed_layers
    prediction = viewer.layers[-1]
    assert prediction.name == "discs trained on sample 50 % (seed 0)"
    assert_same_place(prediction, image)
    assert prediction.data.shape == labels.data.shape
    assert not prediction.data[:3].any()  # only the last plane was scored
    assert prediction.metadata[RECORD]["run"]["amount"] == 0.5
    count = len(viewer.layers)
    dock.show_prediction(("sample", 0.5, 0))  # again: the layer that is there
    assert len(viewer.layers) == count
    dock.show_prediction(("clean", None, 0))
    assert [prediction.visible, viewer.layers[-1].visible] == [False, True]
    dock.show_prediction(("sample", 0.5, 0))
    assert [prediction.visible, viewer.layers[-1].visible] == [True, False]


def test_stop_keeps_what_is_done(qtbot, dock, tmp_path):
    dock.form["seeds"].value = 50
    dock.panel.run_button.click()
    assert dock.unfinished() == ["Sweep is running; its result would be lost."]
    dock.folder.value = tmp_path  # where each training is saved
    assert dock.unfinished() == ["Sweep is running; the present training would be lost."]
    qtbot.waitUntil(lambda: len(dock._scored) == 1, timeout=LONG)
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert dock.sweep.stopped
    assert 1 <= len(dock.sweep.table) < 100
    assert "Some runs are missing" in dock.summary.text()
    has_points = any(row["kind"] == "sample" for row in dock.sweep.table)
    assert ("Click a point" in dock.summary.text()) is has_points  # clean labels are a band
    assert dock.save_button.isEnabled()


def test_what_cannot_run_is_said(dock, viewer):
    dock.form["flip"].value = "0.2, much"
    assert dock.problem() == "Pixels flipped should be a valid number, not 'much'."
    assert not dock.panel.run_button.isEnabled()
    dock.form["flip"].value = "0.2, 3"
    assert "less than or equal to 1" in dock.problem()
    dock.form["flip"].value = ""
    assert dock.problem() is None
    viewer.add_labels(np.ones((5, 5), int), name="small")
    dock.labels.value = viewer.layers["small"]
    assert "choose labels that belong to the image" in dock.problem()
