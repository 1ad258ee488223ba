"""Plots in the light and the dark theme."""

import pyqtgraph as pg
import pytest
from qtpy.QtGui import QPalette


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axes_and_titles_have_the_colour_of_the_theme(qtbot, viewer, open_dock, theme):
    _, dock = open_dock("Train segmentation")
    dock.curves.show()
    viewer.theme = theme
    text = dock.palette().color(QPalette.ColorRole.WindowText).name

    def colours():
        items = dock.curves.scene().items()
        yield from (
            item.textPen().color().name() for item in items if isinstance(item, pg.AxisItem)
        )
        yield from (item.opts["color"].name() for item in items if isinstance(item, pg.LabelItem))

    qtbot.waitUntil(lambda: set(colours()) == {text()})
    assert (dock.palette().color(QPalette.ColorRole.WindowText).lightness() < 128) == (
        theme == "light"
    )


def test_curves_are_named_in_their_colours(viewer, open_dock):
    _, dock = open_dock("Train segmentation")
    titles = [i.text for i in dock.curves.scene().items() if isinstance(i, pg.LabelItem)]
    assert any("#56b4e9'>Dice" in title and "#e69f00'>AUC" in title for title in titles)
