"""Strokes painted in a real napari window: the live result, and the network's."""

import time

import numpy as np
import pytest
from napari.layers import Image

from napari_metastructure.few_labels.configs import WITHOUT_STROKES
from napari_metastructure.labels.metrics import evaluate
from napari_metastructure.labels.strokes import pixels_under, simulate_strokes
from napari_metastructure.plugin.layers import RECORD, Source, place
from napari_metastructure.plugin.parts import strokes_panel
from tests.plugin.conftest import assert_same_place

LONG = 100_000


@pytest.fixture
def dock(qtbot, placed_layers, open_dock, one_thread):
    dock = set_up(open_dock("Segment with few or no labels")[1])
    yield dock
    dock.strokes.clear()
    qtbot.waitUntil(lambda: dock.strokes.worker is None, timeout=LONG)


def set_up(dock):
    """A tiny network that trains in seconds."""
    dock.form["seed"].value = "0"
    dock.form["epochs"].value = 1
    dock.advanced.set_values({"channels": 4, "depth": 3, "patch_size": 64, "batch_size": 2})
    dock.advanced["min_steps"].value = 40
    return dock


def paint(layer, strokes):
    """Paint with the layer's own brush, one stroke of all pixels per class."""
    layer.brush_size = 1
    for value in np.unique(strokes[strokes > 0]):
        with layer.block_history():
            for place in np.argwhere(strokes == value):
                layer.paint(tuple(place), value)


def paint_some(dock, mask, number=4):
    """Strokes on the third plane of the stack, to which the slider goes."""
    if mask.ndim == 3:
        dock.viewer.dims.set_current_step(0, 2)
    dock.strokes.paint_button.click()
    strokes = np.zeros(dock.strokes.layer.data.shape, np.uint8)
    plane = np.squeeze(strokes)
    plane = plane[2] if plane.ndim == 3 else plane
    plane[...] = simulate_strokes(mask[2] if mask.ndim == 3 else mask, number, 10, seed=0)
    paint(dock.strokes.layer, strokes)


def wait_for_result(qtbot, dock):
    panel = dock.strokes
    qtbot.waitUntil(lambda: "live segmentation" in dock.viewer.layers, timeout=LONG)
    qtbot.waitUntil(lambda: panel.worker is None and not panel._changes.isActive(), timeout=LONG)


def shown(dock):
    """Index of the plane that the live result shows; the sheared stack leans."""
    return dock.strokes._drawn[0][0][0]


def live_plane(dock):
    return np.squeeze(dock.viewer.layers["live segmentation"].data)


def finish(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)


def dice(reference, mask):
    return evaluate(reference, mask)["dice"]


def test_strokes_end_the_published_mode_and_its_settings(dock, placed_layers):
    dock.form["mode"].value = "paper"
    assert dock.advanced["learning_rate"].value == 0.05
    paint_some(dock, placed_layers[1].data)
    assert dock.config().mode == "robust"
    assert dock.config().learning_rate < 0.05


def test_settings_that_mean_nothing_with_strokes_are_not_sent(dock, placed_layers):
    dock.form.set_values({"polarity": "dark", "start": "otsu"})
    dock.advanced.set_values({"rounds": 3, "loss": "dmi", "ems": True})
    paint_some(dock, placed_layers[1].data)
    assert not set(WITHOUT_STROKES) & dock.config().model_fields_set  # though just painted
    assert not dock.advanced.is_shown("rounds")
    dock.strokes.layer.data = np.zeros_like(dock.strokes.layer.data)
    dock._check()
    assert dock.config().rounds == 3


def test_paint_strokes_makes_a_layer_ready_to_paint_on(viewer, dock, placed_layers):
    dock.strokes.paint_button.click()
    layer = dock.strokes.layer
    assert viewer.layers.selection.active == layer
    assert layer.mode == "paint"
    assert layer.selected_label == 2
    assert layer.data.shape == (4, 64, 64)
    assert_same_place(layer, placed_layers[0])
    texts = [dock.strokes.classes.itemAt(k).widget().text() for k in range(2)]
    assert texts == ["background", "object"]


