"""A training that was interrupted is offered again, in a real napari window."""

import numpy as np
import pytest

from napari_metastructure.jobs.events import Step
from napari_metastructure.plugin.parts import interrupted
from tests.plugin.docks import test_segment
from tests.plugin.docks.test_train import finish, set_up, start


@pytest.fixture
def folder(own_data):
    return own_data / "unfinished"


@pytest.fixture
def dock(placed_layers, open_dock):
    dock = set_up(open_dock("Train segmentation")[1])
    dock.models.predict_after.value = False
    return dock


def stopped(qtbot, dock):
    """Start a training and stop it."""
    start(qtbot, dock)
    dock.panel.stop_button.click()
    finish(qtbot, dock)


def button(dock, text):
    from qtpy.QtWidgets import QPushButton

    return next(b for b in dock.interrupted.findChildren(QPushButton) if b.text() == text)


def test_a_stopped_training_is_offered_and_resumed_with_its_settings(qtbot, dock, folder):
    assert not dock.interrupted.isVisible()
    stopped(qtbot, dock)
    done = dock.interrupted.state["step"]
    assert dock.interrupted.isVisible()
    assert f"step {done} of" in dock.interrupted.text.text()
    dock.advanced["channels"].value = 6
    first = []
    dock.panel.yielded.connect(
        lambda event: first.append(event.step) if isinstance(event, Step) else None
    )
    button(dock, "Resume").click()
    assert not dock.interrupted.isVisible()
    qtbot.waitUntil(lambda: bool(first), timeout=60_000)
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert first[0] == done + 1
    assert dock.advanced["channels"].value == 4
    assert dock.models.model.record["steps"] >= done
    assert len(list(folder.iterdir())) == 1


def test_a_stopped_training_predicts_nothing_by_itself(qtbot, dock, viewer):
    dock.models.predict_after.value = True
    layers = list(viewer.layers)
    stopped(qtbot, dock)
    assert not dock.panel.running
    assert "Predict applies them" in dock.panel.status.text()
    assert list(viewer.layers) == layers
    assert dock.models.predict_button.isEnabled()


def test_a_training_that_ends_leaves_nothing(qtbot, dock, folder):
    dock.panel.run_button.click()
    finish(qtbot, dock)
    assert dock.models.model is not None
    assert not list(folder.iterdir())
    assert not dock.interrupted.isVisible()


def test_start_anew_gives_the_unfinished_one_up(qtbot, dock, folder):
    stopped(qtbot, dock)
    (before,) = folder.iterdir()
    before.rename(before.with_name(f"{dock.interrupted._image}-7.safetensors"))
    dock.interrupted.look_again()
    button(dock, "Start anew").click()
    qtbot.waitUntil(lambda: dock.panel.progress_bar.value() > 0, timeout=60_000)
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert [path.name for path in folder.iterdir()] == [f"{dock.interrupted._image}-1.safetensors"]


def test_run_keeps_the_unfinished_one(qtbot, dock, folder):
    stopped(qtbot, dock)
    stopped(qtbot, dock)
    assert len(list(folder.iterdir())) == 2


def test_it_belongs_to_its_image(qtbot, dock, viewer, placed_layers):
    stopped(qtbot, dock)
    image, _ = placed_layers
    other = viewer.add_image(image.data + 1, name="other")
    dock.image.value = other
    assert not dock.interrupted.isVisible()
    dock.image.value = image
    assert dock.interrupted.isVisible()


def test_changed_labels_are_refused_in_a_sentence(qtbot, dock, placed_layers):
    stopped(qtbot, dock)
    labels = placed_layers[1]
    labels.data = 1 - (labels.data > 0).astype(labels.data.dtype)
    button(dock, "Resume").click()
    finish(qtbot, dock)
    assert "with other labels" in dock.panel.status.text()
    assert dock.interrupted.isVisible()


def test_nothing_can_be_resumed_while_something_runs(qtbot, dock, viewer, placed_layers):
    stopped(qtbot, dock)
    image, _ = placed_layers
    start(qtbot, dock)
    dock.image.value = viewer.add_image(image.data + 1, name="other")
    dock.image.value = image
    assert dock.interrupted.isVisible()
    assert not button(dock, "Resume").isEnabled()
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert button(dock, "Resume").isEnabled()


