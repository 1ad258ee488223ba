"""Where to cut a stroke classifier's probabilities, in the window and for the network's labels."""

from typing import Any

from napari_metastructure.few_labels.object_share import object_share, prior_of
from napari_metastructure.learning.stroke_classifier import StrokeClassifier
from napari_metastructure.learning.threshold import outline_threshold

__all__ = ["threshold_of_classifier"]

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
