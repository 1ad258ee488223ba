"""Colours that stand side by side differ for colour-blind eyes, too (Machado et al. 2009)."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from napari_metastructure.plugin.docks.compare import _ERRORS
from napari_metastructure.plugin.parts.colours import CLASSES, COLOURS

SEEN_BY = {
    "all": np.eye(3),
    "protanopes": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopes": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopes": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def smallest_difference(colours, eyes):
    """The smallest distance of two colours in CIELAB, as these eyes see them."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.array(SEEN_BY[eyes]).T).clip(0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen)
    return min(np.linalg.norm(a - b) for a, b in combinations(lab, 2))


@pytest.mark.parametrize("eyes", SEEN_BY)
@pytest.mark.parametrize(
    ("colours", "least"),
    [
        (COLOURS, 15),
        (CLASSES, 15),
        ([colour for colour in _ERRORS.values() if colour != "transparent"], 40),
    ],
    ids=["curves", "classes", "errors"],
)
def test_colours_differ_for_all_eyes(colours, least, eyes):
    assert smallest_difference(colours, eyes) > least
