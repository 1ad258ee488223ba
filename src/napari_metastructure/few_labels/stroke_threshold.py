"""Where to cut a stroke classifier's probabilities, in the window and for the network's labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastructure.few_labels.object_share import object_share, prior_of
from napari_metastructure.learning.stroke_classifier import StrokeClassifier
from napari_metastructure.learning.threshold import outline_threshold

__all__ = ["heeding_strokes", "threshold_of_classifier"]

_EDGES_BESIDE_SHARE = 0.75


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
    rule = {} if share is None else {"prior": prior_of(share), "edges": _EDGES_BESIDE_SHARE}
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
    pairs = list(zip(probabilities, strokes))
    background, objects = (
        np.sort(np.concatenate([p[at(stroke)] for p, stroke in pairs]))
        for at in (lambda stroke: stroke == 1, lambda stroke: stroke > 1)
    )
    if not len(background) or not len(objects):
        return threshold
    values = np.unique(np.concatenate([background, objects])).astype(float)
    tried = np.append((values[1:] + values[:-1]) / 2, threshold)
    found = np.searchsorted(background, tried, "right") / len(background) - np.searchsorted(
        objects, tried, "right"
    ) / len(objects)  # 0 by chance, 1 if all are right
    if found[-1] >= found.max() / 2:
        return threshold
    fitting = tried[found >= found.max() / 2]
    return float(fitting[np.abs(fitting - threshold).argmin()])
