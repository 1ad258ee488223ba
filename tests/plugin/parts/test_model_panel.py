"""Names of models in the Save dialog."""

from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel

from napari_metastructure.plugin.layers import RECORD, place
from napari_metastructure.plugin.parts import model_panel, save_dialog


@pytest.fixture
def choose(monkeypatch):
    """Type a name in the dialog; returns what is saved."""

    def choose(name, replace=None):
        dialog = SimpleNamespace(getSaveFileName=lambda *_: (str(name), ""))
        monkeypatch.setattr(save_dialog, "QFileDialog", dialog)
        monkeypatch.setattr(save_dialog, "_may_replace", lambda *_: replace)
        saved = []
        model_panel.ModelPanel._ask_and_save(SimpleNamespace(save=saved.append))
        return [path.name for path in saved]

    return choose


def test_dots_stay_and_the_ending_is_added(choose, tmp_path):
    assert choose(tmp_path / "er_v0.1") == ["er_v0.1.safetensors"]
    assert choose(tmp_path / "er_v0.2.safetensors") == ["er_v0.2.safetensors"]
    assert choose("") == []


def test_a_file_that_the_dialog_did_not_ask_about_is_asked_about(choose, tmp_path):
    (tmp_path / "er_v0.1.safetensors").touch()
    assert choose(tmp_path / "er_v0.1", replace=False) == []
    assert choose(tmp_path / "er_v0.1", replace=True) == ["er_v0.1.safetensors"]
    assert choose(tmp_path / "er_v0.1.safetensors") == ["er_v0.1.safetensors"]  # it has asked


@pytest.fixture
def panel(open_dock, placed_layers):
    """The model panel of the training dock, with a model that fits the image."""
    from tests.learning.packages import new_model

    panel = open_dock("Train segmentation")[1].models
    panel.target.value = placed_layers[0]
    panel.take(new_model(), "blobs", unsaved=False)
    return panel


def test_a_shared_model_comes_back(panel, tmp_path, monkeypatch, placed_layers):
    pytest.importorskip("bioimageio.spec")  # in the extra `testing`
    typed = str(tmp_path / "blobs")
    dialog = SimpleNamespace(
        getSaveFileName=lambda *_: (typed, ""),
        getOpenFileName=lambda *_: (f"{typed}.bioimageio.zip", ""),
    )
    for module in (model_panel, save_dialog):
        monkeypatch.setattr(module, "QFileDialog", dialog)

    def fill_in(asked):
        assert "centre of" in asked.findChild(QLabel).text()
        ok = asked.buttons.button(asked.buttons.StandardButton.Ok)
        assert not ok.isEnabled()  # no author yet
        asked.form["authors"].value = "A. Biologist; B. Physicist"
        assert ok.isEnabled()
        return True

    monkeypatch.setattr(model_panel.ShareDialog, "exec", fill_in)
    model = panel.model
    panel.share_button.click()
    assert (tmp_path / "blobs.bioimageio.zip").is_file()
    panel.load_button.click()
    assert panel.model is not model
    assert panel.name == "blobs"
    assert panel.model.header() == model.header()


def test_what_keeps_a_model_from_being_shared_is_said(panel, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(model_panel, "notify_error", lambda error: told.append(str(error)))
    panel.share(tmp_path / "x", name="Blobs", authors=[], description="", license="MIT")
    assert told == ["The model could not be shared: Give at least one author of the model."]
    panel.viewer.layers.clear()
    panel.share_button.click()
    assert told[1:] == ["Choose an image to test the shared model on."]


def test_a_new_result_has_the_threshold_of_the_model(panel, qtbot):
    panel.model.threshold, panel.model.threshold_source = 0.03456789, "edges"
    panel.model.record = {"threshold_source": "edges"}
    panel.refresh()
    assert "Threshold 0.035: edges." in panel.note.text()
    p = np.linspace(0, 1, 100).reshape(10, 10)
    list(panel.showing("image", {}, p, panel.model.decide(p)))
    mask = panel.viewer.layers[-1]
    qtbot.wait(100)  # the slider has moved, but nobody has moved it
    assert mask.metadata[RECORD]["threshold_source"] == "edges"
    panel.threshold.value = 0.5
    qtbot.waitUntil(lambda: mask.metadata[RECORD]["threshold_source"] == "set by hand")


def test_masks_of_the_same_pixels_are_hidden_by_the_next(qtbot, viewer, panel, turns):
    """They would be seen through it, wherever it has no object; those of other planes stay."""

    def predict():
        panel.predict()
        qtbot.waitUntil(lambda: not panel.panel.running, timeout=20_000)
        return viewer.layers[-1]

    def shown():
        return [mask.visible for mask in masks]

    masks = [predict(), predict()]
    assert shown() == [False, True]
    assert len({number for _, number in turns}) == 4  # other events come between two layers
    panel.scope.value = "this plane"
    for plane in (1, 2):
        viewer.dims.set_current_step(0, plane)
        masks.append(predict())
    assert shown() == [False, False, True, True]
    masks.append(predict())
    assert shown() == [False, False, True, False, True]
    panel.scope.value = "whole stack"
    masks.append(predict())
    assert shown() == [False] * 5 + [True]


def test_results_of_other_images_and_what_is_no_result_stay(viewer, panel):
    image = panel.target.value
    record = {"operation": "segment", "applied_to": image.name}
    where = place(image)
    layers = [
        viewer.add_labels(np.ones(image.data.shape, np.uint8), metadata={RECORD: one}, **where)
        for one in (
            {},
            {**record, "applied_to": "another"},
            {**record, "operation": "strokes"},
            record,
        )
    ]
    empty = np.zeros(image.data.shape)
    list(panel.showing(image.name, where, empty, empty.astype(np.uint8)))
    assert [layer.visible for layer in layers] == [True, True, True, False]
