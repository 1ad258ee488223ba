"""The corruption dock, clicked in a real napari window."""

import dask.array as da
import numpy as np
import pytest

from napari_metastructure.labels import transition
from napari_metastructure.labels.noise import NoiseSpec, corrupt
from napari_metastructure.plugin.layers import RECORD, plane_index
from tests.plugin.conftest import assert_same_place


@pytest.fixture
def dock(placed_layers, open_dock):
    return open_dock("Corrupt labels")[1]


def corrupt_now(qtbot, dock):
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=20_000)


def set_flip(dock, ratio=0.4, seed="7"):
    dock.form["kind"].value = "flip"
    dock.form["ratio"].value = ratio
    dock.form["seed"].value = seed


def test_result_is_a_new_layer_with_place_and_record(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    before = labels.data.copy()
    set_flip(dock)
    corrupt_now(qtbot, dock)
    noisy = viewer.layers[-1]
    np.testing.assert_array_equal(noisy.data, corrupt(before, "flip", ratio=0.4, seed=7))
    np.testing.assert_array_equal(labels.data, before)
    assert noisy.name == "mask flip 40 % (seed 7)"
    assert_same_place(noisy, labels)
    record = noisy.metadata[RECORD]
    assert NoiseSpec(**record["noise"][0]) == NoiseSpec(kind="flip", ratio=0.4, seed=7)
    assert record["changed"] == pytest.approx(np.mean(noisy.data != before))
    assert f"{100 * record['changed']:.1f} %" in dock.changed.text()


def test_preview_shows_the_plane_of_the_result_and_goes_away(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    viewer.dims.set_current_step(0, 2)
    set_flip(dock)
    qtbot.waitUntil(lambda: "corruption preview" in viewer.layers, timeout=5000)
    qtbot.wait(400)
    preview = viewer.layers["corruption preview"]
    plane = int(np.rint(labels.world_to_data(viewer.dims.point)[0]))
    np.testing.assert_array_equal(
        preview.data[0], corrupt(labels.data, "flip", ratio=0.4, seed=7)[plane]
    )
    np.testing.assert_allclose(
        preview.data_to_world((0, 5, 6)), labels.data_to_world((plane, 5, 6))
    )
    assert not labels.visible
    corrupt_now(qtbot, dock)
    assert "corruption preview" not in viewer.layers


def test_the_preview_is_there_from_the_beginning_and_again_with_its_tab(
    qtbot, viewer, dock, placed_layers, open_dock
):
    def has_preview():
        return "corruption preview" in viewer.layers

    qtbot.waitUntil(has_preview, timeout=5000)
    assert "Rank 2 of 2" in dock.verdict.text()
    _, other = open_dock("Objects and measurements")
    qtbot.waitUntil(lambda: not has_preview(), timeout=5000)
    assert placed_layers[1].visible
    dock._frame().raise_()
    qtbot.waitUntil(has_preview, timeout=5000)
    corrupt_now(qtbot, dock)
    other._frame().raise_()
    qtbot.wait(300)
    dock._frame().raise_()
    qtbot.wait(500)
    assert not has_preview()  # the result is there


def test_labels_are_seen_again_when_the_preview_is_deleted(qtbot, viewer, dock, placed_layers):
    qtbot.waitUntil(lambda: "corruption preview" in viewer.layers, timeout=5000)
    assert not placed_layers[1].visible
    viewer.layers.remove("corruption preview")
    assert placed_layers[1].visible


def test_closing_the_dock_removes_the_preview(qtbot, viewer, placed_layers, open_dock):
    window, dock = open_dock("Corrupt labels")
    qtbot.waitUntil(dock.isVisible)
    set_flip(dock)
    qtbot.waitUntil(lambda: "corruption preview" in viewer.layers, timeout=5000)
    viewer.window.remove_dock_widget(window)
    assert "corruption preview" not in viewer.layers
    assert placed_layers[1].visible


def test_this_plane_leaves_the_others(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    set_flip(dock)
    dock.scope.value = "this plane"
    corrupt_now(qtbot, dock)
    noisy = viewer.layers[-1]
    plane = int(np.rint(labels.world_to_data(viewer.dims.point)[0]))
    differs = (noisy.data != labels.data).any(axis=(1, 2))
    assert differs.tolist() == [index == plane for index in range(4)]
    assert not noisy.metadata[RECORD]["whole"]


def test_only_the_fields_of_the_kind_are_shown(dock):
    shown = {}
    for kind in dock.form["kind"].choices:
        dock.form["kind"].value = kind
        shown[kind] = {n for n in ("fraction", "ratio", "radius", "seed") if dock.form.is_shown(n)}
    assert shown["sample"] == {"fraction", "seed"}
    assert shown["flip"] == {"ratio", "seed"}
    assert shown["dilate"] == {"radius"}
    assert shown["skeletonize"] == set()


def test_a_class_can_be_chosen(qtbot, viewer, open_dock):
    labels = viewer.add_labels(np.tile(np.arange(3, dtype=np.uint8), (60, 20)), name="three")
    _, dock = open_dock("Corrupt labels")
    dock.form["kind"].value = "sample"
    assert dock.only_class.choices == ("all", "1", "2")
    dock.only_class.value = "2"
    corrupt_now(qtbot, dock)
    noisy = viewer.layers[-1].data
    assert np.array_equal(noisy == 1, labels.data == 1)
    assert (noisy == 2).sum() < (labels.data == 2).sum()


def test_chain_of_corruptions_is_recorded(qtbot, viewer, dock):
    set_flip(dock)
    corrupt_now(qtbot, dock)
    dock.labels.value = viewer.layers[-1]
    dock.form["kind"].value = "sample"
    corrupt_now(qtbot, dock)
    assert [s["kind"] for s in viewer.layers[-1].metadata[RECORD]["noise"]] == ["flip", "sample"]


def preview_now(dock):
    dock._timer.stop()
    dock._show_preview()


def test_matrix_and_verdict_follow_the_parameters(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    qtbot.waitUntil(dock.isVisible)
    for ratio, word in {0.3: "Preserved", 0.5: "Lost", 0.8: "inverted"}.items():
        set_flip(dock, ratio)
        preview_now(dock)
        wanted = [[1 - ratio, ratio], [ratio, 1 - ratio]]
        np.testing.assert_allclose(dock.matrix.matrix(), wanted, atol=6e-4)
        assert word in dock.verdict.text()
        assert f"Rank {1 if ratio == 0.5 else 2} of 2" in dock.verdict.text()
        assert "closed form" in dock.verdict.text()
    dock.form["kind"].value, dock.form["radius"].value = "dilate", 2
    preview_now(dock)
    plane = labels.data[plane_index(labels, viewer)]
    counted = transition.estimate(plane, corrupt(plane, "dilate", radius=2))
    np.testing.assert_allclose(dock.matrix.matrix(), counted, atol=6e-4)
    assert "borders moved" in dock.verdict.text()
    assert "counted on this plane" in dock.verdict.text()
    assert not dock.matrix.editable


def test_matrix_can_be_typed_in(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    dock.form["kind"].value = "transition"
    assert dock.matrix.editable
    dock.matrix.item(0, 0).setText("0.7")
    assert "Row 0 of the transition matrix must sum to 1" in dock.panel.reason.text()
    assert not dock.panel.run_button.isEnabled()
    for index, text in {(0, 1): "0.3", (1, 0): "0", (1, 1): "1"}.items():
        dock.matrix.item(*index).setText(text)
    assert dock.panel.run_button.isEnabled()
    corrupt_now(qtbot, dock)
    matrix = [[0.7, 0.3], [0, 1]]
    np.testing.assert_array_equal(
        viewer.layers[-1].data, corrupt(labels.data, "transition", matrix=matrix, seed=0)
    )
    dock.matrix.item(0, 0).setText("a")
    assert not dock.panel.run_button.isEnabled()
    dock.form["kind"].value = "sample"
    assert dock.panel.run_button.isEnabled()
    assert not dock.matrix.editable


def test_matrix_has_the_classes_of_the_layer(qtbot, viewer, open_dock):
    viewer.add_labels(np.tile(np.arange(3, dtype=np.uint8), (60, 20)), name="three")
    mask = viewer.add_labels(np.tile(np.uint8([0, 255]), (60, 30)), name="mask")
    _, dock = open_dock("Corrupt labels")
    qtbot.waitUntil(dock.isVisible)
    dock.labels.value = viewer.layers["three"]
    set_flip(dock, 0.4)
    preview_now(dock)
    np.testing.assert_allclose(dock.matrix.matrix(), 0.2 + 0.4 * np.eye(3), atol=6e-4)
    dock.form["kind"].value = "transition"
    assert np.shape(dock.matrix.matrix()) == (3, 3)
    dock.labels.value = mask
    assert np.shape(dock.matrix.matrix()) == (2, 2)
    assert dock.matrix.verticalHeaderItem(1).text() == "255"
    corrupt_now(qtbot, dock)
    assert set(np.unique(viewer.layers[-1].data)) == {0, 255}


def test_without_labels_the_button_says_why(viewer, open_dock):
    _, dock = open_dock("Corrupt labels")
    assert not dock.panel.run_button.isEnabled()
    assert "Add a Labels layer" in dock.panel.reason.text()
    viewer.add_labels(np.ones((8, 8), np.uint8))
    assert dock.panel.run_button.isEnabled()


def test_labels_with_gaps_have_a_row_for_each_that_occurs(qtbot, viewer, open_dock):
    """A few numbered objects of many that were there once, say."""
    labels = np.kron(np.int32([[0, 1, 0], [7, 0, 70_012]]), np.ones((20, 20), np.int32))
    viewer.add_labels(labels, name="cells")
    _, dock = open_dock("Corrupt labels")
    qtbot.waitUntil(dock.isVisible)
    set_flip(dock, 0.3)
    preview_now(dock)
    rows = [dock.matrix.verticalHeaderItem(row).text() for row in range(dock.matrix.rowCount())]
    assert rows == ["0", "1", "7", "70012"]
    np.testing.assert_allclose(np.diag(dock.matrix.matrix()), 0.7)
    assert "all 4 classes can be learnt" in dock.verdict.text()
    dock.form["kind"].value, dock.form["radius"].value = "dilate", 2
    preview_now(dock)
    assert "counted on this plane" in dock.verdict.text()
    dock.form["kind"].value = "transition"
    assert dock.matrix.isHidden()
    assert "labels up to 70012" in dock.panel.reason.text()
    dock.form["kind"].value = "sample"
    assert dock.panel.run_button.isEnabled()


def test_another_layer_is_previewed_when_it_is_chosen(qtbot, viewer, dock, placed_layers):
    corrupt_now(qtbot, dock)
    assert "of the pixels changed" in dock.changed.text()
    lazy = viewer.add_labels(da.from_array(placed_layers[1].data, chunks=(1, 64, 64)), name="lazy")
    dock.labels.value = lazy
    assert dock.changed.isHidden()  # it was about the other
    qtbot.waitUntil(lambda: "Preview: " in dock.changed.text(), timeout=5000)
