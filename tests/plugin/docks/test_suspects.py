"""The dock for wrong labels, clicked in a real napari window."""

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from napari_metastructure.jobs.events import Result
from napari_metastructure.learning.suspects import suspects_from

LONG = 120_000


@pytest.fixture
def dock(viewer, open_dock):
    rng = np.random.default_rng(0)
    truth = np.zeros((8, 48, 48), np.uint8)
    for mask in truth:
        for y, x in [(6, 6), (6, 30), (30, 6), (30, 30)]:
            y, x = np.add((y, x), rng.integers(-3, 4, 2))
            mask[y : y + 12, x : x + 12] = 1
    image = 100 * truth + rng.normal(0, 10, truth.shape).astype(np.float32)
    truth[3, :24, :24] = 0
    place = {"scale": (1, 0.5, 0.5), "translate": (0, 10, 20)}
    viewer.add_image(image, name="cells", **place)
    viewer.add_labels(truth, name="drawn", **place)
    dock = open_dock("Find wrong labels")[1]
    dock.form["epochs"].value = 12
    dock.form["channels"].value = 4
    dock.form["seed"].value = "0"
    return dock


def test_click_accept_reject(qtbot, viewer, dock, monkeypatch):
    dock.form["epochs"].value = 4
    config, short = dock.config, {"depth": 3, "min_steps": 40}  # of which the form has no rows
    monkeypatch.setattr(dock, "config", lambda: config().model_copy(update=short))
    assert dock.problem() is None
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: dock.suspects is not None, timeout=LONG)
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)
    assert "1 × missed object" in dock.about.text()
    regions = viewer.layers["drawn (suspects)"]
    np.testing.assert_array_equal(regions.scale, [1, 0.5, 0.5])
    assert regions.contour == 1  # what lies in them is to be judged
    dock.image.value, dock.labels.value = viewer.layers["cells"], viewer.layers["drawn"]
    dock.again.copy_button.click()
    exec(QApplication.clipboard().text(), {"viewer": viewer})
    again = viewer.layers["suspects"].data  # by another number of threads: no pixel is sure
    np.testing.assert_array_equal(again == 1, regions.data == 1)
    viewer.layers.remove("suspects")
    dock.table.selectRow(0)
    assert viewer.dims.point[0] == 3
    assert 10 <= viewer.camera.center[1] <= 26
    assert 20 <= viewer.camera.center[2] <= 36
    dock.accept_button.click()
    headers = [dock.table.horizontalHeaderItem(k).text() for k in range(dock.table.columnCount())]
    decision = headers.index("decision")
    assert dock.table.item(0, decision).text() == "accepted"
    right = dock.table.columnViewportPosition(decision) + dock.table.columnWidth(decision)
    assert right <= 300  # seen in a narrow dock, too
    before, after = viewer.layers["drawn"].data, viewer.layers["drawn (corrected)"].data
    np.testing.assert_array_equal(before != after, regions.data == 1)
    free = tuple(np.argwhere(regions.data == 0)[0])
    viewer.layers["drawn (corrected)"].data_setitem(free, 7)  # painted by hand
    dock.reject_button.click()
    rejected = viewer.layers["drawn (corrected)"].data.copy()
    assert rejected[free] == 7
    rejected[free] = before[free]
    np.testing.assert_array_equal(rejected, before)
    assert dock.decisions == {1: False}


def test_nothing_is_decided_before_a_search_or_without_a_choice(viewer, dock):
    assert not dock.accept_button.isEnabled()  # and not silent
    assert not dock.reject_button.isEnabled()
    dock.decide(True)
    assert dock.decisions == {}
    assert [layer.name for layer in viewer.layers] == ["cells", "drawn"]


def found_on(planes, truth):
    """The end of a search in labels, without a network."""
    return Result(suspects_from(list(np.where(truth, 0.9, 0.1)), list(planes)))


