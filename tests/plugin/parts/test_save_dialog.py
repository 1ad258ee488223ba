"""Tables, scores and settings are saved as they were named, and replace nothing unasked."""

from types import SimpleNamespace

import numpy as np
import pytest

from napari_metastructure.plugin.parts import save_dialog


@pytest.fixture
def type_name(monkeypatch):
    """Type names in the dialogs to come; returns the list of questions about other files."""

    def type_name(name, replace):
        dialog = SimpleNamespace(getSaveFileName=lambda *_: (str(name), ""))
        monkeypatch.setattr(save_dialog, "QFileDialog", dialog)
        asked = []
        message = SimpleNamespace(
            question=lambda *told: asked.append(told[-1]) or replace,
            StandardButton=SimpleNamespace(Yes=True),
        )
        monkeypatch.setattr(save_dialog, "QMessageBox", message)
        return asked

    return type_name


@pytest.fixture
def savers(qtbot, viewer, open_dock, placed_layers):
    """By the ending of what they save, what opens the dialogs."""
    measure, compare = open_dock("Objects and measurements")[1], open_dock("Compare labels")[1]
    labels = placed_layers[1]
    viewer.add_labels(np.roll(labels.data, 2, 1), name="other")
    compare.reset_choices()
    for dock in (measure, compare):
        dock.panel.run_button.click()
        qtbot.waitUntil(lambda: not dock.panel.running, timeout=30_000)  # noqa: B023
    return {
        "table.csv": lambda: measure._ask_and_save("objects.csv", measure.table),
        "scores.csv": compare._ask_and_save,
        "settings.yaml": measure.again._ask_and_save,
    }


def test_what_the_dialog_did_not_ask_about_is_asked_about(savers, type_name, tmp_path):
    for name, save in savers.items():
        stem, ending = name.split(".")
        typed, path = tmp_path / f"{stem}_v1.2", tmp_path / f"{stem}_v1.2.{ending}"
        asked = type_name(typed, replace=False)
        save()
        assert path.is_file(), name  # dots in the name stay
        assert not asked
        path.write_text("the user's")
        save()
        assert path.read_text() == "the user's"
        assert len(asked) == 1
        type_name(typed, replace=True)
        save()
        assert path.read_text() != "the user's"
        assert not type_name(path, replace=False)  # the dialog has asked
        path.write_text("the user's")
        save()
        assert path.read_text() != "the user's"
