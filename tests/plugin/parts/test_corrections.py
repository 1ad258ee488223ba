"""What is painted on a result stays when the result is made again."""

import numpy as np
import pytest

from napari_metastructure.plugin.parts.corrections import Corrections
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
