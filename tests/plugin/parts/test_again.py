"""What a dock says again: its snippet and its settings give the same layer as the dock."""

import numpy as np
import pytest
import yaml
from qtpy.QtWidgets import QApplication, QPlainTextEdit

import napari_metastructure as nms
from napari_metastructure.cli.main import main
from napari_metastructure.files.settings import read_settings
from napari_metastructure.plugin.layers import RECORD
from tests.plugin.conftest import assert_same_place

LONG = 100_000
SMALL = {"channels": 4, "depth": 3, "patch_size": 64, "batch_size": 2}


def run_dock(qtbot, dock):
    assert dock.panel.run_button.isEnabled(), dock.panel.reason.text()
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)


def run_snippet(dock):
    """Do what the snippet says; returns its names."""
    dock.again.copy_button.click()
    names = {"viewer": dock.viewer}
    exec(QApplication.clipboard().text(), names)
    return names


def run_command(dock, tmp_path, command, *inputs, ending="ome.tif"):
    """Run a command on arrays with the saved settings; returns the path of its output."""
    dock.again.save(tmp_path / "settings.yaml")
    paths = []
    for number, pixels in enumerate(inputs):
        paths.append(str(tmp_path / f"in_{number}.ome.tif"))
        data, scale = pixels
        nms.write(paths[-1], data, axes="zyx"[-data.ndim :], scale=scale)
    out = tmp_path / f"out.{ending}"
    settings = ["--settings", str(tmp_path / "settings.yaml"), "--quiet"]
    with pytest.raises(SystemExit) as end:
        main([command, *paths, "-o", str(out), *settings])
    assert end.value.code == 0
    return out


def test_corrupted_labels_by_snippet_and_command(qtbot, viewer, placed_layers, open_dock, tmp_path):
    _, labels = placed_layers
    dock = open_dock("Corrupt labels")[1]
    dock.form["kind"].value = "flip"
    dock.form["ratio"].value = 0.3
    run_dock(qtbot, dock)
    made = viewer.layers[-1]
    dock.labels.value = labels
    run_snippet(dock)
    again = viewer.layers[-1]
    assert again is not made
    assert again.name.startswith("mask flip 30 %")
    np.testing.assert_array_equal(again.data, made.data)
    assert_same_place(again, made)
    out = run_command(dock, tmp_path, "corrupt", (labels.data, labels.scale))
    np.testing.assert_array_equal(nms.read(out).data, made.data)


def test_one_corrupted_plane_by_snippet(qtbot, viewer, placed_layers, open_dock):
    _, labels = placed_layers
    dock = open_dock("Corrupt labels")[1]
    dock.scope.value = "this plane"
    viewer.dims.set_current_step(0, 2)
    run_dock(qtbot, dock)
    made = viewer.layers[-1]
    dock.labels.value = labels
    run_snippet(dock)
    np.testing.assert_array_equal(viewer.layers[-1].data, made.data)
    assert (made.data != labels.data).any()


def test_densities_by_snippet_and_command(qtbot, viewer, placed_layers, open_dock, tmp_path):
    _, labels = placed_layers
    dock = open_dock("Density distributions")[1]
    dock.radius.value = 4
    dock.classes.value = "all"
    run_dock(qtbot, dock)
    made = viewer.layers[-1]
    run_snippet(dock)
    again = viewer.layers[-1]
    assert again is not made
    assert again.contrast_limits == made.contrast_limits
    np.testing.assert_array_equal(again.data, made.data)
    assert_same_place(again, made)
    out = run_command(dock, tmp_path, "density", (labels.data, labels.scale))
    np.testing.assert_array_equal(nms.read(out).data[-1], made.data)


def test_a_residual_by_snippet(qtbot, viewer, placed_layers, open_dock):
    _, labels = placed_layers
    noisy = nms.corrupt(labels.data, "flip", ratio=0.2, seed=1)
    other = viewer.add_labels(noisy, name="noisy", scale=labels.scale)
    dock = open_dock("Density distributions")[1]
    dock.labels.value, dock.mode.value, dock.clean.value = other, "residual in sigma", labels
    run_dock(qtbot, dock)
    made = viewer.layers[-1]
    run_snippet(dock)
    np.testing.assert_array_equal(viewer.layers[-1].data, made.data)


def test_a_comparison_by_snippet(qtbot, viewer, placed_layers, open_dock):
    _, labels = placed_layers
    other = viewer.add_labels(nms.corrupt(labels.data, "erode", radius=1), name="eroded")
    dock = open_dock("Compare labels")[1]
    dock.reference.value, dock.other.value = labels, other
    dock.objects.value, dock.errors.value = "connected parts", True
    run_dock(qtbot, dock)
    made = viewer.layers[-1]
    names = run_snippet(dock)
    assert names["found"].scores["dice"] == dock.found.scores["dice"]
    np.testing.assert_array_equal(viewer.layers[-1].data, made.data)
    assert dock.again.save_button.isHidden()  # the command has no settings


