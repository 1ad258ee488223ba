"""Plots whose axes and titles have the colour of the theme's text."""

from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import QEvent
from qtpy.QtGui import QPalette

__all__ = ["FollowsTheme"]


class FollowsTheme:
    """Mixed into a view of pyqtgraph: its plots are as readable on light as on dark."""

    def changeEvent(self: Any, event: QEvent) -> None:
        """Take the new colours when the theme has changed."""
        super().changeEvent(event)  # type: ignore[misc]
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange):
            self.colour_axes()

    def showEvent(self: Any, event: QEvent) -> None:
        """Take the colours of the style sheet, which holds from now on."""
        super().showEvent(event)  # type: ignore[misc]
        self.colour_axes()

    def colour_axes(self: Any) -> None:
        """Give the axes and titles that are there the colour of the theme's text."""
        colour = self.palette().color(QPalette.ColorRole.WindowText)
        scene = self.scene()  # none while the view is made
        for item in scene.items() if scene else ():
            if isinstance(item, pg.AxisItem):
                item.setPen(colour)
                item.setTextPen(colour)
            elif isinstance(item, pg.LabelItem):
                item.setText(item.text, color=colour)
