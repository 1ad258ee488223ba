"""The dock of objects and measurements, clicked in a real napari window."""

import csv

import numpy as np
import pytest
from qtpy.QtCore import QItemSelectionModel

from napari_metastructure.labels.objects import measure, split
from napari_metastructure.plugin.layers import RECORD
from tests.plugin.conftest import assert_same_place

SCALE = (0.5, 0.5)


@pytest.fixture
def dock(placed_layers, open_dock):
    return open_dock("Objects and measurements")[1]


def measure_now(qtbot, dock):
    assert dock.panel.run_button.isEnabled(), dock.panel.reason.text()
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=30_000)
    return dock.viewer.layers[-1]


def test_objects_are_a_new_layer_with_features(qtbot, viewer, dock, placed_layers):
    image, labels = placed_layers
    dock.image.value = image
    dock.form["min_size"].value = 5
    found = measure_now(qtbot, dock)
    expected = split(labels.data, min_size=5, scale=SCALE)
    np.testing.assert_array_equal(found.data, expected)
    assert_same_place(found, labels)
    assert found.name == "mask objects"
    assert found.metadata[RECORD]["config"]["min_size"] == 5
    table = measure(expected, {"discs": image.data}, SCALE)
    assert dock.table["area"].tolist() == table["area"].tolist()
    assert dock.table["discs_mean"].tolist() == table["discs_mean"].tolist()
    assert found.features["index"].tolist() == list(range(expected.max() + 1))
    assert np.isnan(found.features["area"][0])
    assert f"{expected.max()} objects" in dock.found.text()
    assert "µm²" in dock.found.text()


def test_a_click_in_naparis_table_goes_to_the_object_in_its_frame(qtbot, viewer, dock):
    found = measure_now(qtbot, dock)
    last = int(found.data.max())
    plane, row, column = (int(np.median(axis)) for axis in np.nonzero(found.data == last))
    viewer.layers.selection = {found}
    _, widget = viewer.window.add_plugin_dock_widget("napari", "Features table widget")
    model = widget.table.model()
    assert model.sourceModel().df["index"].tolist() == list(range(last + 1))
    assert model.sourceModel().df["area"][last] == dock.table["area"].iloc[-1]
    widget.table.selectionModel().select(
        model.index(last, 1), QItemSelectionModel.SelectionFlag.ClearAndSelect
    )
    assert found.selected_label == last
    here = found.world_to_data(viewer.dims.point)
    assert round(here[0]) == plane == found.data.shape[0] - 1
    centre = found.world_to_data((viewer.dims.point[0], *viewer.camera.center[-2:]))
    assert np.hypot(centre[1] - row, centre[2] - column) < 8
    world = dock.table[["centroid_y", "centroid_x"]].iloc[-1]
    np.testing.assert_allclose(world, viewer.camera.center[-2:])


def test_preview_follows_the_form_and_the_plane(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    viewer.dims.set_current_step(0, 2)
    dock.form["smoothing"].value = 0.5
    qtbot.waitUntil(lambda: "objects preview" in viewer.layers, timeout=5000)
    plane = int(np.rint(labels.world_to_data(viewer.dims.point)[0]))
    expected = split(labels.data[plane], smoothing=0.5, scale=SCALE)
    preview = viewer.layers["objects preview"]
    np.testing.assert_array_equal(preview.data[0], expected)
    assert f"{expected.max()} objects on this plane" in dock.about.text()
    viewer.dims.set_current_step(0, 0)
    qtbot.waitUntil(lambda: not np.array_equal(preview.data[0], expected), timeout=5000)
    measure_now(qtbot, dock)
    assert "objects preview" not in viewer.layers
    assert dock.about.isHidden()  # what it said was of the preview


def test_sizes_tell_their_unit(qtbot, dock):
    assert label_of(dock.form, "smoothing") == "Smoothing [µm]"
    assert label_of(dock.form, "min_size") == "Smallest size [µm²]"
    measure_now(qtbot, dock)
    assert axis_of(dock.plot) == "area [µm²]"
    dock.column_box.value = "eccentricity"
    assert axis_of(dock.plot) == "eccentricity"
    dock.dims.value = 3
    assert label_of(dock.form, "max_size") == "Largest size [µm³]"


def label_of(form, name):
    return form.layout().labelForField(form[name].native).text()


def axis_of(plot):
    return plot.getAxis("bottom").labelText


def test_volumes_watershed_and_skeletons(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    dock.dims.value = 3
    assert not dock.form.is_shown("split_depth")
    dock.form["method"].value = "watershed"
    assert dock.form.is_shown("split_depth")
    assert not dock.form.is_shown("threshold")
    dock.skeleton.value = True
    found = measure_now(qtbot, dock)
    how = {"method": "watershed", "scale": (2, 0.5, 0.5)}
    np.testing.assert_array_equal(found.data, split(labels.data, **how))
    assert {"volume", "surface", "skeleton_length", "branch_points"} <= set(dock.table.columns)


def test_tables_and_histogram(qtbot, dock, tmp_path):
    measure_now(qtbot, dock)
    assert dock.plot.isVisible()
    assert "area" in dock.column_box.choices
    assert "centroid_y" not in dock.column_box.choices
    dock.column_box.value = "eccentricity"
    assert dock.plot.getAxis("bottom").labelText == "eccentricity"
    dock.save(tmp_path / "t.csv", dock.table)
    with open(tmp_path / "t.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(dock.table)
    dock.save(tmp_path / "s.csv", dock.summary)
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 5


def test_probabilities_and_no_object(qtbot, viewer, open_dock):
    dock = open_dock("Objects and measurements")[1]
    assert "Add a Labels layer" in dock.panel.reason.text()
    probability = np.zeros((30, 40), np.float32)
    viewer.add_image(probability, name="p")
    assert dock.form.is_shown("threshold")
    found = measure_now(qtbot, dock)
    assert found.data.max() == 0
    assert "0 objects" in dock.found.text()
    assert not dock.plot.isVisible()
    viewer.add_image(np.zeros((9, 9)), name="small")
    dock.image.value = viewer.layers["small"]
    assert "choose layers of the same pixels" in dock.panel.reason.text()
