"""Where our docks stand in the window, and what they offer before there are layers."""

import numpy as np
import pytest
from qtpy.QtWidgets import QScrollArea
from superqt import QCollapsible


def test_docks_of_ours_share_a_tab(qtbot, viewer, open_dock):
    viewer.window.resize(1280, 720)
    first, _ = open_dock("Compare labels")
    second, _ = open_dock("Noise sweep")
    window = first.parent()
    qtbot.waitUntil(lambda: second in window.tabifiedDockWidgets(first))
    qtbot.waitUntil(lambda: second.isVisible() and not second.visibleRegion().isEmpty())


@pytest.mark.parametrize("name", ["Train segmentation", "Noise sweep"])
def test_nothing_is_cut_off_at_the_right(qtbot, viewer, placed_layers, open_dock, name):
    viewer.window.resize(1280, 720)
    _, dock = open_dock(name)
    for group in dock.findChildren(QCollapsible):
        group.expand(animate=False)
    column = dock.findChild(QScrollArea)
    qtbot.waitUntil(column.verticalScrollBar().isVisible)
    inner = column.widget()
    qtbot.waitUntil(lambda: column.viewport().width() >= inner.minimumSizeHint().width())


def test_an_empty_viewer_is_offered_a_sample(qtbot, viewer, open_dock):
    _, dock = open_dock("Train segmentation")
    qtbot.waitUntil(dock.sample_button.isVisible)
    dock.sample_button.click()
    assert [layer.name for layer in viewer.layers] == ["ER", "ER labels"]
    assert dock.sample_button.isHidden()
    assert dock.panel.run_button.isEnabled()  # the layers are chosen already


def test_two_boxes_do_not_start_with_the_same_layer(viewer, open_dock):
    viewer.add_labels(np.ones((8, 8), int), name="clean")
    _, dock = open_dock("Compare labels")
    assert dock.other.value is dock.reference.value  # there is no other
    viewer.add_labels(np.ones((8, 8), int), name="noisy")
    assert (dock.reference.value.name, dock.other.value.name) == ("clean", "noisy")


def test_a_mask_that_opened_as_an_image_is_told_of(viewer, open_dock):
    _, dock = open_dock("Corrupt labels")
    assert "Convert to Labels" not in dock.problem()
    viewer.add_image(np.eye(16, dtype=bool))
    assert dock.problem().endswith("right-click its layer, Convert to Labels.")
