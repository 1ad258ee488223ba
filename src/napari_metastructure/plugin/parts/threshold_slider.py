"""The slider of a threshold, which may lie close to 0 or 1."""

import math

from magicgui.widgets import FloatSlider
from qtpy.QtWidgets import QDoubleSpinBox

__all__ = ["ThresholdSlider", "decimals"]

_FEWEST, _MOST = 3, 6


def decimals(threshold: float) -> int:
    """Decimals that tell a threshold from its neighbours and from 0 and 1.

    Parameters
    ----------
    threshold : float, [0, 1]

    Returns
    -------
    int
        From 3 to 6: two digits of the distance to 0 or 1, whichever is nearer.
    """
    distance = min(threshold, 1 - threshold)
    if distance <= 0:
        return _FEWEST
    return min(max(1 - math.floor(math.log10(distance)), _FEWEST), _MOST)


class ThresholdSlider(FloatSlider):
    """A slider from 0 to 1 whose number has as many decimals as its value needs.

    Parameters
    ----------
    **options
        Of a magicgui widget.
    """

    def __init__(self, **options: object) -> None:
        super().__init__(min=0, max=1, step=0.005, value=0.5, **options)
        self._readout = self.native.findChild(QDoubleSpinBox)
        self.changed.connect(self._show_decimals)
        self._show_decimals(self.value)

    def shows(self, threshold: float | None) -> bool:
        """Whether the slider stands at a threshold, as far as its number tells."""
        if threshold is None:
            return False
        places = decimals(threshold)
        return round(self.value, places) == round(threshold, places)

    def _show_decimals(self, value):
        places = decimals(value)
        self._readout.setDecimals(places)
        self._readout.setSingleStep(5 * 10.0**-places)
        self._readout.setValue(value)  # fewer decimals have rounded it
