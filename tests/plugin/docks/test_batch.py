"""The batch dock, clicked in a real napari window."""

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import Qt

from napari_metastructure.files.read import read
from napari_metastructure.plugin.docks.batch import _state
from napari_metastructure.plugin.layers import RECORD
from napari_metastructure.runs.batch import Files
from tests.runs.test_batch import FILES, channelled, model, plates  # noqa: F401

LONG = 100_000


@pytest.fixture
def dock(open_dock, plates, model):  # noqa: F811
    """A dock set up for a model on four files in two groups, and a file that is no image."""
    (plates / "images/control/a3.tif").write_text("no image")
    dock = open_dock("Batch")[1]
    dock.images.value, dock.steps.value = plates / "images", (model,)
    dock.results.value = plates / "results"
    dock.form["objects"].value = True
    return dock


def finish(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)


def states(dock):
    items = [dock.list.topLevelItem(number) for number in range(dock.list.topLevelItemCount())]
    return {item.text(0): item.text(1) for item in items}


def test_run_and_open(qtbot, viewer, dock, plates):  # noqa: F811
    assert dock.about.text() == "5 images in 2 groups: control (3), drug (2)."
    dock.panel.run_button.click()
    finish(qtbot, dock)
    found = states(dock)
    assert list(found) == sorted([*FILES, "control/a3.tif"], key=[*found].index)
    assert "cannot be read as TIFF" in found["control/a3.tif"]
    assert all(found[file].startswith("done, ") for file in FILES)
    assert "4 of 5 files done, 1 failed.\ncontrol/a3.tif: " in dock.summary.text()
    assert f"All objects are in {plates / 'results' / 'objects.csv'}." in dock.summary.text()
    item = dock.list.findItems("drug/a3.tif", Qt.MatchFlag.MatchExactly)[0]
    dock.list.itemActivated.emit(item, 0)  # as a double click does
    names = [layer.name for layer in viewer.layers]
    assert names == ["drug/a3.tif", "drug/a3.tif labels", "drug/a3.tif objects"]
    layer = viewer.layers["drug/a3.tif objects"]
    assert [layer.visible for layer in viewer.layers] == [True, False, True]
    np.testing.assert_array_equal(layer.data, read("results/objects/drug/a3.ome.tif").data)
    assert layer.metadata[RECORD]["operation"] == "measure"
    table = pd.read_csv("results/objects.csv")
    areas = table["area"][table["file"] == "drug/a3.tif"]
    np.testing.assert_allclose(layer.features["area"].dropna(), areas)
    dock.open("drug/a3.tif")  # again: no second copy
    dock.open("control/a3.tif")  # a notification
    assert len(viewer.layers) == 3


def test_an_ended_batch_comes_back_with_the_dock(qtbot, viewer, dock, open_dock):
    dock.panel.run_button.click()
    finish(qtbot, dock)
    said, found = dock.summary.text(), states(dock)
    viewer.window.remove_dock_widget(dock.parent())
    dock = open_dock("Batch")[1]
    assert (dock.summary.text(), states(dock)) == (said, found)
    dock.open("drug/a3.tif")
    assert "drug/a3.tif objects" in viewer.layers


def test_the_steps_are_told(dock):
    assert dock.about_steps.text() == "For each file: predict → measure."
    dock.results.value = None
    assert dock.about_steps.text() == "For each file: predict → measure."
    dock.steps.value = None
    assert not dock.about_steps.isVisibleTo(dock)


def test_a_single_image_and_object_are_told_in_the_singular(dock, plates):  # noqa: F811
    (plates / "alone").mkdir()
    (plates / "images/drug/a3.tif").rename(plates / "alone/a3.tif")
    dock.images.value = plates / "alone"
    assert dock.about.text() == "1 image."
    assert [_state({"error": "", "objects": n}) for n in (1, 2)] == [
        "done, 1 object",
        "done, 2 objects",
    ]


def test_stop_and_go_on(qtbot, dock):
    dock.panel.run_button.click()
    assert list(states(dock).values())[:2] == ["under way …", "waiting"]
    assert dock.unfinished() == ["Batch is running; the results of the present file would be lost."]
    dock.panel.stop_button.click()
    finish(qtbot, dock)
    assert dock.batch.waiting
    assert "Stopped; run the same again to continue." in dock.summary.text()
    assert "waiting" in states(dock).values()
    assert "under way …" not in states(dock).values()
    dock.panel.run_button.click()
    finish(qtbot, dock)
    assert not dock.batch.waiting
    assert "waiting" not in states(dock).values()


