"""How noisy are the labels? The noise transition matrix, estimated without clean labels.

Where a network is surest of a class (anchor points: Liu and Tao 2016; Patrini et al. 2017), the
true class is known, so the shares of the labels there are a row of the matrix. Errors that fall
pixel by pixel are independent of their neighbours; where labels err in patches or along outlines
(bent labels, skeletons, objects left out) neighbours agree, and no matrix describes that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["NoiseEstimate", "estimate_from", "estimate_noise"]

_SUREST = {True: 0.4, False: 0.01}  # share of the pixels: of the background, of another class
_SUREST_OF_CLASS = 0.5  # of the pixels of the class, at most
_FEWEST = 50  # anchor pixels of a class
_MOST_CORRELATED = 0.18  # neighbours; at most .13 for pixel-wise noise on three kinds of image
_LEAST_JUDGED = 0.01  # wrong labels among anchors, below which their places do not matter
_FEWEST_LONELY = 15  # by chance, else it is not looked at
_LEAST_LONELY = 0.5  # of the pixels that would stand alone by chance
_DRAWS = 100  # of the bootstrap over images
_LEAST_ANNOTATED = 0.25  # of the pixels; strokes leave more out, and say nothing of noise by pixel
_LEAST_NOISE = 0.05  # of a row; what the estimate can be off by


@dataclass(frozen=True)
class NoiseEstimate:
    """What the labels' own pixels say of their noise.

    Attributes
    ----------
    matrix : array of float, (classes, classes)
        Row: true class, column: class in the labels; rows sum to 1.
    error : array of float, (classes, classes)
        Standard error, over redrawn images; 0 for a single image, where it cannot be told. In
        trials the estimate was up to 0.05 off on top of it.
    correlation : float
        Of wrong labels in neighbouring pixels, the largest of all classes.
    loneliness : float
        How often a label differs from all around it, over how often it would by chance; the
        least of all classes.
    judged : bool
        Whether enough of the pixels are annotated; else the matrix is that of no noise.
    by_pixel : tuple of int
        Indices of the classes whose own errors, if there are any, fall pixel by pixel.
    """

    matrix: NDArray
    error: NDArray
    correlation: float
    loneliness: float = 1.0
    judged: bool = True
    by_pixel: tuple[int, ...] = ()

    @property
    def pixelwise(self) -> bool:
        """Whether errors fall pixel by pixel, so that the matrix describes them."""
        alone = _alone(self.correlation, self.loneliness)
        return bool(self.judged and alone)  # a record holds no numpy values

    @property
    def _beyond_chance(self):
        """Per class, whether more labels are wrong than the estimate can be off by."""
        return 1 - np.diag(self.matrix) - 3 * np.diag(self.error) > _LEAST_NOISE

    @property
    def noisy(self) -> bool:
        """Whether there is pixel-wise noise beyond what the estimate can be off by."""
        return self.pixelwise and bool(self._beyond_chance.any())

    @property
    def text(self) -> str:
        """One sentence."""
        if not self.judged:
            return "Too few pixels are annotated to look for noise in the labels."
        if not self.pixelwise and self._beyond_chance[list(self.by_pixel)].any():
            return (
                f"{self._wrong_labels(self.by_pixel)} Unknown: there the labels differ from the "
                "network's confident predictions in patches or along outlines, or the network has "
                "not learnt the class."
            )
        if not self.pixelwise:
            return (
                "No pixel-wise noise found. The labels differ from the network's confident "
                "predictions only in patches or along outlines."
            )
        if not self.noisy:
            return "No pixel-wise noise found in the labels (less than 5 % of any class)."
        kept, errors = np.diag(self.matrix), np.diag(self.error)
        if kept[0] > 1 - _LEAST_NOISE and len(kept) == 2:
            return (
                f"About {100 * kept[1]:.0f} % (± {200 * errors[1] + 5:.0f} %) of the object "
                "pixels seem to be labelled as object; the others are labelled as background."
            )
        return self._wrong_labels(range(len(kept)))

    def _wrong_labels(self, known):
        """A sentence with the share of wrong labels of each class, of those that are known."""
        numbers = zip(1 - np.diag(self.matrix), np.diag(self.error))
        shares = (f"{100 * wrong:.0f} % (± {200 * error + 5:.0f} %)" for wrong, error in numbers)
        said = ", ".join(
            share if number in known else "unknown" for number, share in enumerate(shares)
        )
        return f"Estimated share of wrong labels in each class, background first: {said}."

    def record(self) -> dict:
        """Plain values, for a record."""
        return {
            "matrix": np.round(self.matrix, 4).tolist(),
            "standard_error": np.round(self.error, 4).tolist(),
            "neighbour_correlation": round(float(self.correlation), 3),
            "loneliness": round(float(self.loneliness), 3),
            "pixelwise": self.pixelwise,
            "judged": self.judged,
            "by_pixel": list(self.by_pixel),
            "text": self.text,
        }

    def contradicts(self, matrix: ArrayLike) -> bool:
        """Whether a stated matrix is further off than the estimate can be, for errors by pixel."""
        allowed = 0.1 + 3 * self.error
        return self.pixelwise and bool((abs(self.matrix - np.asarray(matrix)) > allowed).any())


def estimate_noise(
    model: Any, images: Any, labels: Any, *, ignore_label: int | None = None
) -> NoiseEstimate:
    """Estimate the noise of labels with a model that was trained on them.

    Flips of up to 45 % and sampling down to 10 % were within 0.05 on three kinds of images; noise
    beyond one half cannot be told from its inverse.

    Parameters
    ----------
    model : SegmentationModel
        Trained on the labels, or on others of the same kind.
    images : array or sequence of arrays
        As for `train`.
    labels : array or sequence of arrays of int
        Of the same shapes, without channels; -1 and `ignore_label` do not count.
    ignore_label : int, optional

    Returns
    -------
    NoiseEstimate

    Raises
    ------
    ValueError
        If there are not as many labels as images, or the shapes differ.
    """
    from napari_metastructure.arrays.blocks import as_list
    from napari_metastructure.learning.patches import class_indices

    images, labels = as_list(images), as_list(labels)
    if len(images) != len(labels):
        raise ValueError(f"There are {len(images)} images but {len(labels)} label arrays.")
    probabilities, indices = [], []
    for image, label in zip(images, labels):
        probability = np.asarray(model.predict(image))
        if probability.shape[-label.ndim :] != label.shape:
            raise ValueError(
                f"Labels of shape {label.shape} do not fit an image of shape {image.shape}."
            )
        probabilities.append(probability)
        indices.append(class_indices(np.asarray(label), model.classes, ignore_label))
    return estimate_from(probabilities, indices, len(model.classes))


def estimate_from(
    probabilities: Sequence[NDArray], labels: Sequence[NDArray], num_classes: int
) -> NoiseEstimate:
    """Estimate the noise of labels from the probabilities of a network trained on them.

    Parameters
    ----------
    probabilities : sequence of arrays of float, [0, 1]
        Of the object, in the labels' shape; with more than two classes a first axis for them.
    labels : sequence of arrays of int
        Class indices; negative does not count.
    num_classes : int

    Returns
    -------
    NoiseEstimate
    """
    if num_classes == 2:
        probabilities = [np.stack([1 - p, p]) for p in probabilities]
    matrix, error = np.eye(num_classes), np.zeros((num_classes, num_classes))
    annotated = sum(np.count_nonzero(n >= 0) for n in labels)
    if annotated < _LEAST_ANNOTATED * sum(n.size for n in labels):
        return NoiseEstimate(matrix, error, 0.0, judged=False)
    correlations, lonely, by_pixel = [], [], []
    for true in range(num_classes):
        where = _anchors([p[true] for p in probabilities], probabilities, labels, true)
        counts = np.array([np.bincount(n[a], minlength=num_classes) for n, a in zip(labels, where)])
        if counts.sum() < _FEWEST:
            continue
        matrix[true] = counts.sum(axis=0) / counts.sum()
        error[true] = _standard_error(counts)
        if matrix[true, true] >= 1 - _LEAST_JUDGED:
            by_pixel.append(true)
            continue
        correlations.append(_correlation(labels, where, true))
        lonely.append(_loneliness(labels, where, true))
        if _alone(correlations[-1], lonely[-1]):
            by_pixel.append(true)
    found = max(correlations, default=0.0), min(lonely, default=1.0)
    return NoiseEstimate(matrix, error, *found, by_pixel=tuple(by_pixel))


def _alone(correlation, loneliness):
    """Whether wrong labels fall regardless of their neighbours."""
    return correlation <= _MOST_CORRELATED and loneliness >= _LEAST_LONELY


def _anchors(of_class, probabilities, labels, true):
    """Where the network is surest of a class, among the pixels that count."""
    step = 1 + sum(p.size for p in of_class) // 2**22
    sample = np.concatenate([p.ravel()[::step] for p in of_class])
    predicted = np.mean([(p.argmax(axis=0) == true).mean() for p in probabilities])
    labelled = np.mean([(n == true).mean() for n in labels])  # sampled objects are never predicted
    own = max(predicted, labelled)
    share = min(_SUREST[true == 0], max(_SUREST_OF_CLASS * own, 1e-4))
    limit = np.quantile(sample, 1 - share)
    return [(p >= limit) & (n >= 0) for p, n in zip(of_class, labels)]


def _standard_error(counts):
    """Standard error of the shares, over redrawn images."""
    rng = np.random.default_rng(0)
    counts = counts[counts.sum(axis=1) > 0]
    drawn = counts[rng.integers(len(counts), size=(_DRAWS, len(counts)))].sum(axis=1)
    return (drawn / drawn.sum(axis=1, keepdims=True)).std(axis=0)


def _correlation(labels, where, true):
    """Correlation of wrong labels in horizontal neighbours that are both anchors of the class."""
    pairs = []
    for n, a in zip(labels, where):
        both, wrong = a[..., 1:] & a[..., :-1], n != true
        pairs.append(np.stack([wrong[..., 1:][both], wrong[..., :-1][both]]).astype(float))
    found = np.concatenate(pairs, axis=1)
    if found.shape[1] < _FEWEST or not found.std(axis=1).all():
        return 0.0
    return float(np.corrcoef(found)[0, 1])


def _loneliness(labels, where, true):
    """How often the rarer of right and wrong stands alone, over how often it should by chance.

    Lines, which hardly raise the correlation, have no lonely pixels. Planes of the last two axes.
    """
    from scipy.ndimage import uniform_filter

    share = np.mean(np.concatenate([(n != true)[a] for n, a in zip(labels, where)]))
    count = rare_count = lonely = 0
    for n, a in zip(labels, where):
        size = (1,) * (n.ndim - 2) + (3, 3)
        rare = (n != true) == (share <= 0.5)
        if share <= 0.5:  # around a thin object most labels are of another class, rightly
            a = uniform_filter(a.astype(np.float32), size, mode="constant") > 0.99
        around = uniform_filter(rare.astype(np.float32), size, mode="constant") * 9
        count += np.count_nonzero(a)
        rare_count += np.count_nonzero(rare & a)
        lonely += np.count_nonzero(rare & a & (around < 1.5))
    expected = rare_count * (1 - rare_count / max(count, 1)) ** 8
    most = lonely + 2 * (lonely + 1) ** 0.5  # of a count that may have come out low by chance
    return most / expected if expected >= _FEWEST_LONELY else 1.0
