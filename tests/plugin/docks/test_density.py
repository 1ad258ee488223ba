"""The density dock, clicked in a real napari window."""

import time

import numpy as np
import pytest

from napari_metastructure import corrupt
from napari_metastructure.files.fingerprint import digest
from napari_metastructure.labels import density, transition
from napari_metastructure.labels.noise import NoiseSpec
from napari_metastructure.labels.planewise import noise_between
from napari_metastructure.plugin.layers import RECORD, place_plane
from tests.plugin.conftest import assert_same_place

PREVIEW = "density preview"
EXPECTED, RESIDUAL = "expected from clean layer + noise", "residual in sigma"
SCALE = (4, 1, 1)  # of the placed layers, in pixels along x


@pytest.fixture
def dock(placed_layers, open_dock):
    return open_dock("Density distributions")[1]


def compute(qtbot, dock):
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=30_000)


def noisy_layer(viewer, labels, record=True, **spec):
    spec = NoiseSpec(**spec)
    noisy = corrupt(labels.data, spec)
    record = {"noise": [spec.model_dump(mode="json")], "digest": digest(noisy)} if record else None
    metadata = {RECORD: record} if record else {}
    return viewer.add_labels(noisy, name="noisy", metadata=metadata)


def wait_for_preview(qtbot, dock):
    dock._timer.stop()
    dock._show_preview()
    qtbot.waitUntil(lambda: dock._computing is None, timeout=10_000)


