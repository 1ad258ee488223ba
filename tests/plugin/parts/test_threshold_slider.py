"""The number beside the slider of a threshold."""

import pytest
from qtpy.QtWidgets import QDoubleSpinBox

from napari_metastructure.plugin.parts.threshold_slider import ThresholdSlider, decimals


@pytest.fixture
def slider(qtbot):
    slider = ThresholdSlider(name="threshold")
    qtbot.addWidget(slider.native)
    return slider


@pytest.mark.parametrize(
    ("threshold", "text"),
    [(0.5, "0.500"), (0.0063, "0.0063"), (0.00005, "0.000050"), (0.99857, "0.9986"), (1, "1.000")],
)
def test_it_has_the_decimals_that_the_value_needs(slider, threshold, text):
    slider.value = threshold
    assert f"{threshold:.{decimals(threshold)}f}" == text
    assert slider.native.findChild(QDoubleSpinBox).cleanText().replace(",", ".") == text


def test_leaving_the_number_leaves_the_value(slider):
    slider.value = 0.0063
    slider.native.findChild(QDoubleSpinBox).editingFinished.emit()
    assert slider.value == pytest.approx(0.0063)


def test_it_shows_a_threshold_of_more_digits_than_its_own(slider):
    assert not slider.shows(None)
    slider.value = 0.03456789
    assert slider.shows(0.03456789)
    assert not slider.shows(0.0361)
