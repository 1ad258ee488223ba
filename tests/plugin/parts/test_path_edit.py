"""Paths that are typed into a box."""

from pathlib import Path

import pytest
from qtpy.QtCore import Qt

from napari_metastructure.plugin.parts.path_edit import PathEdit


@pytest.fixture
def box(qtbot):
    box = PathEdit(name="images", mode="d", nullable=True, value=None)
    qtbot.addWidget(box.native)
    return box


def test_a_path_counts_once_it_is_whole(qtbot, box):
    told = []
    box.changed.connect(told.append)
    line = box.line_edit.native
    qtbot.keyClicks(line, "/home/me")
    assert told == []
    qtbot.keyClick(line, Qt.Key.Key_Return)
    assert told == [Path("/home/me")]
    line.editingFinished.emit()  # left without a change
    assert len(told) == 1


def test_a_path_that_was_chosen_counts_at_once(box):
    told = []
    box.changed.connect(told.append)
    box.value = "/home/me"  # as its button does
    assert told == [Path("/home/me")]
