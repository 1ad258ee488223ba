"""A training that was interrupted is offered again, in a real napari window."""

import pytest

from napari_metastructure.jobs.events import Step
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