def test_density_of_the_stack_is_a_placed_layer_with_a_record(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    dock.radius.value = 5
    compute(qtbot, dock)
    layer = viewer.layers[-1]
    np.testing.assert_array_equal(layer.data, density.observed(labels.data, 5, classes=[1])[0])
    assert layer.name == "mask density of 1 (5 px)"
    assert layer.data.dtype == np.float32
    assert_same_place(layer, labels)
    assert layer.colormap.name == "viridis"
    assert layer.contrast_limits == [0, 1]
    record = layer.metadata[RECORD]
    assert (record["source"], record["class"], record["show"]) == ("mask", 1, "observed")
    assert record["density"]["radius"] == 5


def test_preview_is_the_plane_of_the_result_and_goes_away(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    viewer.dims.set_current_step(0, 2)
    qtbot.waitUntil(dock.isVisible)
    dock.radius.value = 7
    qtbot.waitUntil(lambda: PREVIEW in viewer.layers, timeout=10_000)
    preview = viewer.layers[PREVIEW]
    for radius in (7, 3):
        dock.radius.value = radius
        wait_for_preview(qtbot, dock)
        plane = int(np.rint(labels.world_to_data(viewer.dims.point)[0]))
        found = density.observed(labels.data[plane], radius, classes=[1])
        np.testing.assert_array_equal(preview.data, found)
    np.testing.assert_allclose(
        preview.data_to_world((0, 5, 6)), labels.data_to_world((plane, 5, 6))
    )
    assert "7 × 7 pixels (3.5 × 3.5 µm)" in dock.about.text()
    assert labels.visible
    compute(qtbot, dock)
    assert PREVIEW not in viewer.layers


def test_nothing_shows_through_previews(viewer, placed_layers, open_dock):
    """Labels, images or maps of other classes would change the colours, which stand for shares."""
    dock = open_dock("Density distributions")[1]
    dock._preview.draw(placed_layers[0].data[0], place_plane(placed_layers[0], (0,)))
    assert viewer.layers[PREVIEW].opacity == 1


def test_closing_the_dock_removes_the_preview(qtbot, viewer, placed_layers, open_dock):
    window, dock = open_dock("Density distributions")
    qtbot.waitUntil(dock.isVisible)
    dock.radius.value = 4
    qtbot.waitUntil(lambda: PREVIEW in viewer.layers, timeout=10_000)
    viewer.window.remove_dock_widget(window)
    assert PREVIEW not in viewer.layers


def test_volumes_go_slab_by_slab_with_the_layers_scale(qtbot, viewer, open_dock):
    volume = np.random.default_rng(0).integers(0, 3, (21, 30, 20)).astype(np.uint8)
    viewer.add_labels(volume, scale=(2, 0.5, 0.5), name="volume")
    dock = open_dock("Density distributions")[1]
    dock.form["spatial_dims"].value = 3
    dock.radius.value, dock.classes.value = 8, "2"
    viewer.dims.set_current_step(0, 11)
    for kernel in ("box", "gaussian"):
        dock.form["kernel"].value = kernel
        window = {"kernel": kernel, "spatial_dims": 3, "scale": SCALE}
        whole = density.observed(volume, 8, classes=[2], **window)[0]
        dock.scope.value = "whole stack"
        compute(qtbot, dock)
        np.testing.assert_allclose(viewer.layers[-1].data, whole, atol=1e-5)
        dock.scope.value = "this plane"
        compute(qtbot, dock)
        np.testing.assert_allclose(viewer.layers[-1].data[0], whole[11], atol=1e-5)


def test_each_class_gets_a_layer(qtbot, viewer, open_dock, turns):
    labels = np.tile(np.arange(3, dtype=np.uint8), (60, 20))
    labels[:, 30:][labels[:, 30:] == 2] = 0
    viewer.add_labels(labels, name="three")
    dock = open_dock("Density distributions")[1]
    assert dock.classes.choices == ("foreground", "all", "0", "1", "2")
    assert not dock.form.is_shown("scope")
    dock.classes.value = "all"
    compute(qtbot, dock)
    maps = np.stack([layer.data for layer in viewer.layers[1:]])
    assert len(maps) == 3
    assert len({number for _, number in turns[1:]}) == 3  # other events come between two layers
    np.testing.assert_allclose(maps.sum(0), 1, atol=1e-6)
    dock.classes.value = "2"
    compute(qtbot, dock)
    np.testing.assert_array_equal(viewer.layers[-1].data, maps[2])


@pytest.mark.parametrize("mode", ["observed", RESIDUAL])
def test_numbered_objects_are_one_class(qtbot, viewer, open_dock, mode):
    objects = np.zeros((2, 64, 64), np.int32)
    objects[:, ::4, ::4] = 7 * np.arange(1, 257).reshape(16, 16)
    moved = np.roll(objects, 1, 1)
    viewer.add_labels(objects, name="objects")
    viewer.add_labels(moved, name="moved")
    dock = open_dock("Density distributions")[1]
    dock.labels.value, dock.mode.value = viewer.layers["moved"], mode
    if mode == RESIDUAL:
        dock.clean.value = viewer.layers["objects"]
    compute(qtbot, dock)
    assert len(viewer.layers) == 3
    assert " of 1 (10 px)" in viewer.layers[-1].name
    if mode == "observed":
        expected = density.observed((moved > 0).astype(np.uint8), 10, classes=[1])[0]
        np.testing.assert_array_equal(viewer.layers[-1].data, expected)


def test_a_class_that_a_plane_lacks_has_density_zero_there(qtbot, viewer, open_dock):
    labels = np.zeros((2, 16, 16), np.uint8)
    labels[1, 4:8] = 255
    viewer.add_labels(labels)
    dock = open_dock("Density distributions")[1]
    compute(qtbot, dock)
    assert viewer.layers[-1].name.endswith("density of 255 (10 px)")
    assert viewer.layers[-1].data[0].max() == 0 < viewer.layers[-1].data[1].max()


def test_residual_takes_the_matrix_from_the_record(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    noisy = noisy_layer(viewer, labels, kind="flip", ratio=0.4, seed=1)
    dock.labels.value, dock.clean.value, dock.mode.value = noisy, labels, RESIDUAL
    compute(qtbot, dock)
    layer = viewer.layers[-1]
    matrix = np.array([[0.6, 0.4], [0.4, 0.6]])
    np.testing.assert_allclose(layer.metadata[RECORD]["matrix"], matrix)
    wanted = density.residual(noisy.data, labels.data, matrix, 10, in_sigma=True)[1]
    np.testing.assert_allclose(layer.data, wanted, atol=1e-5)
    assert layer.contrast_limits == [-5, 5]
    assert "flip 40 % (seed 1)" in dock.about.text()
    share = 100 * np.mean(np.abs(wanted) < 3)
    assert f"{share:.1f} % of the pixels" in dock.about.text()
    assert share > 99


def test_expected_counts_where_the_record_does_not_tell(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    dock.clean.value, dock.mode.value = labels, EXPECTED
    for record, spec in [(True, {"kind": "dilate"}), (False, {"kind": "flip", "seed": 1})]:
        noisy = noisy_layer(viewer, labels, record, **spec)
        dock.labels.value = noisy
        compute(qtbot, dock)
        matrix = transition.estimate(labels.data, noisy.data)
        wanted = density.expected(labels.data, matrix, 10)[1]
        np.testing.assert_allclose(viewer.layers[-1].data, wanted, atol=1e-5)
        assert "counted" in dock.about.text()


def test_noise_that_the_clean_layer_has_too_does_not_count():
    flip, sample = {"kind": "flip"}, {"kind": "sample"}
    assert noise_between([flip], [flip, sample]) == [sample]
    assert noise_between(None, [flip]) == [flip]
    assert noise_between([sample], [flip, sample]) is None
    assert noise_between(None, None) is None


def test_reasons_why_it_cannot_run(viewer, open_dock):
    _, dock = open_dock("Density distributions")
    assert "Add a Labels layer" in dock.panel.reason.text()
    labels = viewer.add_labels(np.ones((8, 8), np.uint8), name="eight")
    assert dock.panel.run_button.isEnabled()
    dock.mode.value = RESIDUAL
    assert "Choose the clean labels" in dock.panel.reason.text()
    dock.labels.value = viewer.add_labels(np.ones((9, 9), np.uint8), name="nine")
    dock.clean.value = labels
    assert "eight has shape (8, 8) but nine has (9, 9)" in dock.panel.reason.text()
    viewer.layers.clear()
    assert "Add a Labels layer" in dock.panel.reason.text()


def test_large_stack_leaves_the_window_alive_and_stops(qtbot, viewer, open_dock):
    labels = np.zeros((24, 1024, 1024), np.uint8)
    labels[:, ::3] = 1
    viewer.add_labels(labels)
    _, dock = open_dock("Density distributions")
    done = []
    dock.panel.yielded.connect(lambda event: done.append(time.monotonic()))
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: len(done) > 26, timeout=20_000)
    dock.panel.pause_button.click()
    qtbot.waitUntil(lambda: dock.panel.pause_button.text() == "Resume", timeout=5000)
    dock.panel.stop_button.click()
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=5000)
    assert len(viewer.layers) == 1


def test_another_layer_is_previewed_when_it_is_chosen(qtbot, viewer, dock, placed_layers):
    other = viewer.add_labels(placed_layers[1].data[::-1].copy(), name="other")
    dock.labels.value = other
    qtbot.waitUntil(lambda: "Preview of class" in dock.about.text(), timeout=5000)


def test_few_labels_with_large_numbers_are_one_mask(qtbot, viewer, open_dock):
    labels = np.kron(np.int32([[0, 1, 0], [7, 0, 70_012]]), np.ones((20, 20), np.int32))
    viewer.add_labels(labels, name="cells")
    viewer.add_labels(labels.copy(), name="clean")
    dock = open_dock("Density distributions")[1]
    dock.labels.value, dock.clean.value = viewer.layers["cells"], viewer.layers["clean"]
    dock.mode.value = "residual in sigma"
    compute(qtbot, dock)
    assert [one.name for one in viewer.layers[2:]] == ["cells residual of 1 (10 px)"]


def test_what_was_said_goes_when_it_cannot_run(qtbot, viewer, dock, placed_layers):
    dock.radius.value += 1
    qtbot.waitUntil(lambda: "Preview of class" in dock.about.text(), timeout=5000)
    dock.mode.value = "residual in sigma"  # there are no clean labels
    assert not dock.panel.run_button.isEnabled()
    assert dock.about.isHidden()
