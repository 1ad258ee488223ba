"""What is painted on a result stays when the result is made again, and can be trained on."""

import threading

import numpy as np
import pytest

from napari_metastructure.files.fingerprint import digest
from napari_metastructure.plugin.layers import RECORD
from napari_metastructure.plugin.parts.corrections import Corrections, certain_labels
from tests.plugin.conftest import assert_same_place
from tests.plugin.docks.test_train import finish, set_up


@pytest.fixture
def mask(viewer):
    return viewer.add_labels(np.zeros((2, 20, 20), np.uint8))


@pytest.fixture
def corrections(mask):
    return Corrections(mask)


def test_strokes_stay_undo_and_redo_too(mask, corrections):
    mask.brush_size = 3
    mask.paint((0, 5, 5), 1)
    mask.paint((0, 15, 15), 1)
    first, second = mask.data[0, 5, 5], mask.data[0, 15, 15]
    assert first == second == 1
    corrections.show(np.zeros_like(mask.data))
    assert mask.data[0, 5, 5] == 1
    corrections.show(np.ones_like(mask.data))  # the strokes are as the rest, and still strokes
    corrections.show(np.zeros_like(mask.data))
    assert mask.data[0, 5, 5] == mask.data[0, 15, 15] == 1
    mask.undo()
    assert mask.data[0, 15, 15] == 0
    corrections.show(np.ones_like(mask.data))
    corrections.show(np.zeros_like(mask.data))
    assert mask.data[0, 5, 5] == 1
    assert mask.data[0, 15, 15] == 0
    mask.redo()
    corrections.show(np.zeros_like(mask.data))
    assert mask.data[0, 15, 15] == 1


def test_a_stroke_is_looked_for_on_its_plane(viewer, monkeypatch):
    mask = viewer.add_labels(np.zeros((2, 5, 20, 20), np.uint8))
    corrections, looked_at, changed = Corrections(mask), [], Corrections._changed

    def counted(self, plane):
        looked_at.append(plane)
        return changed(self, plane)

    monkeypatch.setattr(Corrections, "_changed", counted)
    mask.paint((1, 3, 5, 5), 1)
    mask.data_setitem((np.array([0, 0]), np.array([2, 2]), np.array([4, 5]), np.array([9, 9])), 2)
    assert looked_at == [(1, 3), (0, 2)]
    monkeypatch.undo()
    painted = corrections.painted()
    np.testing.assert_array_equal(painted, mask.data > 0)
    corrections.show(np.full_like(mask.data, 3))
    np.testing.assert_array_equal(mask.data == 3, ~painted)


def test_a_stroke_while_the_mask_is_copied_counts(mask, monkeypatch):
    go_on = threading.Event()

    def copy(array):
        go_on.wait(10)
        return array.copy()

    monkeypatch.setattr("napari_metastructure.plugin.parts.corrections._copy", copy)
    corrections = Corrections(mask)
    with mask.block_history():
        mask.paint((0, 5, 5), 1)
        mask.paint((0, 6, 5), 2)
        go_on.set()
        assert corrections._copying.result().any()  # with what is not yet a stroke
    np.testing.assert_array_equal(corrections.painted(), mask.data > 0)
    mask.undo()
    assert not corrections.painted().any()


@pytest.mark.parametrize("whole", [True, False])
def test_what_was_put_into_the_mask_counts(mask, corrections, whole):
    data = np.zeros_like(mask.data)
    data[1, 3:5] = 1
    if whole:
        mask.data = data
    else:
        mask.data[...] = data
    corrections.show(np.zeros_like(data))
    np.testing.assert_array_equal(mask.data, data)


def test_a_stroke_over_a_stroke_is_one_until_both_are_undone(mask, corrections):
    mask.paint((1, 9, 9), 1)
    mask.paint((1, 9, 9), 2)
    mask.undo()
    assert corrections.painted()[1, 9, 9]
    mask.undo()
    assert not corrections.painted().any()


def test_erasing_stays(mask, corrections):
    corrections.show(np.ones_like(mask.data))
    mask.paint((0, 5, 5), 0)
    corrections.show(np.ones_like(mask.data))
    assert mask.data[0, 5, 5] == 0
    assert mask.data[0, 15, 15] == 1


def test_the_threshold_of_the_dock_leaves_them(qtbot, viewer, placed_layers, open_dock):
    dock = set_up(open_dock("Train segmentation")[1], epochs=20)
    dock.panel.run_button.click()
    finish(qtbot, dock)
    finish(qtbot, dock)
    probability, result = viewer.layers[-2], viewer.layers[-1]
    empty = tuple(np.argwhere(np.asarray(probability.data) < 0.2)[0])
    result.brush_size = 1
    result.paint(empty, 1)
    before = int(result.data.sum())
    dock.models.threshold.value = 0.95
    qtbot.waitUntil(lambda: result.data.sum() < before, timeout=5000)
    expected = (probability.data > 0.95).astype(result.data.dtype)
    assert expected[empty] == 0
    expected[empty] = 1
    np.testing.assert_array_equal(result.data, expected)
    result.undo()
    assert result.data[empty] == 0


def test_corrected_planes_are_certain_and_others_keep_their_labels():
    mask = np.ones((3, 4, 4), np.uint8)
    painted = np.zeros(mask.shape, bool)
    painted[1, 0, 0] = True
    labels = np.zeros(mask.shape, np.uint8)
    found = certain_labels(mask, painted, labels)
    assert [plane.mean() for plane in found] == [0, 1, 0]
    found = certain_labels(mask, painted, None)
    assert [plane.mean() for plane in found] == [-1, 1, -1]
    assert (certain_labels(mask, painted, labels, spatial_dims=3) == 1).all()
    assert (certain_labels(mask[1], painted[1], None) == 1).all()


@pytest.mark.parametrize("noisy", [False, True])
def test_corrections_are_trained_on(qtbot, viewer, placed_layers, open_dock, noisy):
    image, labels = placed_layers
    dock = set_up(open_dock("Train segmentation")[1], epochs=2)
    if noisy:
        spec = {"kind": "flip", "ratio": 0.1, "seed": 0}
        labels.metadata = {RECORD: {"noise": [spec], "digest": digest(labels.data)}}
    dock.use_corrections()  # nothing yet: a notification
    assert dock.labels.value.name == "mask"
    dock.panel.run_button.click()
    finish(qtbot, dock)
    finish(qtbot, dock)
    result = viewer.layers[-1]
    for plane in (0, 2):
        result.paint((plane, 30, 30), 1 - int(result.data[plane, 30, 30]))
    expected = result.data.copy()
    dock.corrections_button.click()
    certain = dock.labels.value
    assert certain.name == f"{result.name} corrected"
    assert certain.metadata[RECORD]["planes"] == [0, 2]
    assert_same_place(certain, image)
    np.testing.assert_array_equal(certain.data[[0, 2]], expected[[0, 2]])
    rest = certain.data[[1, 3]]
    np.testing.assert_array_equal(rest, -1 if noisy else labels.data[[1, 3]])
    dock.image.value = image
    assert dock.panel.run_button.isEnabled(), dock.panel.reason.text()
    first = dock.models.model
    dock.panel.run_button.click()
    finish(qtbot, dock)
    assert "failed" not in dock.panel.status.text()
    assert dock.models.model is not first