def test_a_class_in_the_hand_can_be_painted(viewer, dock):
    """napari paints neither on hidden layers nor on what is shown in 3-D."""
    dock.strokes.paint_button.click()
    layer = dock.strokes.layer
    for take in (dock.strokes.classes.itemAt(0).widget(), dock.strokes.paint_button):
        layer.visible = False
        viewer.dims.ndisplay = 3
        take.click()
        assert layer.visible
        assert viewer.dims.ndisplay == 2
        assert layer.mode == "paint"


def test_a_label_that_was_typed_is_a_class_with_a_button(qtbot, dock):
    dock.strokes.paint_button.click()
    strokes = np.zeros((4, 64, 64), np.uint8)
    strokes[2, :5, :5], strokes[2, 20:25, 20:25] = 1, 4
    paint(dock.strokes.layer, strokes)
    qtbot.waitUntil(lambda: dock.strokes.num_classes == 4, timeout=LONG)
    assert dock.strokes.classes.count() == 4
    wait_for_result(qtbot, dock)


def test_what_is_said_of_strokes_goes_with_them(qtbot, viewer, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    assert "Estimated error of the classifier: at least " in dock.strokes.note.text()
    viewer.layers.remove(dock.strokes.layer)
    assert dock.strokes.note.isHidden()


def test_it_says_that_it_learns_in_place_of_what_was_wrong_before(qtbot, dock, placed_layers):
    dock.strokes.paint_button.click()
    layer, first = dock.strokes.layer, np.zeros((4, 64, 64), np.uint8)
    first[2, :5, :5] = 2
    paint(layer, first)
    qtbot.waitUntil(lambda: "stroke on background" in dock.strokes.note.text(), timeout=LONG)
    started = []
    dock.strokes._start, start = lambda what: started.append(what), dock.strokes._start
    first[2, :5, :5], first[2, 20:25, 20:25] = 0, 1
    paint(layer, first)
    qtbot.waitUntil(lambda: bool(started), timeout=LONG)
    dock.strokes._start = start
    start("learn")
    assert dock.strokes.note.text() == "Learning the strokes …"
    wait_for_result(qtbot, dock)


def test_the_uncertainty_is_clear_where_there_is_none(qtbot, viewer, dock, placed_layers):
    """Added to a bright image, its colours would all be white."""
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    dock.strokes.doubt_box.click()
    layer = viewer.layers["uncertainty"]
    assert layer.blending != "additive"
    none, most = layer.colormap.map(np.array([0.0, 1.0]))
    assert none[3] == 0
    assert most[3] == 1


def test_a_painted_stroke_updates_the_live_result(qtbot, viewer, dock, placed_layers):
    image, labels = placed_layers
    paint_some(dock, labels.data)
    wait_for_result(qtbot, dock)
    overlay = viewer.layers["live segmentation"]
    assert dice(labels.data[shown(dock)], live_plane(dock)) > 0.8
    assert overlay.data.shape == (1, 64, 64)
    np.testing.assert_allclose(
        overlay.data_to_world((0, 5, 6)), image.data_to_world((shown(dock), 5, 6))
    )
    assert "Estimated error" in dock.strokes.note.text()
    assert viewer.layers[-1] == dock.strokes.layer
    before, forest = live_plane(dock).copy(), dock.strokes.live.classifier.forest
    corner = np.zeros((4, 64, 64), np.uint8)
    corner[shown(dock), :6, :6] = 2
    paint(dock.strokes.layer, corner)
    qtbot.waitUntil(lambda: dock.strokes.live.classifier.forest is not forest, timeout=LONG)
    wait_for_result(qtbot, dock)
    assert (live_plane(dock) != before).any()


def test_nothing_is_computed_while_the_brush_is_down(qtbot, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    layer, forest = dock.strokes.layer, dock.strokes.live.classifier.forest

    class Event:
        type = "mouse_press"

    drag = dock.strokes._on_drag(layer, Event)
    next(drag)
    layer.paint((2, 3, 3), 1)
    qtbot.wait(300)
    assert dock.strokes.live.classifier.forest is forest
    Event.type = "mouse_release"
    assert next(drag, "end") == "end"
    qtbot.waitUntil(lambda: dock.strokes.live.classifier.forest is not forest, timeout=LONG)


def test_another_plane_in_view_is_predicted_too(qtbot, viewer, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    before = shown(dock)
    viewer.dims.set_current_step(0, 0)
    qtbot.waitUntil(lambda: shown(dock) != before, timeout=LONG)
    wait_for_result(qtbot, dock)
    assert dice(placed_layers[1].data[shown(dock)], live_plane(dock)) > 0.7


def test_without_live_a_button_updates_once(qtbot, viewer, dock, placed_layers):
    dock.strokes.live_box.setChecked(False)
    paint_some(dock, placed_layers[1].data)
    qtbot.wait(300)
    assert "live segmentation" not in viewer.layers
    dock.strokes.update_button.click()
    wait_for_result(qtbot, dock)


def test_overlay_and_uncertainty_can_be_toggled(qtbot, viewer, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    assert viewer.layers["live segmentation"].visible
    assert "uncertainty" not in viewer.layers  # a layer that nobody asked for takes its time
    dock.strokes.overlay_box.click()
    dock.strokes.doubt_box.click()
    assert not viewer.layers["live segmentation"].visible
    assert viewer.layers["uncertainty"].visible
    assert viewer.layers[-1] == dock.strokes.layer  # strokes lie over it
    assert viewer.layers.selection.active == dock.strokes.layer
    assert np.max(viewer.layers["uncertainty"].data) > 0
    dock.strokes.doubt_box.click()
    assert not viewer.layers["uncertainty"].visible


def test_a_live_result_copies_no_stack(qtbot, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    given, update = [], dock.strokes.live.update
    dock.strokes.live.update = lambda strokes, *rest, **how: (
        given.extend(strokes) or update(strokes, *rest, **how)
    )
    dock.strokes.update_now()
    wait_for_result(qtbot, dock)
    assert np.shares_memory(given[0], dock.strokes.layer.data)
    assert not np.shares_memory(dock.strokes.strokes()[0], dock.strokes.layer.data)


def test_next_place_goes_where_nothing_is_painted(qtbot, viewer, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    dock.strokes.next_button.click()
    qtbot.waitUntil(lambda: "Least certain" in dock.strokes.note.text(), timeout=LONG)


def test_strokes_of_one_class_are_told_in_a_sentence(qtbot, dock):
    dock.strokes.paint_button.click()
    strokes = np.zeros((4, 64, 64), np.uint8)
    strokes[2, :5, :5] = 2
    paint(dock.strokes.layer, strokes)
    qtbot.waitUntil(lambda: "stroke on background" in dock.strokes.note.text(), timeout=LONG)
    assert not dock.panel.run_button.isEnabled()
    assert "stroke on background" in dock.panel.reason.text()


def test_numbered_objects_are_no_strokes(qtbot, viewer, dock):
    numbered = np.arange(4 * 64 * 64).reshape(4, 64, 64)
    layer = viewer.add_labels(numbered, name="nuclei")
    dock.strokes.choice.value = layer
    qtbot.waitUntil(lambda: "numbered objects" in dock.panel.reason.text(), timeout=LONG)


def test_segment_all_and_correct_it(qtbot, viewer, dock, placed_layers):
    image, labels = placed_layers
    paint_some(dock, labels.data)
    wait_for_result(qtbot, dock)
    dock.panel.run_button.click()
    finish(qtbot, dock)
    mask = viewer.layers["discs segmentation (strokes)"]
    assert mask.data.shape == (4, 64, 64)
    assert_same_place(mask, image)
    assert mask.metadata[RECORD]["operation"] == "segment"
    assert "live segmentation" not in viewer.layers
    assert "result" in dock.summary.text().lower()
    first = dock.models.model
    assert mask.brush_size == 2  # for strokes, as corrections are
    # what is painted on the result counts, and training goes on from the network
    mask.data[3, :10, :10] = 1
    dock.panel.run_button.click()
    assert dock.strokes.note.text().endswith(" corrected pixels are strokes now.")
    finish(qtbot, dock)
    assert dock.models.model is not first
    # also in the rounds after the next, whose masks are new: it can be seen among the strokes
    kept = dock.strokes.layer.data[3, :10, :10]
    assert (kept == 2).any()
    assert set(np.unique(kept)) <= {0, 2}
    visible = [layer.name for layer in viewer.layers if layer.visible]
    assert sum("segmentation" in name for name in visible) == 1
    # results of earlier runs are no inputs
    assert [choice.name for choice in dock.images[0].choices] == ["discs"]


def test_the_result_is_seen_on_every_plane(qtbot, viewer, dock, placed_layers):
    """Until strokes change, no live result lies over it."""
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    dock.advanced["min_steps"].value = 2
    dock.panel.run_button.click()
    finish(qtbot, dock)
    viewer.dims.set_current_step(0, 0)
    qtbot.wait(500)
    qtbot.waitUntil(lambda: dock.strokes.worker is None, timeout=LONG)
    assert "live segmentation" not in viewer.layers
    assert "Learning" not in dock.strokes.note.text()
    dock.strokes.layer.paint((0, 1, 1), 1)
    wait_for_result(qtbot, dock)
    assert not viewer.layers["discs segmentation (strokes)"].visible


@pytest.mark.parametrize("how", ["update", "live", "result box"])
def test_a_live_result_that_is_asked_for_is_seen_in_place_of_the_result(
    qtbot, viewer, dock, placed_layers, how
):
    """Neither lies over the other, and neither is lost; where it is not shown nothing is hidden."""
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    dock.advanced["min_steps"].value = 2
    dock.strokes.live_box.click()
    dock.panel.run_button.click()
    finish(qtbot, dock)
    mask = viewer.layers["discs segmentation (strokes)"]
    assert mask.visible
    if how == "result box":
        dock.strokes.overlay_box.click()
    dock.strokes.live_box.click() if how == "live" else dock.actions()["update"]()
    wait_for_result(qtbot, dock)
    live = viewer.layers["live segmentation"]
    if how == "result box":
        assert (mask.visible, live.visible) == (True, False)
        dock.strokes.overlay_box.click()
    assert (mask.visible, live.visible) == (False, True)
    mask.visible = True  # the user wants both
    viewer.dims.set_current_step(0, 1)
    qtbot.wait(500)
    qtbot.waitUntil(lambda: dock.strokes.worker is None, timeout=LONG)
    assert mask.visible


def test_previews_are_seen_in_place_of_results_and_below_the_strokes(
    qtbot, viewer, dock, placed_layers
):
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    dock.advanced["min_steps"].value = 2
    dock.panel.run_button.click()
    finish(qtbot, dock)
    dock.advanced["min_steps"].value = 5000
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: "live probability" in viewer.layers, timeout=LONG)
    mask, preview = viewer.layers["discs segmentation (strokes)"], viewer.layers["live probability"]
    assert (mask.visible, preview.visible) == (False, True)
    assert viewer.layers[-1].name == "discs strokes"
    dock.actions()["update"]()
    wait_for_result(qtbot, dock)
    assert (mask.visible, preview.visible) == (False, False)
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert [layer.name for layer in viewer.layers if layer.visible and layer is not mask] == [
        "discs",
        "mask",
        "discs segmentation (strokes) [1]",
        "discs strokes",
    ]


def test_corrections_that_became_strokes_can_be_undone(dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    layer = dock.strokes.layer
    painted = layer.data.copy()
    corrected = painted.reshape(4, 64, 64).copy()
    corrected[1, :5, :5], corrected[3, 60:, 60:] = 2, 1
    dock.strokes.keep([corrected])
    np.testing.assert_array_equal(layer.data.reshape(corrected.shape), corrected)
    layer.undo()  # as Ctrl-Z does
    np.testing.assert_array_equal(layer.data, painted)
    layer.redo()
    np.testing.assert_array_equal(layer.data.reshape(corrected.shape), corrected)


def test_a_single_correction_is_told_in_the_singular(dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    corrected = dock.strokes.layer.data.reshape(4, 64, 64).copy()
    corrected[1, 0, 0] = 3 - corrected[1, 0, 0].clip(1)
    dock.strokes.keep([corrected])
    assert dock.strokes.note.text() == "1 corrected pixel is a stroke now."


def add_another(dock, name="others"):
    """An image of the same shape, at the same place."""
    image = dock.images[0].value
    return dock.viewer.add_image(image.data[::-1].copy(), name=name, **place(image))


def test_another_image_does_not_get_the_strokes_of_the_first(qtbot, viewer, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    first, strokes = dock.images[0].value, dock.strokes.layer
    other = add_another(dock)
    assert dock.images[0].value is first  # which was painted on
    dock.images[0].value = other
    assert dock.strokes.layer is None
    assert not dock.has_strokes
    assert "live segmentation" not in viewer.layers
    first.name = "renamed"
    dock.images[0].value = first
    assert dock.strokes.layer is strokes
    wait_for_result(qtbot, dock)


def test_strokes_on_each_image_of_a_set_count(qtbot, viewer, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    first, painted = dock.images[0].value, dock.strokes.layer.data.copy()
    other = add_another(dock)
    dock.images[0].value = other
    dock.strokes.paint_button.click()
    dock.strokes.layer.data[1, :5] = 1
    dock.add_image()
    dock.images[1].value = first
    first.name, other.name = "one", "two"
    strokes = dock.strokes.strokes()
    assert (strokes[0][1, :5] == 1).all()
    np.testing.assert_array_equal(strokes[1], painted)


def test_a_run_on_another_image_leaves_the_result_of_the_first(qtbot, viewer, dock, placed_layers):
    dock.advanced["min_steps"].value = 2
    for image in (placed_layers[0], add_another(dock)):
        dock.images[0].value = image
        paint_some(dock, placed_layers[1].data)
        wait_for_result(qtbot, dock)
        dock.panel.run_button.click()
        finish(qtbot, dock)
    names = [layer.name for layer in viewer.layers]
    assert "discs segmentation (strokes)" in names
    assert "others segmentation (strokes)" in names


def test_many_classes_do_not_widen_the_dock(qtbot, viewer, dock):
    dock.strokes.paint_button.click()
    width = dock.minimumSizeHint().width()
    for _ in range(7):
        dock.strokes.add_class_button.click()
    assert dock.strokes.layer.selected_label == 9
    qtbot.wait(50)
    assert dock.minimumSizeHint().width() <= width + 40
    rows = dock.strokes.classes
    assert [rows.itemAt(k).widget().text() for k in (0, 1, 8)] == [
        "background",
        "object",
        "class 9",
    ]


def test_corrections_of_one_image_are_not_those_of_another(qtbot, viewer, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    dock.panel.run_button.click()
    finish(qtbot, dock)
    mask = viewer.layers["discs segmentation (strokes)"]
    mask.data[3, :10, :10] = 1
    zeros = np.zeros((4, 64, 64), np.uint8)
    first, other = dock.images[0].value, add_another(dock)
    strokes = [zeros.copy(), zeros.copy()]
    assert not dock.results.correct([other], strokes[:1])
    assert dock.results.correct([other, first], strokes)
    assert not strokes[0].any()
    assert strokes[1].any()


def test_without_strokes_of_two_classes_no_result_stays(qtbot, viewer, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    layer = dock.strokes.layer
    layer.data = np.minimum(layer.data, 1)
    qtbot.waitUntil(lambda: "live segmentation" not in viewer.layers, timeout=LONG)
    assert "at least one stroke on objects" in dock.strokes.note.text()
    layer.data = np.zeros_like(layer.data)
    qtbot.waitUntil(lambda: not dock.has_strokes, timeout=LONG)
    assert dock.problem() is None


def test_a_plane_that_comes_into_view_during_the_work_is_predicted(
    qtbot, viewer, dock, placed_layers, monkeypatch
):
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    predict = strokes_panel.StrokesPanel._classifier_for(
        dock.strokes, dock._read_sources()
    ).classifier.predicting_plane

    def slowly(*arguments, **options):
        time.sleep(1)
        yield from predict(*arguments, **options)

    monkeypatch.setattr(dock.strokes.live.classifier, "predicting_plane", slowly)
    before = shown(dock)
    dock.strokes.update_now()
    viewer.dims.set_current_step(0, 0)  # the work takes longer than the sliders rest
    assert dock.strokes.worker is not None
    qtbot.waitUntil(lambda: shown(dock) != before, timeout=LONG)


def test_strokes_of_a_model_do_not_come_to_other_images(
    qtbot, viewer, dock, placed_layers, tmp_path
):
    paint_some(dock, placed_layers[1].data)
    dock.advanced["min_steps"].value = 2
    dock.panel.run_button.click()
    finish(qtbot, dock)
    dock.models.save(tmp_path / "model.safetensors")
    dock.images[0].value = add_another(dock)
    dock.models.load(tmp_path / "model.safetensors")
    assert dock.strokes.layer is None
    assert "on other images" in dock.strokes.note.text()


def test_three_classes(qtbot, viewer, dock, placed_layers):
    image, labels = placed_layers
    bright = image.data.copy()
    bright[:, :20] += 400
    image.data = bright
    truth = np.where(np.arange(64)[:, None] < 20, 2, labels.data[2])
    dock.strokes.paint_button.click()
    dock.strokes.add_class_button.click()
    assert dock.strokes.layer.selected_label == 3
    strokes = np.zeros((4, 64, 64), np.uint8)
    strokes[2] = simulate_strokes(truth, 4, 10, seed=0)
    paint(dock.strokes.layer, strokes)
    wait_for_result(qtbot, dock)
    assert set(np.unique(live_plane(dock))) == {0, 1, 2}
    assert (live_plane(dock)[:18] == 2).mean() > 0.9
    dock.panel.run_button.click()
    finish(qtbot, dock)
    mask = viewer.layers["discs segmentation (strokes)"]
    assert set(np.unique(mask.data)) <= {0, 1, 2}


def test_volumes(qtbot, viewer, open_dock, one_thread, stack):
    image, mask = (np.repeat(part[:2], 6, axis=0) for part in stack)
    viewer.add_image(image, name="discs", scale=(2, 1, 1))
    dock = set_up(open_dock("Segment with few or no labels")[1])
    dock.reading.form["spatial_dims"].value = 3
    dock.strokes.paint_button.click()
    strokes = np.zeros(image.shape, np.uint8)
    strokes[6] = simulate_strokes(mask[6], 4, 10, seed=0)
    paint(dock.strokes.layer, strokes)
    wait_for_result(qtbot, dock)
    z = viewer.dims.current_step[0]
    assert viewer.layers["live segmentation"].data.shape == image.shape
    assert dice(mask[z], viewer.layers["live segmentation"].data[z]) > 0.6


def test_colour(qtbot, viewer, open_dock, one_thread, stack):
    _, mask = stack
    rng = np.random.default_rng(0)
    red = 100 + 100 * mask[2] + rng.normal(0, 10, mask[2].shape)
    colours = np.stack([red, 300 - red, np.full_like(red, 90)], -1).clip(0, 255).astype(np.uint8)
    viewer.add_image(colours, rgb=True, name="stained")
    dock = set_up(open_dock("Segment with few or no labels")[1])
    paint_some(dock, mask[2])
    wait_for_result(qtbot, dock)
    assert dice(mask[2], live_plane(dock)) > 0.8


def test_strokes_are_kept_while_painting_and_come_back(qtbot, viewer, dock, placed_layers):
    paint_some(dock, placed_layers[1].data)
    painted = dock.strokes.layer.data.copy()
    path = strokes_panel.saved_strokes_path(dock.reading.source())
    qtbot.waitUntil(path.exists, timeout=LONG)
    wait_for_result(qtbot, dock)
    viewer.layers.remove(dock.strokes.layer)
    assert dock.strokes.restore_button.isVisibleTo(dock)
    dock.strokes.restore_button.click()
    np.testing.assert_array_equal(dock.strokes.layer.data, painted)


def test_strokes_are_kept_for_the_pixels_of_an_image_without_a_file():
    pixels = np.arange(4 * 300 * 300, dtype=np.uint16).reshape(4, 300, 300)
    others = {
        "same": pixels.copy(),
        "other": pixels + 1,
        "pyramid": [pixels.copy(), pixels[:, ::2, ::2]],
    }
    known = strokes_panel.saved_strokes_path(Source.of(Image(pixels, name="Image")))
    found = {
        name: strokes_panel.saved_strokes_path(Source.of(Image(data, name="Image"))) == known
        for name, data in others.items()
    }
    assert found == {"same": True, "other": False, "pyramid": True}
    assert strokes_panel.saved_strokes_path(Source.of(Image(pixels, name="b"))) != known


@pytest.mark.parametrize("earlier", [False, True])
def test_strokes_come_back_with_a_loaded_model(
    qtbot, viewer, dock, placed_layers, tmp_path, earlier
):
    paint_some(dock, placed_layers[1].data)
    painted = dock.strokes.layer.data.copy()
    dock.advanced["min_steps"].value = 2
    dock.panel.run_button.click()
    finish(qtbot, dock)
    attached, [source] = dock.models.model.attached, dock._read_sources()
    if earlier:  # versions before kept the pixels themselves
        del attached["strokes.0.digest"]
        attached["strokes.0.pixels"] = pixels_under(source.canonical, painted.reshape(4, 64, 64))
    dock.models.save(tmp_path / "model.safetensors")
    viewer.layers.remove(dock.strokes.layer)
    dock.advanced["channels"].value = 8
    dock.models.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(dock.strokes.layer.data, painted)
    assert dock.config().channels == 4  # and the settings


def test_an_existing_labels_layer_can_be_chosen(qtbot, viewer, dock, placed_layers):
    strokes = np.zeros((4, 64, 64), int)
    strokes[2] = simulate_strokes(placed_layers[1].data[2], 4, 10, seed=0)
    viewer.dims.set_current_step(0, 2)
    dock.strokes.choice.value = viewer.add_labels(strokes, name="mine", **place(placed_layers[0]))
    wait_for_result(qtbot, dock)
    assert dice(placed_layers[1].data[shown(dock)], live_plane(dock)) > 0.8


def test_keys_update_and_toggle(qtbot, viewer, dock, placed_layers):
    from napari_metastructure.plugin.keys import KEYS

    assert KEYS["update"] in dock.strokes.update_button.toolTip()
    paint_some(dock, placed_layers[1].data)
    wait_for_result(qtbot, dock)
    actions = {str(key): action for key, action in viewer.keymap.items()}
    actions[KEYS["toggle_overlay"]](viewer)
    assert not viewer.layers["live segmentation"].visible
