"""The training dock, clicked in a real napari window."""

import threading

import numpy as np
import pytest
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QScrollArea

from napari_metastructure.labels.metrics import evaluate
from napari_metastructure.plugin import layers
from napari_metastructure.plugin.layers import RECORD, place
from tests.plugin.conftest import assert_same_place

LONG = 60_000


@pytest.fixture
def dock(placed_layers, open_dock):
    return set_up(open_dock("Train segmentation")[1])


def set_up(dock, epochs=6):
    """A tiny network that trains in seconds."""
    dock.form["epochs"].value = epochs
    dock.form["seed"].value = "0"
    for name, value in {
        "channels": 4,
        "depth": 3,
        "patch_size": 64,
        "batch_size": 2,
        "min_steps": 1,
    }.items():
        dock.advanced[name].value = value
    return dock


def finish(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)


def start(qtbot, dock, epochs=5000):
    """Start a training, by default a long one, and wait for its first steps."""
    dock.form["epochs"].value = epochs
    dock.panel.run_button.click()
    steps = []
    dock.panel.yielded.connect(lambda event: steps.append(type(event).__name__))
    qtbot.waitUntil(lambda: steps.count("Step") > 3, timeout=LONG)
    return steps


def test_labels_are_copied_beside_the_window(qtbot, dock, monkeypatch):
    threads, own = [], layers._own

    def copied(data):
        threads.append(threading.current_thread())
        return own(data)

    monkeypatch.setattr(layers, "_own", copied)
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: bool(threads), timeout=LONG)
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_previews_are_seen_in_place_of_an_earlier_mask_until_they_end(qtbot, viewer, dock):
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: "segmentation" in viewer.layers[-1].name, timeout=LONG)
    finish(qtbot, dock)
    mask = viewer.layers[-1]
    start(qtbot, dock)
    qtbot.waitUntil(lambda: "training preview" in viewer.layers, timeout=LONG)
    assert not mask.visible
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert "training preview" not in viewer.layers
    assert mask.visible


def test_corrupt_train_predict_score(qtbot, viewer, dock, placed_layers, open_dock):
    image, labels = placed_layers
    _, corrupt = open_dock("Corrupt labels")
    corrupt.labels.value = labels
    corrupt.form["kind"].value = "flip"
    corrupt.form["ratio"].value = 0.2
    corrupt.panel.run_button.click()
    finish(qtbot, corrupt)
    dock.labels.value = viewer.layers[-1]
    dock.form["epochs"].value = 60
    dock.panel.run_button.click()
    finish(qtbot, dock)

    probability, segmentation = viewer.layers[-2], viewer.layers[-1]
    assert_same_place(probability, image)
    assert_same_place(segmentation, image)
    assert "noise corrected in training (flip 20 %" in dock.models.note.text()
    assert done_text_of_noise(dock) in dock.models.note.text()
    assert segmentation.metadata[RECORD]["noise"][0]["ratio"] == 0.2
    assert evaluate(labels.data, segmentation.data)["dice"] > 0.8

    dock.result.value, dock.reference.value = probability, labels
    dock.score_button.click()
    qtbot.waitUntil(lambda: dock.score_note.text() != "", timeout=LONG)
    dice = evaluate(labels.data, probability.data)["dice"]
    assert f"Dice {dice:.3f}" in dock.score_note.text()
    bar = dock.findChild(QScrollArea).verticalScrollBar()
    qtbot.waitUntil(lambda: bar.value() == bar.maximum() > 0)  # the scores are at the very end


def test_pause_resume_and_stop_keep_the_model(qtbot, viewer, dock):
    dock.models.predict_after.value = False
    steps = start(qtbot, dock)
    dock.panel.pause_button.click()
    qtbot.waitUntil(lambda: dock.panel.worker.is_paused, timeout=5000)
    qtbot.waitUntil(lambda: dock.panel.pause_button.text() == "Resume", timeout=5000)
    qtbot.wait(100)
    held_at = len(steps)
    qtbot.wait(300)
    assert len(steps) == held_at
    dock.panel.pause_button.click()
    qtbot.waitUntil(lambda: len(steps) > held_at, timeout=5000)
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert dock.models.model is not None
    assert dock.models.model.record["steps"] < len(steps) + 100  # of 5000