@pytest.mark.parametrize("text", ["Resume", "Start anew"])
def test_without_labels_nothing_starts(qtbot, dock, viewer, placed_layers, text):
    stopped(qtbot, dock)
    for layer in [layer for layer in viewer.layers if layer._type_string == "labels"]:
        viewer.layers.remove(layer)
    assert dock.interrupted.isVisible()
    button(dock, text).click()
    assert not dock.panel.running


def test_the_folder_can_be_chosen(monkeypatch, tmp_path):
    assert interrupted.folder_of_interrupted().name == "unfinished"
    monkeypatch.setattr(interrupted, "preference", lambda *names: str(tmp_path))
    assert interrupted.folder_of_interrupted() == tmp_path


# ----------------------------------------------------------------- few or no labels


@pytest.fixture
def few(placed_layers, open_dock):
    return test_segment.set_up(open_dock("Segment with few or no labels")[1])


def stop_at_step(qtbot, dock, number):
    """Start a segmentation and stop it once it has trained for so many steps."""
    steps = []

    def on_event(event):
        if isinstance(event, Step):
            steps.append(event.step)
            if event.step == number:
                dock.panel.stop()

    dock.panel.yielded.connect(on_event)
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: number in steps, timeout=60_000)
    finish(qtbot, dock)
    dock.panel.yielded.disconnect(on_event)


def resume_to_the_end(qtbot, dock):
    """Press Resume; returns the steps that were done, and the last events."""
    steps = []
    dock.panel.yielded.connect(
        lambda event: steps.append(event.step) if isinstance(event, Step) else None
    )
    button(dock, "Resume").click()
    assert not dock.interrupted.isVisible()
    finish(qtbot, dock)
    return steps


def test_a_segmentation_without_labels_is_resumed_with_its_settings(qtbot, few, folder, viewer):
    few.advanced.set_values({"min_steps": 12, "rounds": 2})
    few.form["epochs"].value = 1
    stop_at_step(qtbot, few, 5)
    kept = few.interrupted.state
    assert f"step {kept['step']} of {kept['total']}" in few.interrupted.text.text()
    assert few.interrupted.isVisible()
    few.form["mode"].value = "paper"  # has defaults of its own
    steps = resume_to_the_end(qtbot, few)
    assert steps[0] == kept["step"] + 1
    assert few.form["mode"].value == "robust"
    assert few.advanced["rounds"].value == 2
    assert few.models.model.record["steps"] >= 12
    assert not list(folder.iterdir())
    assert not few.interrupted.isVisible()


def test_a_segmentation_with_strokes_is_resumed(qtbot, few, folder, viewer, placed_layers):
    few.strokes.live_box.setChecked(False)
    strokes = np.zeros(placed_layers[1].data.shape, np.uint8)
    strokes[0] = placed_layers[1].data[0] + 1
    few.strokes.show_strokes(strokes)
    few.advanced["min_steps"].value = 30
    stop_at_step(qtbot, few, 5)
    done = few.interrupted.state["step"]
    assert few.models.model is not None  # of which a resumed training does not go on
    assert resume_to_the_end(qtbot, few)[0] == done + 1
    assert few.models.model.record["result"] in ("network", "classifier")
    assert not list(folder.iterdir())


def test_each_dock_offers_its_own_trainings(qtbot, few, dock, folder):
    stop_at_step(qtbot, few, 3)
    assert few.interrupted.isVisible()
    dock.interrupted.look_again()
    assert not dock.interrupted.isVisible()
    stopped(qtbot, dock)
    assert dock.interrupted.isVisible()
    assert len(list(folder.iterdir())) == 2


def test_the_published_mode_is_resumed_with_its_settings(qtbot, few, folder):
    few.form["mode"].value = "paper"
    few.advanced.set_values({"channels": 4, "depth": 3, "patch_size": 64, "batch_size": 2})
    few.form["epochs"].value = 100
    stop_at_step(qtbot, few, 3)
    few.form["mode"].value = "robust"
    assert resume_to_the_end(qtbot, few)[0] > 3
    assert few.form["mode"].value == "paper"
    assert few.form["epochs"].value == 100
    assert not list(folder.iterdir())
