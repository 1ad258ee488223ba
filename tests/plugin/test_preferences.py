"""napari's Preferences show our settings, and the docks follow them."""

import pytest
from napari import settings
from qtpy.QtWidgets import QLabel

from napari_metastructure.plugin.parts.model_panel import _in_folder
from napari_metastructure.plugin.preferences import preference, use_threads

PLUGIN = "napari-metastructure"
pytestmark = pytest.mark.skipif(
    not hasattr(settings, "get_plugin_settings"), reason="since napari 0.9"
)


@pytest.fixture
def ours(monkeypatch, viewer):
    """The settings, in memory only."""
    monkeypatch.setattr(settings, "_PLUGIN_SETTINGS", {})
    return settings.get_plugin_settings(path_dir=None)[PLUGIN]


def test_nothing_is_set_at_first(ours):
    assert preference("computing", "tile") is None
    assert preference("folders", "results") is None
    assert preference("nothing", "here") is None
    assert _in_folder("m.safetensors") == "m.safetensors"


def test_docks_begin_with_what_is_set(qtbot, ours, viewer, open_dock, tmp_path):
    ours.computing.device = "cpu"
    ours.folders.models, ours.folders.results = str(tmp_path), str(tmp_path)
    dock = open_dock("Train segmentation")[1]
    assert dock.form["device"].value == "cpu"
    assert dock.models.folder.value == tmp_path
    assert _in_folder("m.safetensors") == str(tmp_path / "m.safetensors")
    assert open_dock("Batch")[1].device.value == "cpu"


def test_threads_are_used(ours):
    import torch

    before = torch.get_num_threads()
    try:
        ours.computing.threads = 3
        use_threads()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_dialog_shows_them(qtbot, ours):
    from napari._qt.dialogs.preferences_dialog import PreferencesDialog

    dialog = PreferencesDialog()
    qtbot.addWidget(dialog)
    shown = [label.text() for label in dialog.findChildren(QLabel)]
    assert {"Device", "Tile size", "Threads", "Models", "Large results"} | {
        "Unfinished trainings"
    } <= set(shown)
