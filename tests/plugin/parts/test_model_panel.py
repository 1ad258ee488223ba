"""Names of models in the Save dialog."""

from types import SimpleNamespace

import pytest

from napari_metastructure.plugin.parts import model_panel


@pytest.fixture
def choose(monkeypatch):
    """Type a name in the dialog; returns what is saved."""

    def choose(name, replace=None):
        dialog = SimpleNamespace(getSaveFileName=lambda *_: (str(name), ""))
        monkeypatch.setattr(model_panel, "QFileDialog", dialog)
        monkeypatch.setattr(model_panel, "_may_replace", lambda *_: replace)
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