def test_a_stop_before_the_first_step_leaves_the_earlier_model(qtbot, dock, monkeypatch):
    start(qtbot, dock)
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    model = dock.models.model
    assert model.record["steps"]
    monkeypatch.setattr(
        "napari_metastructure.learning.training.uncorrected", lambda *_: dock.panel.job.stop()
    )
    dock.panel.run_button.click()
    finish(qtbot, dock)
    assert dock.models.model is model
    assert dock.panel.status.text().startswith("Training stopped after")


def test_stop_works_while_paused(qtbot, dock):
    dock.models.predict_after.value = False
    start(qtbot, dock)
    dock.panel.pause_button.click()
    qtbot.waitUntil(lambda: dock.panel.worker.is_paused, timeout=5000)
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert dock.models.model is not None


def test_preview_follows_the_slider_and_ends_with_the_job(qtbot, viewer, dock, placed_layers):
    image, _ = placed_layers
    start(qtbot, dock)
    qtbot.waitUntil(lambda: "training preview" in viewer.layers, timeout=LONG)
    preview = viewer.layers["training preview"]
    first = preview.data_to_world((0, 0, 0))
    viewer.dims.set_current_step(0, 0)
    qtbot.waitUntil(lambda: preview.data_to_world((0, 0, 0)) != first, timeout=LONG)
    plane = int(np.rint(image.world_to_data(viewer.dims.point)[0]).clip(0, 3))
    np.testing.assert_allclose(preview.data_to_world((0, 3, 4)), image.data_to_world((plane, 3, 4)))
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert "training preview" not in viewer.layers


def test_layers_removed_while_training(qtbot, viewer, dock, placed_layers):
    image, labels = placed_layers
    start(qtbot, dock, epochs=60)
    viewer.layers.remove(labels)
    viewer.layers.remove(image)
    finish(qtbot, dock)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2 and not dock.panel.running, timeout=LONG)
    assert_same_place(viewer.layers[-1], image)


def test_error_in_the_worker_is_a_notification(qtbot, dock, placed_layers):
    image, _ = placed_layers
    image.data = np.full(image.data.shape, np.nan)
    notification_manager.records.clear()
    dock.panel.run_button.click()
    finish(qtbot, dock)
    messages = [record.message for record in notification_manager.records]
    assert len(messages) == 1
    assert "NaN" in messages[0]
    assert "failed" in dock.panel.status.text()
    assert dock.panel.run_button.isEnabled()


def test_reasons_why_it_cannot_run(viewer, open_dock, stack):
    image, mask = stack
    _, dock = open_dock("Train segmentation")
    assert "Add an Image layer" in dock.panel.reason.text()
    viewer.add_image(image)
    viewer.add_labels(mask[:2], name="short")
    assert "short" in dock.panel.reason.text()
    assert not dock.panel.run_button.isEnabled()
    dock.labels.value = viewer.add_labels(mask)
    assert dock.panel.run_button.isEnabled()
    dock.advanced["depth"].value = 7
    dock.advanced["patch_size"].value = 48
    assert not dock.panel.run_button.isEnabled()
    assert "48" in dock.panel.reason.text()


def test_several_images(qtbot, viewer, dock, stack):
    image, mask = stack
    dock.add_pair()
    dock.pairs[0][0].value = viewer.add_image(image[:, :40], name="second")
    assert "every row" in dock.panel.reason.text()
    dock.pairs[0][1].value = viewer.add_labels(mask[:, :40], name="second mask")
    dock.form["epochs"].value = 1
    dock.panel.run_button.click()
    finish(qtbot, dock)
    assert dock.models.model.record["images"] == 8  # of each a part is held back


def test_one_plane_is_predicted_where_it_lies(qtbot, viewer, dock, placed_layers):
    image, _ = placed_layers
    dock.form["epochs"].value = 1
    dock.models.scope.value = "this plane"
    viewer.dims.set_current_step(0, 1)
    dock.panel.run_button.click()
    finish(qtbot, dock)
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)
    plane = int(np.rint(image.world_to_data(viewer.dims.point)[0]))
    segmentation = viewer.layers[-1]
    assert segmentation.data.shape == (1, 64, 64)
    np.testing.assert_allclose(
        segmentation.data_to_world((0, 9, 1)), image.data_to_world((plane, 9, 1))
    )
    assert segmentation.units == image.units


