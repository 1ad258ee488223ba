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


@pytest.fixture
def touching():
    """Two planes of objects that touch, each numbered from 1."""
    labels = np.zeros((2, 32, 32), np.uint16)
    labels[0, 4:8, 2:30] = np.repeat(np.arange(1, 8), 4)
    labels[1, 4:8, 2:30] = np.repeat([1, 2, 3, 4, 5, 6, 4000], 4)
    return labels


def test_labels_that_number_objects_are_measured_as_they_are(qtbot, viewer, open_dock, touching):
    viewer.add_labels(touching, name="cells")
    dock = open_dock("Objects and measurements")[1]
    assert dock.form.is_shown("numbered")
    assert dock.numbered.value  # labels up to 4000 are no classes
    assert not dock.form.is_shown("min_size")
    found = measure_now(qtbot, dock)
    assert len(dock.table) == found.data.max() == 14
    assert dock.table["label"].tolist() == [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 4000]
    assert dock.table["area"].unique().tolist() == [16]
    assert dock.found.text().startswith("14 objects, mean area 16 ")
    assert found.features["axis_0"].dropna().tolist() == [0] * 7 + [1] * 7
    assert found.metadata[RECORD]["numbered"]
    assert dock.command() == "measure MASKS --numbered -o objects.csv"
    space = {"viewer": viewer}
    exec(dock.again.text(), space)
    np.testing.assert_array_equal(space["objects"], touching)


def test_numbers_that_occur_once_stay(qtbot, viewer, open_dock, touching):
    touching[1][touching[1] > 0] += 1000
    viewer.add_labels(touching, name="cells")
    dock = open_dock("Objects and measurements")[1]
    np.testing.assert_array_equal(measure_now(qtbot, dock).data, touching)
    assert "label" not in dock.table
    assert dock.found.text().startswith("14 objects")


def test_labels_that_become_one_mask_are_told(qtbot, viewer, open_dock, touching):
    viewer.add_labels(np.minimum(touching, 3), name="classes")
    dock = open_dock("Objects and measurements")[1]
    assert not dock.numbered.value
    told = "The labels 1 to 3 are taken as one mask: where they touch they are one object."
    assert dock.about.text() == told
    qtbot.waitUntil(dock.isVisible)
    dock.form["smoothing"].value = 0.1
    qtbot.waitUntil(lambda: dock.about.text().startswith("Preview: 1 object"), timeout=5000)
    assert dock.about.text().endswith(told)
    dock.numbered.value = True
    assert not dock.about.isVisibleTo(dock)
    assert "objects preview" not in viewer.layers
    viewer.layers[0].data = np.minimum(touching, 1)
    viewer.add_labels(np.minimum(touching, 1), name="mask")
    assert not dock.form.is_shown("numbered")


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


def test_colours_are_measured_one_by_one(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    colours = np.random.default_rng(0).integers(0, 255, (*labels.data.shape, 4), np.uint8)
    image = viewer.add_image(colours, rgb=True, name="stain")
    dock.image.value = image
    found = measure_now(qtbot, dock)
    for k, colour in enumerate(("red", "green", "blue")):
        expected = measure(found.data, colours[..., k], SCALE)["intensity_mean"]
        np.testing.assert_array_equal(dock.table[f"stain {colour}_mean"], expected)
    assert "alpha" not in " ".join(dock.table.columns)
    scope = {"viewer": viewer}
    exec(dock.again.text(), scope)  # as pasted into the console
    np.testing.assert_array_equal(scope["table"]["stain blue_mean"], dock.table["stain blue_mean"])


def test_the_dock_stays_narrow_for_columns_with_a_long_name(qtbot, dock, placed_layers):
    placed_layers[0].name = "a_name_<b>like_those_that_microscopes_make</b>_" * 3
    dock.image.value = placed_layers[0]
    before = dock.minimumSizeHint().width()
    measure_now(qtbot, dock)
    assert dock.minimumSizeHint().width() < before + 100
    dock.column_box.value = dock.column_box.choices[-1]
    assert axis_of(dock.plot).endswith(" max")  # the middle of the name is left out
    assert len(axis_of(dock.plot)) < len(placed_layers[0].name)
    placed_layers[0].name = "<b>a</b>"
    measure_now(qtbot, dock)
    dock.column_box.value = "<b>a</b>_mean"
    assert axis_of(dock.plot) == "&lt;b&gt;a&lt;/b&gt; mean"  # pyqtgraph takes HTML


def test_sizes_in_pixels_are_written_out(qtbot, viewer, open_dock):
    viewer.add_labels(np.ones((120, 150), np.uint8))
    dock = open_dock("Objects and measurements")[1]
    measure_now(qtbot, dock)
    assert "mean area 18000 pixel²" in dock.found.text()


def test_sizes_that_leave_no_object_are_told(dock):
    dock.form["max_size"].value = "3"
    dock.form["min_size"].value = 50_000  # as of large objects, or in nanometres
    assert dock.form["min_size"].value == 50_000
    assert dock.panel.reason.text().startswith("The smallest size (50000) is larger than the larg")
    dock.form["max_size"].value = "0"
    assert dock.panel.reason.text() == "Largest size [µm²] should be greater than 0, not 0.0."
