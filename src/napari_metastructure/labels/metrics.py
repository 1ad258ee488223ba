"""Agreement between a reference label and a prediction: Dice, IoU, accuracy, AUC.

Everything follows from how many object and background pixels carry each
predicted value, so that one pass over the pixels gives every threshold's score.
"""

from typing import Any

import numpy as np

from napari_metastructure.arrays.blocks import as_array

__all__ = ["NAMES", "Tally", "evaluate", "score_counts", "score_probability"]

NAMES = ("dice", "iou", "accuracy", "auc", "threshold")


def evaluate(reference: Any, prediction: Any, *, ignore_label: int | None = None) -> dict[str, Any]:
    """Score a mask, a label image or a probability map against a reference.

    Parameters
    ----------
    reference : array of int or bool, any shape
        True labels, 0 = background; numpy, dask or zarr, read at once. Label -1, `ignore_label`
        and masked pixels do not count.
    prediction : array
        Integers or booleans of the same shape are compared as labels; masks may differ
        in their object value, 1 or 255. Floats are probabilities: of the same shape for two
        classes, scored at the best threshold over all pixels, or with the class axis first
        for more, scored by the most probable class. Pixels of NaN or infinity, and masked ones,
        do not count.
    ignore_label : int, optional
        Another reference label that does not count.

    Returns
    -------
    dict
        ``dice, iou, accuracy, auc, threshold``, nan where they have no meaning (``auc`` of a
        mask is that of its single operating point). Object is what lies above the threshold.
        With more than two classes ``dice`` and ``iou`` are means over the
        foreground classes, and ``per_class`` maps each class to its own
        ``{"dice", "iou"}``.

    Raises
    ------
    ValueError
        If the shapes do not match.
    TypeError
        If the reference holds floats, or the prediction neither numbers nor booleans.

    See Also
    --------
    napari_metastructure.compare : plane by plane, with the transition matrix and the errors
    """
    hidden = [
        np.ma.getmaskarray(a) if np.ma.isMaskedArray(a) else None for a in (reference, prediction)
    ]
    reference, prediction = _numbers("reference", reference), _numbers("prediction", prediction)
    if reference.dtype.kind == "f":
        raise TypeError(f"The reference should hold integer labels, not {reference.dtype}.")
    is_probability = prediction.dtype.kind == "f"
    has_class_axis = is_probability and prediction.ndim == reference.ndim + 1
    if (prediction.shape[1:] if has_class_axis else prediction.shape) != reference.shape:
        raise ValueError(
            f"The prediction's shape {prediction.shape} does not match the reference's "
            f"{reference.shape}; compare layers of the same size."
        )
    counted = reference != -1
    if ignore_label is not None:
        counted &= reference != ignore_label
    known = np.isfinite(prediction) if is_probability else np.ones(prediction.shape, bool)
    if hidden[0] is not None:
        counted &= ~hidden[0]
    if hidden[1] is not None:
        known &= ~hidden[1]
    if has_class_axis:
        known, is_probability = known.all(0), False
        prediction = np.where(known, prediction, 0).argmax(0) if len(prediction) else prediction
    counted &= known
    reference, prediction = reference[counted], prediction[counted]
    if is_probability:
        return score_probability(reference != 0, prediction)
    objects = [set(np.unique(labels).tolist()) - {0} for labels in (reference, prediction)]
    classes = set.union(*objects)
    if len(classes) <= 1 or (classes == {1, 255} and max(map(len, objects)) == 1):
        return score_counts(_table(reference != 0, prediction != 0))
    return _label_scores(reference, prediction, sorted(classes))


def _numbers(name: str, array: Any) -> np.ndarray:
    array = np.asarray(as_array(array))
    if array.dtype.kind not in "biuf":
        raise TypeError(f"The {name} should hold numbers, not {array.dtype}.")
    return array