def test_save_and_load(qtbot, viewer, dock, placed_layers, tmp_path):
    dock.form["epochs"].value = 1
    dock.panel.run_button.click()
    finish(qtbot, dock)
    first = viewer.layers[-2].data
    dock.models.save(tmp_path / "discs.safetensors")
    dock.models.model = None
    dock.models.load(tmp_path / "discs.safetensors")
    assert "Model: discs." in dock.models.note.text()
    dock.models.predict()
    finish(qtbot, dock)
    np.testing.assert_allclose(viewer.layers[-2].data, first, atol=1e-5)
    (tmp_path / "bad.safetensors").write_bytes(b"not a model")
    notification_manager.records.clear()
    dock.models.load(tmp_path / "bad.safetensors")
    assert "bad.safetensors" in notification_manager.records[-1].message
    assert dock.models.model is not None


def test_closing_the_dock_ends_the_training(qtbot, viewer, placed_layers, open_dock):
    window, dock = open_dock("Train segmentation")
    start(qtbot, set_up(dock))
    viewer.window.remove_dock_widget(window)
    finish(qtbot, dock)
    assert dock.models.model is None


def test_added_rows_come_back_with_the_dock(viewer, placed_layers, open_dock, stack):
    image, mask = stack
    window, dock = open_dock("Train segmentation")
    dock.add_pair()
    second = viewer.add_image(image[:, :40], name="second"), viewer.add_labels(mask[:, :40])
    for box, layer in zip(dock.pairs[0], second):
        box.value = layer
    viewer.window.remove_dock_widget(window)
    dock = open_dock("Train segmentation")[1]
    assert [tuple(box.value for box in pair) for pair in dock.pairs] == [second]


def done_text_of_noise(dock):
    return dock.models.model.record["noise_estimate"]["text"]


def test_strokes_are_asked_about_and_trained_on(qtbot, viewer, stack, open_dock, one_thread):
    from napari_metastructure.labels.strokes import simulate_strokes

    image, mask = stack
    strokes = np.stack([simulate_strokes(m, 6, 10, seed=k) for k, m in enumerate(mask)])
    viewer.add_image(image, name="discs")
    labels = viewer.add_labels(strokes, name="strokes")
    dock = open_dock("Train segmentation")[1]
    assert "of the pixels are 0. Are these not annotated, or background?" in dock.question.text()
    assert dock.form.is_shown("unannotated")
    assert not dock.form["unannotated"].value
    labels.metadata[RECORD] = {"operation": "strokes"}
    full = viewer.add_labels(mask, name="full")
    dock.labels.value = full
    assert not dock.question.isVisible()
    assert not dock.form.is_shown("unannotated")
    dock.labels.value = labels
    assert dock.form["unannotated"].value
    dock.form["epochs"].value = 40
    dock.form["seed"].value = "0"
    dock.advanced.set_values({"channels": 4, "depth": 3, "patch_size": 64, "batch_size": 2})
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=60_000)
    model = dock.models.model
    assert model.classes == [0, 1]  # background is not a class of objects
    assert evaluate(mask, model.segment(image))["dice"] > 0.8


def test_a_training_goes_on_from_this_model(qtbot, dock):
    dock.form["epochs"].value = 1
    dock.start.which.value = "this model"
    assert "There is no model yet" in dock.problem()
    dock.start.which.value = "new network"
    dock.panel.run_button.click()
    finish(qtbot, dock)
    first = dock.models.model
    dock.start.which.value = "this model"
    assert dock.problem() is None
    assert not dock.form.is_shown("network")  # those of the model hold
    assert not dock.advanced.is_shown("channels")
    dock.panel.run_button.click()
    finish(qtbot, dock)
    second = dock.models.model
    assert second is not first
    assert second.record["started_from"]["started"] == first.record["started"]
    assert second.architecture == first.architecture
    dock.start.which.value = "new network"
    assert dock.form.is_shown("network")
    assert dock.advanced.is_shown("channels")


def test_a_training_goes_on_from_a_file(qtbot, dock, tmp_path):
    dock.form["epochs"].value = 1
    dock.panel.run_button.click()
    finish(qtbot, dock)
    dock.start.which.value = "this model"
    with pytest.raises(ValueError, match="Save the model first"):
        dock.again.text()
    path = tmp_path / "first.safetensors"
    dock.models.save(path)
    assert f"model={str(path)!r}" in dock.again.text()
    dock.start.which.value = "file"
    assert dock.problem() == "Choose the file of the model to start from."
    dock.start.file.value = path
    assert dock.problem() is None
    assert f"model={str(path)!r}" in dock.again.text()
    dock.again.save(tmp_path / "settings.yaml")
    assert f"train IMAGES LABELS --start-from {path} -o" in (tmp_path / "settings.yaml").read_text()
    dock.panel.run_button.click()
    finish(qtbot, dock)
    assert dock.models.model.record["started_from"]["operation"] == "train"


