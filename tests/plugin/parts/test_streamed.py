"""Predictions of lazy layers, written to OME-Zarr and shown while they grow."""

import time

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.plugin.layers import RECORD
from tests.plugin.conftest import PLACED, assert_same_place

zarr = pytest.importorskip("zarr")
LONG = 120_000


def model_of(classes, spatial_dims=2):
    return SegmentationModel(
        {
            "network": "unet",
            "spatial_dims": spatial_dims,
            "in_channels": 1,
            "out_channels": 1 if len(classes) == 2 else len(classes),
            "channels": 4,
            "depth": 3,
        },
        classes,
        seed=0,
    )


@pytest.fixture
def lazy_layer(viewer, stack, tmp_path):
    image, _ = stack
    pixels = zarr.create_array(str(tmp_path / "in.zarr"), data=image, chunks=(1, 64, 64))
    return viewer.add_image(pixels, name="discs", **PLACED)


@pytest.fixture
def models(lazy_layer, open_dock, tmp_path):
    models = open_dock("Train segmentation")[1].models
    models.folder.value = tmp_path
    return models


def finish(qtbot, models):
    qtbot.waitUntil(lambda: not models.panel.running, timeout=LONG)


def test_probability_is_on_disk_and_the_mask_follows_the_threshold(
    qtbot, viewer, models, lazy_layer, stack, tmp_path
):
    from napari_metastructure.files.ome_zarr import open_image

    model = model_of([0, 1])
    models.take(model, "made up")
    assert models.form.is_shown("folder")
    models.predict_button.click()
    probability, mask = viewer.layers[-2:]
    assert probability.name == "discs probability (made up), partial"
    assert isinstance(probability.data, zarr.Array)
    finish(qtbot, models)
    assert probability.name == "discs probability (made up)"
    assert mask.name == "discs segmentation (made up)"
    assert probability.metadata[RECORD]["complete"]
    path = tmp_path / "discs probability (made up).ome.zarr"
    assert models.written.text() == f"Written to {path}"
    written = open_image(path)
    expected = model.predict(stack[0])
    np.testing.assert_allclose(written[:], expected, atol=1e-6)
    assert (written.axes, written.scale) == ("zyx", PLACED["scale"])
    assert written.units == PLACED["units"]
    for layer in (probability, mask):
        assert_same_place(layer, lazy_layer)
    np.testing.assert_array_equal(mask.data, model.decide(written[:]))
    models.threshold.value = float(np.median(expected))
    qtbot.waitUntil(lambda: 0.4 < np.mean(mask.data) < 0.6, timeout=LONG)
    assert mask.metadata[RECORD]["threshold_source"] == "set by hand"


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("plane", "y", "x"), "tyx"),  # images one after the other are no volume
        (("field", "y", "x"), "tyx"),
        (("z", "y", "x"), "zyx"),
        (("time", "y", "x"), "tyx"),
        (("z", "t", "y", "x"), "tzyx"),  # stored in the order that the format wants
    ],
)
def test_a_result_on_disk_has_the_axes_of_the_image(
    qtbot, viewer, open_dock, stack, tmp_path, names, axes
):
    from dask.array import from_array

    from napari_metastructure.files.ome_zarr import open_image

    image = stack[0] if len(names) == 3 else np.stack([stack[0], stack[0][::-1]], axis=1)
    scale = (2.0, 3.0, 0.5, 0.5)[-image.ndim :]
    viewer.add_image(from_array(image), name="discs", axis_labels=names, scale=scale)
    models = open_dock("Train segmentation")[1].models
    models.folder.value = tmp_path
    model = model_of([0, 1])
    models.take(model, "made up")
    models.predict_button.click()
    finish(qtbot, models)
    written = open_image(tmp_path / "discs probability (made up).ome.zarr")
    assert written.axes == axes
    if image.ndim == 4:
        assert written.scale == (3.0, 2.0, 0.5, 0.5)
        expected = model.predict(image).swapaxes(0, 1)
        np.testing.assert_allclose(written[:], expected, atol=1e-6)
    assert viewer.layers[-1].data.shape == image.shape
    np.testing.assert_array_equal(viewer.layers[-1].data, model.segment(image))