def test_objects_by_snippet_and_command(qtbot, viewer, placed_layers, open_dock, tmp_path):
    import pandas as pd

    image, labels = placed_layers
    dock = open_dock("Objects and measurements")[1]
    dock.image.value = image
    dock.form["method"].value, dock.form["min_size"].value = "watershed", 3
    run_dock(qtbot, dock)
    made = viewer.layers[-1]
    dock.mask.value = labels
    names = run_snippet(dock)
    again = viewer.layers[-1]
    assert again is not made
    np.testing.assert_array_equal(again.data, made.data)
    assert_same_place(again, made)
    assert names["table"]["area"].tolist() == dock.table["area"].tolist()
    assert again.features["area"][1:].tolist() == made.features["area"][1:].tolist()
    out = run_command(dock, tmp_path, "measure", (labels.data, labels.scale), ending="csv")
    np.testing.assert_allclose(pd.read_csv(out)["area"], dock.table["area"])


def assert_same_mask(found, expected):
    """The same but for rounding, which can differ between threads: a pixel at the threshold."""
    assert found.shape == expected.shape
    assert np.mean(found != expected) < 1e-3


def test_a_training_by_snippet_and_command(qtbot, viewer, placed_layers, open_dock, tmp_path):
    image, labels = placed_layers
    dock = open_dock("Train segmentation")[1]
    dock.form.set_values({"epochs": 3, "seed": 0})
    dock.advanced.set_values({**SMALL, "min_steps": 1})
    run_dock(qtbot, dock)
    made = viewer.layers[-1]
    dock.image.value, dock.labels.value = image, labels
    run_snippet(dock)
    again = viewer.layers[-1]
    assert again is not made
    assert_same_mask(again.data, made.data)
    assert_same_place(again, made)
    inputs = [(layer.data, layer.scale) for layer in (image, labels)]
    out = run_command(dock, tmp_path, "train", *inputs, ending="safetensors")
    assert_same_mask(nms.load_model(out, "cpu").segment(image.data), made.data)


def test_a_segmentation_by_snippet_and_command(qtbot, viewer, placed_layers, open_dock, tmp_path):
    image, _ = placed_layers
    dock = open_dock("Segment with few or no labels")[1]
    dock.form.set_values({"seed": 0, "polarity": "bright", "epochs": 2})
    dock.advanced.set_values({**SMALL, "min_steps": 20})
    run_dock(qtbot, dock)
    made = viewer.layers[-1]
    run_snippet(dock)
    again = viewer.layers[-1]
    assert again is not made
    assert_same_mask(again.data, made.data)
    assert_same_place(again, made)
    out = run_command(dock, tmp_path, "segment", (image.data, image.scale))
    assert_same_mask(nms.read(out).data, made.data)


def test_strokes_in_a_region_by_snippet(qtbot, viewer, placed_layers, open_dock):
    image, labels = placed_layers
    rectangle = np.array([[0, 5, 5], [0, 5, 55], [0, 60, 55], [0, 60, 5]], float)
    viewer.add_shapes(
        [rectangle],
        name="region",
        affine=image.affine,
        **{
            name: getattr(image, name)
            for name in ("scale", "translate", "rotate", "shear", "units")
        },
    )
    dock = open_dock("Segment with few or no labels")[1]
    dock.form.set_values({"seed": 0, "epochs": 1})
    dock.advanced.set_values({**SMALL, "min_steps": 20})
    dock.reading.form["region"].value = viewer.layers["region"]
    dock.reading.form["every_plane"].value = True
    dock.strokes.live_box.setChecked(False)
    dock.strokes.paint()
    strokes = dock.strokes.layer
    strokes.data[1, ::9] = labels.data[1, ::9] + 1
    strokes.events.set_data()
    run_dock(qtbot, dock)
    made = viewer.layers[-2]  # the strokes lie on top
    assert made.name.startswith("discs segmentation")
    run_snippet(dock)
    assert_same_mask(viewer.layers[-1].data, made.data)
    assert_same_place(viewer.layers[-1], made)


def test_a_sweep_by_snippet_and_settings(qtbot, placed_layers, open_dock, tmp_path):
    dock = open_dock("Noise sweep")[1]
    values = {"sample": (0.5,), "flip": (), "dilate": (), "erode": (), "seeds": 1, "epochs": 1}
    dock.form.set_values({**values, "skeletonize": False, "random": False})
    dock.advanced.set_values({**SMALL, "min_steps": 2})
    run_dock(qtbot, dock)
    names = run_snippet(dock)
    dice = [[row["dice"] for row in one.table] for one in (dock.sweep, names["sweep"])]
    assert dice[0] == dice[1]
    dock.again.save(tmp_path / "s.yaml")
    assert nms.SweepConfig(**read_settings(tmp_path / "s.yaml")) == dock.config()


def test_the_record_opens_as_text(qtbot, viewer, placed_layers, open_dock, capsys):
    dock = open_dock("Corrupt labels")[1]
    assert dock.again.show_record() is None  # none yet, and a notification says so
    run_dock(qtbot, dock)
    window = dock.again.show_record()
    text = window.findChild(QPlainTextEdit).toPlainText()
    assert yaml.safe_load(text)["operation"] == "corrupt"
    assert window.windowTitle().startswith("How mask sample")
    assert RECORD in viewer.layers[-1].metadata


def test_what_cannot_run_is_not_said(viewer, open_dock, tmp_path):
    dock = open_dock("Corrupt labels")[1]
    with pytest.raises(ValueError, match="Add a Labels layer"):
        dock.again.text()
    dock.again.save(tmp_path / "s.yaml")
    assert not (tmp_path / "s.yaml").exists()
