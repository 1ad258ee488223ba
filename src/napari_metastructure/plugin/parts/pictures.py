"""A strip of small pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg

from napari_metastructure.plugin.parts.plots import FollowsTheme

__all__ = ["Pictures"]


class Pictures(FollowsTheme, pg.GraphicsLayoutWidget):
    """A strip of small pictures with titles.

    Parameters
    ----------
    titles : sequence of str
    """

    def __init__(self, titles: Sequence[str]) -> None:
        super().__init__()
        self.setBackground(None)
        self.setFixedHeight(130)
        self.ci.setContentsMargins(0, 0, 0, 0)
        self._items = []
        for column, title in enumerate(titles):
            self.addLabel(title, row=0, col=column)
            box = self.addViewBox(
                row=1,
                col=column,
                lockAspect=True,
                invertY=True,
                enableMouse=False,
                enableMenu=False,
            )
            item = pg.ImageItem(levels=(0, 1), axisOrder="row-major")
            box.addItem(item)
            self._items.append(item)

    def draw(self, *planes: Any) -> None:
        """Show these planes, values 0 to 1; of a volume its middle plane."""
        for item, plane in zip(self._items, planes):
            plane = plane[len(plane) // 2] if plane.ndim == 3 else plane
            item.setImage(np.asarray(plane, np.float32), levels=(0, 1))