def test_lines_of_a_shapes_layer_are_learnt(qtbot, viewer, dock, stack, placed_layers):
    from skimage.morphology import skeletonize

    _, labels = placed_layers
    shapes = viewer.add_shapes(ndim=3, name="lines", **place(labels))
    dock.labels.value = shapes
    assert dock.problem() == "Draw lines or paths on lines, along the structures."
    for number, mask in enumerate(stack[1]):
        for y, x in np.argwhere(skeletonize(mask > 0)):
            shapes.add_lines([[number, y, x], [number, y, min(x + 1, 63)]])
    dock.start.which.value = "file"
    assert not dock.form.is_shown("network")
    dock.start.which.value = "new network"
    assert dock.form.is_shown("network")
    assert dock.problem() is None
    dock.form["epochs"].value = 60
    assert "image.labels(viewer.layers['lines']" in dock.again.text()
    dock.panel.run_button.click()
    finish(qtbot, dock)
    assert dock.models.model.record["noise"][0]["kind"] == "skeletonize"
    mask = viewer.layers[-1].data
    drawn = dock.reading.source().labels(shapes) > 0
    assert (mask > 0).sum() > 2 * drawn.sum()  # widened
    assert evaluate(labels.data, mask)["dice"] > evaluate(labels.data, drawn)["dice"] + 0.1


def test_a_network_whose_library_is_missing_is_told_beforehand(dock, monkeypatch):
    name = "napari_metastructure.learning.smp_networks.find_spec"
    monkeypatch.setattr(name, lambda name: None)
    dock.form["network"].value = "hrnet"
    assert "pip install 'napari-metastructure[networks]'" in dock.panel.reason.text()
    assert not dock.advanced.is_shown("channels")  # they are the encoder's
    assert dock.advanced.is_shown("pretrained")
    dock.form["network"].value = "unet"
    assert dock.problem() is None
    assert not dock.advanced.is_shown("pretrained")


def test_noise_of_own_labels_can_be_stated(qtbot, viewer, dock):
    assert dock._noise(dock._recorded()) is None
    assert not dock.noise.is_shown("ratio")
    dock.noise["label_noise"].value = "random pixels wrong"
    dock.noise["ratio"].value = 0.2
    assert dock.noise.is_shown("ratio")
    assert not dock.noise.is_shown("fraction")
    assert "noise=[{'kind': 'flip', 'ratio': 0.2}]" in "\n".join(dock.python())
    assert "--noise" in dock.command()
    dock.panel.run_button.click()
    finish(qtbot, dock)
    [noise] = dock.models.model.record["noise"]
    assert (noise["kind"], noise["ratio"]) == ("flip", 0.2)


def test_recorded_noise_of_labels_painted_on_since_is_told(dock, placed_layers, monkeypatch):
    _, labels = placed_layers
    noise = {"kind": "flip", "ratio": 0.2}
    labels.metadata[RECORD] = {"operation": "corrupt", "noise": [noise], "digest": "of others"}
    told = []
    monkeypatch.setattr("napari_metastructure.plugin.docks.train.show_info", told.append)
    monkeypatch.setattr(dock.panel, "start", lambda *_: None)
    dock.run()
    assert told[0].startswith("The labels have changed since their noise was recorded")
    dock.noise["label_noise"].value = "none"
    dock.run()
    assert len(told) == 1


def test_labels_are_hashed_once_a_run(dock, placed_layers, monkeypatch):
    record = {"noise": [{"kind": "flip"}], "digest": "of what was before the brush"}
    placed_layers[1].metadata[RECORD] = record
    hashed = []
    monkeypatch.setattr("napari_metastructure.plugin.layers.digest", hashed.append)
    monkeypatch.setattr("napari_metastructure.plugin.docks.train.show_info", lambda text: None)
    monkeypatch.setattr(dock.panel, "start", lambda *_: None)
    dock.run()
    assert len(hashed) == 1


def test_recorded_noise_can_be_left_out(viewer, dock, placed_layers, open_dock, qtbot):
    _, corrupt = open_dock("Corrupt labels")
    corrupt.labels.value = placed_layers[1]
    corrupt.panel.run_button.click()
    finish(qtbot, corrupt)
    dock.labels.value = viewer.layers[-1]
    assert dock._noise(dock._recorded())[0]["kind"] == "sample"
    dock.noise["label_noise"].value = "none"
    assert dock._noise(dock._recorded()) is None
