"""Where to cut a stroke classifier's probabilities, in the window and for the network's labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_metastructure.few_labels.object_share import believable, object_share, prior_of
from napari_metastructure.learning.stroke_classifier import StrokeClassifier
from napari_metastructure.learning.threshold import outline_threshold

__all__ = ["heeding_strokes", "threshold_of_classifier", "told_apart"]

_EDGES_BESIDE_SHARE = 0.5


def threshold_of_classifier(
    classifier: StrokeClassifier, probabilities: Any, pictures: Any
) -> tuple[float, float | None]:
    """The threshold of a classifier of two values, by the share of objects and the edges.

    Parameters
    ----------
    classifier : StrokeClassifier
    probabilities : sequence of arrays of float, [0, 1]
        Of the higher value, for planes or volumes.
    pictures : sequence of arrays
        The images, of the same shapes.

    Returns
    -------
    threshold : float
    share : float or None
        Of objects, as `object_share` estimates it from strokes on other planes; None if there are
        strokes on a single one.
    """
    held_out, share = classifier.held_out_probabilities(), None
    if held_out is not None:
        p, values = held_out
        share = object_share(p, values == values.max(), probabilities)
    rule: dict[str, Any] = {}
    if share is not None:
        rule = {"prior": prior_of(share), "edges": _EDGES_BESIDE_SHARE, "share": believable(share)}
    threshold = outline_threshold(probabilities, pictures, classifier.polarity, **rule)
    return threshold, None if share is None else round(share, 3)


def heeding_strokes(
    threshold: float, probabilities: Sequence[NDArray], strokes: Sequence[NDArray]
) -> float:
    """The threshold, or the nearest that does not contradict the strokes.

    Strokes do not tell the share of objects, so they do not choose a threshold. But one at which
    the strokes' pixels are told apart not half as well as they could be is wrong: the mask is
    empty, say, or full. Told apart means the mean of the shares of both classes that are right,
    beyond chance.

    Parameters
    ----------
    threshold : float
    probabilities : sequence of arrays of float, [0, 1]
    strokes : sequence of arrays of int
        Of the same shapes: 0 not annotated, 1 background, more object.
    """
    marks = [stroke > 0 for stroke in strokes]
    p = np.concatenate([plane[at] for plane, at in zip(probabilities, marks)])
    objects = np.concatenate([stroke[at] for stroke, at in zip(strokes, marks)]) > 1
    if objects.all() or not objects.any():
        return threshold
    values = np.unique(p).astype(float)
    tried = np.append((values[1:] + values[:-1]) / 2, threshold)
    found = told_apart(p, objects, tried)
    if found[-1] >= found.max() / 2:
        return threshold
    fitting = tried[found >= found.max() / 2]
    return float(fitting[np.abs(fitting - threshold).argmin()])


def told_apart(probabilities: NDArray, objects: NDArray, thresholds: ArrayLike) -> NDArray:
    """How well thresholds tell annotated pixels apart.

    Parameters
    ----------
    probabilities : array of float, (pixels,)
    objects : array of bool, (pixels,)
        Whether a pixel is of an object; there should be pixels of both kinds.
    thresholds : array of float, (n,)

    Returns
    -------
    array of float, (n,), [-1, 1]
        The mean share of both kinds that is right, beyond chance: 0 by chance, 1 if all are right.
    """
    below = [
        np.searchsorted(np.sort(probabilities[kind]), thresholds, "right") / np.count_nonzero(kind)
        for kind in (~objects, objects)
    ]
    return below[0] - below[1]