def test_what_cannot_run_is_said(dock, plates):  # noqa: F811
    assert dock.panel.run_button.isEnabled()
    (plates / "empty").mkdir()
    for box, value, text in (
        (dock.images, plates / "empty", "There is no image in"),
        (dock.images, None, "Choose a folder of images."),
        (dock.steps, (), "Choose a model, or records"),
        (dock.steps, (plates / "nothing.record.json",), "There is no file"),
        (dock.results, None, "Choose a folder for the results."),
    ):
        before = box.value
        box.value = value
        assert text in (dock.problem() or ""), text
        assert not dock.panel.run_button.isEnabled()
        box.value = before
    assert dock.panel.run_button.isEnabled()


def test_copied_python_does_the_same(qtbot, dock, plates):  # noqa: F811
    dock.objects["min_size"].value = 5
    dock.panel.run_button.click()
    finish(qtbot, dock)
    code = dock.again.text().replace(str(plates / "results"), str(plates / "again"))
    exec(code, {})
    for name in ("objects.csv", "summary.csv"):
        assert (plates / "again" / name).read_text() == (plates / "results" / name).read_text()


def test_what_was_understood_of_the_folder_is_said(qtbot, viewer, open_dock, channelled, tmp_path):  # noqa: F811
    dock = open_dock("Batch")[1]
    dock.images.value = tmp_path / "set"
    assert "6 images of 2 channels" in dock.about.text()  # before the rest is chosen
    assert "Choose a model" in dock.problem()
    dock.steps.value, dock.results.value = (tmp_path / "m.safetensors",), tmp_path / "results"
    assert dock.about.text() == (
        "6 images in 2 groups: imagesTr (4), imagesTs (2). 4 masks are left out (such as "
        "labelsTr/cell_0.tif); the steps take images. 6 images of 2 channels "
        "(imagesTr/cell_0_0000.tif to cell_0_0001.tif)."
    )
    dock.panel.run_button.click()
    finish(qtbot, dock)
    dock.open("imagesTs/cell_4.tif")
    layer = viewer.layers["imagesTs/cell_4.tif"]
    assert layer.data.shape == (2, 48, 48)
    assert layer.axis_labels == ("c", "y", "x")
    assert viewer.layers["imagesTs/cell_4.tif labels"].data.shape == (48, 48)


def test_a_folder_with_other_files_is_told_beside_its_field(open_dock, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("do not touch")
    dock = open_dock("Batch")[1]
    dock.results.value = folder  # before anything else is chosen
    assert "holds other files, such as thesis.txt" in dock.about_results.text()
    rows = dock.form.layout()
    below = rows.getWidgetPosition(dock.results.native)[0] + 1
    assert rows.getWidgetPosition(dock.about_results)[0] == below
    dock.results.value = tmp_path / "new"
    assert dock.about_results.isHidden()


def test_a_folder_without_images_is_told_before_a_model_is_chosen(open_dock, tmp_path):
    dock = open_dock("Batch")[1]
    dock.images.value = tmp_path / "not there"
    assert "There is no file or folder" in dock.panel.reason.text()


def test_a_folder_of_another_batch_cannot_be_run_into(dock, plates):  # noqa: F811
    (plates / "results").mkdir()
    (plates / "results/batch.json").write_text('{"steps": []}')
    dock._check()
    assert "holds a batch of other steps" in dock.about_results.text()
    assert dock.panel.reason.text() == "Choose another folder for the results."
    assert not dock.panel.run_button.isEnabled()


def test_no_folder_on_the_way_is_looked_through(qtbot, open_dock, plates, monkeypatch):  # noqa: F811
    """A path is typed key by key."""
    dock, looked = open_dock("Batch")[1], []
    monkeypatch.setattr(
        "napari_metastructure.plugin.docks.batch.Files",
        lambda images, *rest: looked.append(images) or Files(images, *rest),
    )
    line = dock.images.line_edit.native
    qtbot.keyClicks(line, str(plates / "images"))
    assert looked == []
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert looked == [plates / "images"]
    dock.form["objects"].value = True  # does not look again
    assert looked == [plates / "images"]
    assert "images" in dock.about.text()
