"""A start mask as a second opinion beside the label of a stroke classifier.

The classifier errs where the strokes say too little, the start mask where the image misleads a
filter, so that their errors differ. Where both agree, the label is the more certain for it; where
they do not, it is left open, and the network decides by what it has learnt elsewhere.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_metastructure.few_labels.stroke_threshold import told_apart
from napari_metastructure.learning.stroke_classifier import StrokeClassifier

__all__ = ["agreed", "on_strokes"]

_AS_GOOD = 0.8  # of how well the classifier tells strokes apart that it has not seen
_MOST_ERRORS, _TOLERATED = 2.0, 0.02  # times those of the classifier, and so many more


def on_strokes(
    masks: Sequence[NDArray], strokes: Sequence[NDArray], classifier: StrokeClassifier
) -> dict:
    """Whether a start mask tells the strokes apart nearly as well as a classifier does.

    Parameters
    ----------
    masks : sequence of arrays of int
        0 and 1, planes or volumes.
    strokes : sequence of arrays of int
        Of the same shapes: 0 not annotated, 1 background, 2 object. Of one kind alone nothing is
        told apart.
    classifier : StrokeClassifier
        What it says of strokes on planes that it has not seen counts; with strokes on a single
        plane, its out-of-bag error.

    Returns
    -------
    dict
        ``start`` and ``classifier``: how well each tells them apart, 0 by chance, 1 if all are
        right; ``used``: whether the start may have a say.
    """
    pairs = list(zip(masks, strokes))
    values = np.concatenate([mask[stroke > 0] for mask, stroke in pairs])
    marks = np.concatenate([stroke[stroke > 0] for _, stroke in pairs])
    objects = marks == marks.max()
    start = 0.0 if objects.all() else float(told_apart(values, objects, [0.5])[0])
    held_out = classifier.held_out_probabilities()
    few_errors = True
    if held_out is None:
        best = 1 - 2 * classifier.oob_error
    else:
        p, of_stroke = held_out
        best = float(told_apart(p, of_stroke == of_stroke.max(), np.unique(p)).max())
        few_errors = 1 - start <= _MOST_ERRORS * (1 - best) + _TOLERATED
    found = {"start": round(start, 3), "classifier": round(best, 3)}
    return {**found, "used": start > 0 and start >= _AS_GOOD * best and few_errors}


def agreed(
    labels: Sequence[NDArray], masks: Sequence[NDArray], strokes: Sequence[NDArray]
) -> list[NDArray]:
    """Labels that are left open where a start mask differs from them.

    Parameters
    ----------
    labels : sequence of arrays of int
        Of two classes.
    masks : sequence of arrays of int
        0 and 1, of the same shapes.
    strokes : sequence of arrays of int
        Of the same shapes; what is annotated stays, whatever the mask says.

    Returns
    -------
    list of arrays of int
        -1 where open; the labels as they are if a class would not be left.
    """
    top = max(int(label.max()) for label in labels)
    open_ = [
        ((label == top) != (mask > 0)) & (stroke == 0)
        for label, mask, stroke in zip(labels, masks, strokes)
    ]
    found = [np.where(at, label.dtype.type(-1), label) for at, label in zip(open_, labels)]
    left = {int(value) for label in found for value in np.unique(label)} - {-1}
    return found if len(left) > 1 else list(labels)
