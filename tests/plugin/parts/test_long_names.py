"""Long names of layers do not widen docks, and can be told apart."""

import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QHelpEvent, QTextDocument
from qtpy.QtWidgets import QApplication, QToolTip

from napari_metastructure.plugin.parts.long_names import as_html, breakable

NAME = "experiment_2026-11-26_plate_3_well_B07_channel_DAPI_maximum_projection_registered"


@pytest.fixture
def dock(viewer, stack, open_dock):
    image, mask = stack
    viewer.add_image(image, name=NAME)
    viewer.add_labels(mask, name=f"{NAME}_masks")
    viewer.add_labels(mask[:2], name=f"{NAME}_masks_of_two_planes")
    return open_dock("Compare labels")[1]


def test_a_dock_stays_narrow(viewer, dock):
    dock.reference.value = viewer.layers[1]
    dock.other.value = viewer.layers[2]
    assert f"{NAME}_masks has shape" in dock.panel.reason.text().replace("\u200b", "")
    assert dock.minimumSizeHint().width() < 450


def test_names_that_differ_at_the_end_are_told_apart(qtbot, viewer, dock):
    pictures = []
    for layer in viewer.layers[1:]:
        dock.other.value = layer
        box = dock.other.native
        assert box.fontMetrics().horizontalAdvance(layer.name) > box.width()
        pictures.append(box.grab().toImage())
    assert pictures[0] != pictures[1]
    where = box.rect().center()
    event = QHelpEvent(QEvent.Type.ToolTip, where, box.mapToGlobal(where))
    QApplication.sendEvent(box, event)
    assert QToolTip.text() == as_html(f"{viewer.layers[2].name}\n{box.toolTip()}")
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton)
    assert box.view().width() >= min(box.view().sizeHintForColumn(0), 800)
    box.hidePopup()


def test_long_words_are_broken_but_no_paths():
    assert breakable("a_short_name is kept") == "a_short_name is kept"
    long = "x" * 20 + "_" + "y" * 20
    assert breakable(f"See {long}.") == f"See {long.replace('_', '_' + chr(0x200B))}."
    path = f"Written to /home/me/{long}/{long}.tif."
    assert breakable(path) == path


def test_names_are_shown_as_they_are(viewer, dock):
    """Qt would take them for HTML."""
    layer = viewer.layers[1]
    layer.name = "a <b>bold</b> & large name"
    dock.reference.value = layer
    assert "a <b>bold</b> & large name has shape" in dock.panel.reason.text()
    assert dock.panel.reason.textFormat() == Qt.TextFormat.PlainText
    assert dock.panel.status.textFormat() == Qt.TextFormat.PlainText
    tip = as_html(f"{layer.name}\nits tooltip")
    document = QTextDocument()
    document.setHtml(tip)
    assert document.toPlainText() == f"{layer.name}\nits tooltip"
    assert Qt.mightBeRichText(tip)