def test_decisions_are_about_the_labels_searched_in(viewer, dock, monkeypatch):
    monkeypatch.setattr(dock.panel, "start", lambda *_: None)
    labels = viewer.layers["drawn"].data
    truth = labels > 0
    wrong = labels.copy()
    wrong[3, :24, :24] = 1
    viewer.layers["drawn"].data = wrong
    dock.run()
    dock._on_event(found_on(wrong, truth))
    viewer.layers["drawn"].data = 0 * wrong  # others, and a search in them that is not done yet
    dock.run()
    dock.table.selectRow(0)
    dock.accept_button.click()
    np.testing.assert_array_equal(viewer.layers["drawn (corrected)"].data, labels)


def search(viewer, dock, monkeypatch):
    """Find a false object on plane 3, without a network."""
    monkeypatch.setattr(dock.panel, "start", lambda *_: None)
    labels = viewer.layers["drawn"].data
    wrong = labels.copy()
    wrong[3, :24, :24] = 1
    viewer.layers["drawn"].data = wrong
    dock.run()
    dock._on_event(found_on(wrong, labels > 0))


def test_a_new_search_has_no_row_of_the_last_one_selected(viewer, dock, monkeypatch):
    search(viewer, dock, monkeypatch)
    dock.table.selectRow(0)
    assert dock.accept_button.isEnabled()
    labels = viewer.layers["drawn"].data
    dock.run()
    dock._on_event(found_on(labels, labels > 0))
    assert not dock.accept_button.isEnabled()
    assert dock.about.text() == "No suspects: the networks agree with the labels everywhere."


def test_a_search_and_its_decisions_come_back_with_the_dock(viewer, dock, monkeypatch, open_dock):
    search(viewer, dock, monkeypatch)
    dock.table.selectRow(0)
    dock.accept_button.click()
    corrected = viewer.layers["drawn (corrected)"]
    names = [layer.name for layer in viewer.layers if layer.visible]
    assert names == ["cells", "drawn (corrected)", "drawn (suspects)"]
    assert viewer.layers.selection.active == corrected
    viewer.layers.remove("drawn (suspects)")  # a click finds the place without them
    viewer.window.remove_dock_widget(dock.parent())
    dock = open_dock("Find wrong labels")[1]
    assert [dock.table.item(0, column).text() for column in (1, 3)] == ["extra object", "accepted"]
    viewer.dims.set_point(0, 0)
    dock.table.selectRow(0)
    assert viewer.dims.point[0] == 3
    dock.reject_button.click()
    np.testing.assert_array_equal(corrected.data, viewer.layers["drawn"].data)


def test_a_click_finds_the_place_among_other_axes(viewer, dock, monkeypatch):
    search(viewer, dock, monkeypatch)
    viewer.add_image(np.zeros((2, 8, 48, 48)), name="with time")
    dock.table.selectRow(0)
    assert viewer.dims.point[1] == 3
    viewer.dims.set_point(1, 0)
    viewer.dims.order = (0, 2, 1, 3)  # seen from the side
    dock.table.clearSelection()
    dock.table.selectRow(0)
    assert 10 <= viewer.dims.point[2] <= 26
    assert viewer.camera.center[1] == 3
    assert 20 <= viewer.camera.center[2] <= 36


def test_one_image_is_refused(viewer, dock):
    viewer.add_image(np.zeros((64, 64)), name="one")
    viewer.add_labels(np.zeros((64, 64), int), name="its labels")
    dock.image.value, dock.labels.value = viewer.layers["one"], viewer.layers["its labels"]
    assert "two images" in dock.problem()
    assert not dock.panel.run_button.isEnabled()
    dock.image.value, dock.labels.value = viewer.layers["cells"], viewer.layers["drawn"]
    dock.reading.spatial_dims = 3
    assert dock.problem().endswith("Or choose 2-D, for its planes.")


def test_settings_that_cannot_be_are_told(dock):
    dock.form["epochs"].value = "-5"
    assert dock.panel.reason.text().startswith("Epochs should be greater than")
    assert not dock.panel.run_button.isEnabled()
    dock.form["epochs"].value = "2"
    assert dock.panel.run_button.isEnabled()