def score_probability(truth: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Scores of finite probabilities against a boolean `truth`, at the threshold of best Dice."""
    values, index = np.unique(probability, return_inverse=True)
    positive = np.bincount(index[truth], minlength=len(values))
    return _scores(values, positive, np.bincount(index, minlength=len(values)) - positive)


def _table(truth: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.bincount(2 * truth + mask, minlength=4).reshape(2, 2)


def score_counts(counts: np.ndarray) -> dict[str, float]:
    """Scores of a mask.

    Parameters
    ----------
    counts : (2, 2) array of int
        Row: background and object of the reference, column: of the mask.

    Returns
    -------
    dict
        As in `evaluate`.
    """
    (right, extra), (missed, both) = np.asarray(counts).tolist()
    total = right + extra + missed + both
    if not total:
        return dict.fromkeys(NAMES, float("nan"))
    rates = _ratio(both, both + missed, np.nan), _ratio(extra, extra + right, np.nan)
    return {
        "dice": _ratio(2 * both, 2 * both + missed + extra),
        "iou": _ratio(both, both + missed + extra),
        "accuracy": _ratio(right + both, total),
        "auc": 0.5 + (rates[0] - rates[1]) / 2,
        "threshold": float("nan"),
    }


def _label_scores(reference: np.ndarray, prediction: np.ndarray, classes: list[int]) -> dict:
    per_class = {}
    for label in classes:
        scores = score_counts(_table(reference == label, prediction == label))
        per_class[label] = {"dice": scores["dice"], "iou": scores["iou"]}
    return {
        "dice": float(np.mean([scores["dice"] for scores in per_class.values()])),
        "iou": float(np.mean([scores["iou"] for scores in per_class.values()])),
        "accuracy": _ratio(np.count_nonzero(reference == prediction), reference.size),
        "auc": float("nan"),
        "threshold": float("nan"),
        "per_class": per_class,
    }


class Tally:
    """Counts of object and background pixels per probability, filled batch by batch.

    Scores over all pixels of many images without keeping the images.

    Parameters
    ----------
    bins : int
        Probabilities are rounded to ``1 / (bins - 1)``.
    """

    def __init__(self, bins: int = 4097) -> None:
        self.values = np.linspace(0, 1, bins)
        self._positive = np.zeros(bins, np.int64)
        self._negative = np.zeros(bins, np.int64)

    @classmethod
    def of(cls, positive: Any, negative: Any) -> "Tally":
        """The tally of given `counts`."""
        tally = cls(len(positive))
        tally._positive, tally._negative = positive, negative
        return tally

    @property
    def counts(self) -> tuple[Any, Any]:
        """Number of object and of background pixels per probability value."""
        return self._positive, self._negative

    def add(self, truth: Any, probability: Any) -> None:
        """Count the pixels of a boolean `truth` and a `probability` of the same shape."""
        index = np.rint(probability * (len(self.values) - 1)).astype(np.intp)
        self._positive += np.bincount(index[truth], minlength=len(self.values))
        self._negative += np.bincount(index[~truth], minlength=len(self.values))

    def scores(self) -> dict[str, float]:
        """The same dict as `evaluate`, at the best threshold over all pixels."""
        return _scores(self.values, self._positive, self._negative)

    def at(self, threshold: float) -> dict[str, float]:
        """Dice when pixels with a probability above the threshold are object."""
        object_ = self.values > threshold
        both = self._positive[object_].sum()
        return _ratio(2 * both, self._positive.sum() + both + self._negative[object_].sum())

    def turned(self) -> Any:
        """The tally of the inverted probabilities, 1 - p."""
        other = Tally(len(self.values))
        other._positive, other._negative = self._positive[::-1], self._negative[::-1]
        return other

    @property
    def histogram(self) -> Any:
        """Number of pixels per probability value."""
        return self._positive + self._negative


def _scores(values, positive, negative):
    """Scores at the threshold of best Dice; object is what lies above the threshold."""
    seen = positive + negative > 0
    values, positive, negative = values[seen], positive[seen], negative[seen]
    positives, negatives = positive.sum(), negative.sum()
    if not len(values):
        return dict.fromkeys(NAMES, float("nan"))
    # object pixels found and background pixels taken in, from each value up; at last none
    hits = np.append(np.cumsum(positive[::-1])[::-1], 0)
    alarms = np.append(np.cumsum(negative[::-1])[::-1], 0)
    chosen = positives + hits + alarms
    dice = np.divide(2 * hits, chosen, out=np.ones(len(chosen)), where=chosen > 0)
    best = int(np.argmax(dice))
    borders = np.concatenate([[np.nextafter(values[0], -1)], values, values[-1:]])
    # chance that an object pixel has the higher value, ties counting half
    pairs = np.sum(positive * (negatives - alarms[:-1] + negative / 2.0))
    return {
        "dice": float(dice[best]),
        "iou": float(dice[best] / (2 - dice[best])),
        "accuracy": _ratio(hits[best] + negatives - alarms[best], positives + negatives),
        "auc": _ratio(pairs, float(positives) * float(negatives), np.nan),
        "threshold": float((borders[best] + borders[best + 1]) / 2),
    }


def _ratio(part, whole, empty=1.0):
    """The quotient, or `empty` when there is nothing to count."""
    return float(part / whole) if whole else float(empty)
