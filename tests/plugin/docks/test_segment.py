"""The dock that segments with few or no labels, clicked in a real napari window."""

import numpy as np
import pytest

from napari_metastructure.labels.metrics import evaluate
from napari_metastructure.plugin.layers import RECORD
from tests.plugin.conftest import assert_same_place

LONG = 100_000


@pytest.fixture
def dock(placed_layers, open_dock):
    return set_up(open_dock("Segment with few or no labels")[1])


def set_up(dock):
    """A tiny network that trains in seconds."""
    dock.form["seed"].value = "0"
    dock.form["polarity"].value = "bright"
    values = {"channels": 4, "depth": 3, "patch_size": 64, "batch_size": 2}
    dock.advanced.set_values(values)
    return dock


def finish(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)


def segment(qtbot, dock):
    dock.panel.run_button.click()
    finish(qtbot, dock)


def test_mask_and_probability_layers(qtbot, viewer, dock, placed_layers, turns):
    image, labels = placed_layers
    segment(qtbot, dock)
    probability, mask = viewer.layers[-2], viewer.layers[-1]
    assert_same_place(mask, image)
    assert_same_place(probability, image)
    assert evaluate(labels.data, mask.data)["dice"] > 0.8
    assert mask.metadata[RECORD]["operation"] == "segment"
    assert not {"live probability", "live pseudo-label"} & {layer.name for layer in viewer.layers}
    assert dict(turns)[probability.name] < dict(turns)[mask.name]  # other events come in between
    assert dock.loss_curve.isVisible()  # a single round has no change from one to the next
    assert not dock.curves.isVisible()


def test_threshold_slider_moves_the_mask(qtbot, viewer, dock, placed_layers):
    dock.advanced["min_steps"].value = 20
    segment(qtbot, dock)
    probability, mask = viewer.layers[-2], viewer.layers[-1]
    before = mask.data.sum()
    dock.models.threshold.value = 0.95
    qtbot.waitUntil(lambda: mask.data.sum() < before, timeout=5000)
    np.testing.assert_array_equal(mask.data, probability.data > 0.95)
    assert mask.metadata[RECORD]["threshold_source"] == "set by hand"


def test_rounds_show_pictures_and_live_layers(qtbot, viewer, dock):
    dock.advanced["rounds"].value = 30
    dock.form["epochs"].value = 100
    dock.advanced["ems"].value = True
    dock.panel.run_button.click()
    qtbot.waitUntil(dock.pictures.isVisible, timeout=LONG)
    qtbot.waitUntil(lambda: "live pseudo-label" in viewer.layers, timeout=LONG)
    assert_pictures_hold_images(dock.pictures)
    assert dock.curves.isVisible()
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert "segmentation" in viewer.layers[-1].name


def assert_pictures_hold_images(pictures):
    assert all(item.image is not None and item.image.shape == (64, 64) for item in pictures._items)


def test_a_run_that_was_stopped_before_it_found_anything_leaves_the_earlier_result(
    qtbot, viewer, dock, monkeypatch, taking_long
):
    dock.advanced["min_steps"].value = 20
    segment(qtbot, dock)
    layers, model = list(viewer.layers), dock.models.model
    monkeypatch.setattr("napari_metastructure.few_labels.ranking.Judge.ranking", taking_long)
    dock.panel.run_button.click()
    qtbot.waitUntil(taking_long.begun.is_set, timeout=LONG)
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert list(viewer.layers) == layers
    assert layers[-1].visible
    assert dock.models.model is model
    assert dock.summary.text() == "Stopped before anything was found; earlier results stay."


def test_filters_to_compare_with(qtbot, viewer, dock, placed_layers, turns):
    dock.baseline_button.click()
    finish(qtbot, dock)
    assert [layer.name for layer in viewer.layers][2:] == [
        "discs otsu",
        "discs li",
        "discs triangle",
        "discs sato",
    ]
    assert len({number for _, number in turns}) == 4  # other events come between two layers
    assert not viewer.layers[-1].visible
    assert_same_place(viewer.layers[-1], placed_layers[0])
    assert evaluate(placed_layers[1].data, viewer.layers["discs otsu"].data)["dice"] > 0.5


def test_the_mode_fills_in_its_defaults(dock):
    dock.form["mode"].value = "paper"
    assert dock.config().start == "black"
    assert dock.config().epochs == 100
    assert dock.config().channels == 64
    assert dock.config().time_limit is None
    dock.form["mode"].value = "robust"
    assert dock.config().start == "auto"


def test_start_labels_are_asked_for(viewer, dock, placed_layers):
    dock.form["start"].value = "labels"
    assert dock.form.is_shown("given")
    assert "start labels" in dock.panel.reason.text()
    dock.given.value = placed_layers[1]
    assert dock.panel.run_button.isEnabled()


def test_without_an_image_the_button_says_why(viewer, open_dock):
    _, dock = open_dock("Segment with few or no labels")
    assert not dock.panel.run_button.isEnabled()
    assert "Add an Image layer" in dock.panel.reason.text()
    assert not dock.gallery.button.isEnabled()
    dock.sample_button.click()
    assert dock.gallery.button.isEnabled()
    assert [layer.visible for layer in viewer.layers] == [True, False]  # not over the results


def test_closing_the_dock_ends_the_job(qtbot, viewer, placed_layers, open_dock):
    window, dock = open_dock("Segment with few or no labels")
    set_up(dock).form["epochs"].value = 5000
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: "live probability" in viewer.layers, timeout=LONG)
    viewer.window.remove_dock_widget(window)
    finish(qtbot, dock)
    assert len(viewer.layers) == 2


def test_added_rows_come_back_with_the_dock(viewer, placed_layers, open_dock):
    window, dock = open_dock("Segment with few or no labels")
    second = viewer.add_image(placed_layers[0].data[:2], name="second")
    dock.add_image()
    dock.add_image()
    dock.images[0].value, dock.images[2].value = placed_layers[0], second
    viewer.window.remove_dock_widget(window)
    dock = open_dock("Segment with few or no labels")[1]
    assert [box.value for box in dock.images] == [placed_layers[0], None, second]


def test_images_of_two_kinds_are_refused(viewer, dock):
    """A colour image among grey ones would be read as a stack of narrow planes."""
    viewer.add_image(np.zeros((64, 64, 3), np.uint8), rgb=True, name="stained")
    viewer.add_image(np.zeros((2, 4, 64, 64)), name="two channels", axis_labels=list("czyx"))
    viewer.add_image(np.zeros((3, 4, 64, 64)), name="three", axis_labels=list("czyx"))
    dock.add_image()
    dock.images[0].value, dock.images[1].value = viewer.layers["discs"], viewer.layers["stained"]
    assert dock.problem() == "stained is in colour and discs is not; take images of one kind."
    dock.images[0].value, dock.images[1].value = viewer.layers["stained"], viewer.layers["discs"]
    assert dock.problem() == "stained is in colour and discs is not; take images of one kind."
    dock.images[0].value = viewer.layers["two channels"]
    assert dock.problem().startswith("discs has 3 axes but two channels has 4")
    dock.images[1].value = viewer.layers["three"]
    assert dock.problem().startswith("three has 3 channels but two channels has 2")
    assert not dock.panel.run_button.isEnabled()
