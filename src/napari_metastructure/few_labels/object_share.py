"""The share of the images that objects take, estimated from a few strokes.

Strokes do not tell it: a user paints as much background as object. But pixels of strokes are drawn
from their class, so they tell how often a classifier is right in each class, and with that, how
many of the pixels that it takes for objects are objects.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["believable", "object_share", "prior_of"]

_LEAST, _MOST = 0.1, 0.95  # smaller shares are not told apart from none
_LEAST_DIFFERENCE = 0.1  # between the rates of the two classes


def object_share(held_out: NDArray, is_object: NDArray, probabilities: Any) -> float | None:
    """Share of pixels that are objects, by the median of adjusted counts over all thresholds.

    At each threshold the share q of pixels above it is ``s t + (1 - s) f``, with the rates t and f
    at which pixels of objects and of background lie above it; s is what is looked for ("median
    sweep", Forman 2008, Data Mining and Knowledge Discovery 17:164, section 4.2).

    Parameters
    ----------
    held_out : array of float, (pixels,), [0, 1]
        Probabilities of objects that a classifier gives to pixels of strokes that it has not
        learnt from.
    is_object : array of bool, (pixels,)
    probabilities : sequence of arrays of float, [0, 1]
        The classifier's, of all pixels.

    Returns
    -------
    float or None
        From 0.1 to 0.95; None if the classifier does not tell the classes apart.
    """
    thresholds = np.arange(5, 96) / 100
    above = np.zeros(len(thresholds))
    for p in probabilities:
        above += _counts_above(p, thresholds)
    above /= sum(np.size(p) for p in probabilities)
    of_objects = _counts_above(held_out[is_object], thresholds) / max(is_object.sum(), 1)
    of_background = _counts_above(held_out[~is_object], thresholds) / max((~is_object).sum(), 1)
    difference = of_objects - of_background
    told = difference > max(_LEAST_DIFFERENCE, difference.max() / 2)
    if not told.any():
        return None
    shares = (above[told] - of_background[told]) / difference[told]
    return float(np.clip(np.median(shares), _LEAST, _MOST))


def prior_of(share: float) -> float:
    """The prior probability of objects: halfway from even to the share, as that is uncertain."""
    return float(np.sqrt(share / 2))


def believable(share: float | None) -> float | None:
    """The share, or None where there is no estimate or it lies at the end of what is estimated."""
    return share if share is not None and _LEAST < share < _MOST else None


def _counts_above(values, thresholds):
    """How many values lie above each of the ascending thresholds."""
    ordered = np.sort(np.ravel(values))
    return len(ordered) - np.searchsorted(ordered, thresholds, "right")