def test_more_axes_than_files_can_have_are_told_in_a_sentence(viewer, open_dock):
    from dask.array import zeros

    viewer.add_image(zeros((1, 1, 1, 2, 32, 32)), name="discs")
    train, segment = open_dock("Train segmentation")[1], open_dock("Segment with few or no labels")
    train.models.take(model_of([0, 1]), "made up")
    notification_manager.records.clear()
    train.models.predict_button.click()
    segment[1].panel.run_button.click()
    told = {record.message for record in notification_manager.records}
    assert told == {"Only layers with 2 to 5 axes can be written; this one has 6."}
    notification_manager.records.clear()


def test_volumes_on_disk_are_along_z(qtbot, viewer, open_dock, stack, tmp_path):
    from dask.array import from_array

    from napari_metastructure.files.ome_zarr import open_image

    image = from_array(stack[0])
    viewer.add_image(image, name="discs", axis_labels=("plane", "y", "x"))
    models = open_dock("Train segmentation")[1].models
    models.folder.value = tmp_path
    models.take(model_of([0, 1], spatial_dims=3), "made up")
    models.predict_button.click()
    finish(qtbot, models)
    assert open_image(tmp_path / "discs probability (made up).ome.zarr").axes == "zyx"


def test_stop_keeps_what_is_there_marked_as_partial(qtbot, viewer, models, lazy_layer, tmp_path):
    from napari_metastructure.files.ome_zarr import open_image

    model = model_of([0, 1])
    model.network.register_forward_hook(lambda *_: time.sleep(0.2))  # slower than the click
    models.take(model, "made up")
    models.predict_button.click()
    models.panel.yielded.connect(lambda event: models.panel.stop())
    finish(qtbot, models)
    probability, mask = viewer.layers[-2:]
    assert probability.name.endswith(", partial")
    assert mask.name.endswith(", partial")
    assert "Not finished" in models.written.text()
    written = open_image(tmp_path / "discs probability (made up).ome.zarr", missing="fill")
    assert not written.complete
    assert written[0].any()
    assert not written[-1].any()


def test_labels_alone_of_several_classes(qtbot, viewer, models, lazy_layer, stack, tmp_path):
    model = model_of([0, 2, 5])
    models.take(model, "made up")
    for _ in range(2):  # nothing is overwritten
        models.predict_button.click()
        finish(qtbot, models)
        mask = viewer.layers[-1]
        assert mask.data.dtype == np.uint8
        np.testing.assert_array_equal(mask.data[:], model.segment(stack[0]))
    assert len(list(tmp_path.glob("discs segmentation*.ome.zarr"))) == 2


def test_full_disk_is_one_sentence(qtbot, viewer, models, monkeypatch):
    import errno

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    models.take(model_of([0, 1]), "made up")
    notification_manager.records.clear()
    models.predict_button.click()
    finish(qtbot, models)
    (message,) = [record.message for record in notification_manager.records]
    assert message.startswith("The disk is full: ")
    assert viewer.layers[-1].name.endswith(", partial")
    assert "Not finished" in models.written.text()
    notification_manager.records.clear()


def test_segmentation_of_a_lazy_layer(qtbot, viewer, lazy_layer, open_dock, stack, tmp_path):
    from napari_metastructure.files.ome_zarr import open_image

    dock = open_dock("Segment with few or no labels")[1]
    dock.models.folder.value = tmp_path
    dock.form["epochs"].value = 1
    for name, value in {"channels": 4, "depth": 3, "patch_size": 64, "min_steps": 2}.items():
        form = dock.form if name in dock.form._rows else dock.advanced
        form[name].value = value
    dock.panel.run_button.click()
    assert viewer.layers[-1].name == "discs segmentation (no labels), partial"
    finish(qtbot, dock)
    (layer,) = [layer for layer in viewer.layers if "segmentation" in layer.name]
    assert layer.name == "discs segmentation (no labels)"
    assert_same_place(layer, lazy_layer)
    written = open_image(tmp_path / "discs segmentation (no labels).ome.zarr")
    assert written.record["operation"] == "segment"
    assert set(np.unique(written[:])) == {0, 1}
    assert dock.models.model is not None
