"""Where the edges of the images lie among the thresholds of a probability map.

A network that learnt outlines too wide or too narrow repeats them with certainty; its
probabilities do not tell, but the images do. Moving the outline inwards across an edge, the slope
of the image along the outline's normal first rises and then falls: the sum of the second derivative
along the normal, over all that lies outside the outline, is largest where the outline lies on the
edges (Haralick 1984; Kimmel and Bruckstein 2003, "regularized Laplacian zero crossings as
optimal edge integrators"). One pass over the pixels gives that sum for every threshold.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Evidence", "logit", "rise"]

_LEVELS = 256
_SMOOTHING = 4  # levels
_CLIP = 1e-5
_LABELS_WEIGHT = 0.4  # against the edges: what held on er, mito, nuclei and vessels
_UNBENT_WEIGHT = 3.0  # of labels that err pixel by pixel, which moves no outline; on six sets
_EXACT = 0.1  # over what is missing to a Dice of 1, the weight of labels that a network reproduces
_BLUR = 1.0  # pixels, by which it may move the edges of thin objects outwards
_INSIDE = 3.0  # pixels: deeper inside the outlines learnt, probabilities tell nothing of outlines
_GRADIENT = (1, 0), (0, 1)  # orders of derivatives along y and x
_SCALES = (1, 1.5)  # pixels: to widen outlines, and to narrow them, where maps are rougher
_PARTS = 4  # of the pixels, by planes and their halves, that have to agree on where the edges are
_LEAST_CONSISTENT = 0.6  # of each part's best score, at the threshold that is best for all
_SMALLEST, _LARGEST = 0.002, 0.8  # share of the pixels that are object
_LEAST_TOUCHING = 0.01  # pairs of an object and a background pixel, per object pixel, in labels


def logit(probability: Any) -> NDArray:
    """Log odds, of probabilities kept a little away from 0 and 1; float32."""
    p = np.clip(np.asarray(probability, dtype=np.float32), _CLIP, 1 - _CLIP)
    return np.log(p / (1 - p))


def rise(probability: Any, picture: Any) -> NDArray:
    """How much each channel rises with the probability: above 0 for bright structures.

    Parameters
    ----------
    probability : array of float, [0, 1]
        Plane (y, x) or volume (z, y, x).
    picture : array
        Of its shape or with a first axis more, for channels.
    """
    planes = _planes(logit(probability), picture)
    return np.sum([_slopes(normal, channels) for _, normal, channels in planes], axis=0)


class Evidence:
    """What images and labels say of every threshold of the probability of an object.

    Parameters
    ----------
    probabilities : sequence of arrays of float, [0, 1]
        Planes (y, x), or volumes (z, y, x), which are looked at plane by plane.
    pictures : sequence of arrays
        The images, of the same shapes or with a first axis more, for channels; any real type. NaN
        and infinity are taken as the median.
    labels : sequence of arrays of int, optional
        1 object, 0 background, negative: does not count.
    matrix : (2, 2) array of float, optional
        Noise transition matrix of the labels. Labels that err pixel by pixel count for more than
        the edges.

    Attributes
    ----------
    thresholds : array of float, (256,)
        Evenly spaced in the logit over the values that occur.
    area : array of float
        Share of the pixels above each threshold.
    edges : (2, 256) array of float
        How well the outlines lie on the edges of the images at each of two scales; 1 for the best.
    consistent : bool
        Whether each quarter of the pixels bears out what all of them say of the edges.
    agreement : array of float or None
        Dice with the labels, their noise undone.
    """

    def __init__(
        self, probabilities: Any, pictures: Any, labels: Any = None, matrix: Any = None
    ) -> None:
        logits = [logit(p) for p in probabilities]
        sample = np.concatenate([values.ravel()[:: 1 + values.size // 2**16] for values in logits])
        low, high = np.quantile(sample, [0.02, 0.9995])
        self._levels = np.linspace(low, max(high, low + 1e-3), _LEVELS)
        self.thresholds = 1 / (1 + np.exp(-self._levels))
        labels = [None] * len(logits) if labels is None else labels
        pixels, hits, counted = np.zeros((3, _LEVELS))
        touching = 0
        planes: list[tuple] = []
        for values, picture, label in zip(logits, pictures, labels):
            bins = self._bin(values)
            pixels += _count(bins)
            if label is not None:
                counted += _count(bins, label >= 0)
                hits += _count(bins, label == 1)
                touching += _touching(np.asarray(label))
            planes.extend(_planes(values, picture))
        slopes = [_slopes(normal, channels) for _, normal, channels in planes]
        polarity = np.sign(np.sum(slopes, axis=0))
        parts: list[list] = [[] for _ in range(_PARTS)]
        number = 0
        for plane, normal, channels in planes:
            for half in self._outlines(plane, normal, channels, polarity):
                parts[number % _PARTS].append(half)
                number += 1
        self._pixels = pixels
        self.area = _above(pixels) / pixels.sum()
        sums = [np.sum(part, axis=0) for part in parts if part]
        self._length = np.sum(sums, axis=0)[0, 0, 0]
        self.edges, self.consistent = self._judge_edges(sums)
        self.label_share, self.agreement = None, None
        self._outlined = touching > _LEAST_TOUCHING * hits.sum()
        if counted.any():
            self._judge_labels(hits, counted, np.eye(2) if matrix is None else np.asarray(matrix))

    def _bin(self, values):
        """Index of the highest threshold that lies below each value."""
        step = self._levels[1] - self._levels[0]
        return np.clip((values - self._levels[0]) / step, 0, _LEVELS - 1).astype(np.intp)

    def _outlines(self, values, normal, channels, polarity):
        """Length of the outlines at each level, and change of the slope of the image across them,
        structures bright; summed per half, scale and channel: (2, scales, channels, 2, levels).

        The square root makes photon noise alike everywhere, as of structures that shine; those
        that are dark lie before the light.
        """
        steepness = np.sqrt((normal**2).sum(0)) + 1e-9
        y, x = normal / steepness
        bins = self._bin(values)
        halves = slice(None, len(values) // 2), slice(len(values) // 2, None)

        def counts(weights):
            return [_count(bins[half], weights[half]) for half in halves]

        length = counts(steepness / (self._levels[1] - self._levels[0]))

        def across(image, sign, scale):
            view = np.sqrt(image) if sign > 0 else image
            yy, xx, yx = _derivatives(view, scale, ((2, 0), (0, 2), (1, 1)))
            return length, counts(sign * (y * y * yy + x * x * xx + 2 * x * y * yx))

        found = [
            [across(image, sign, scale) for image, sign in zip(channels, polarity)]
            for scale in _SCALES
        ]
        return np.moveaxis(np.array(found), -2, 0)

    def _judge_edges(self, parts):
        """The edges' score of each threshold, and whether the parts of the pixels agree."""
        possible = (self.area > _SMALLEST) & (self.area < _LARGEST)
        if not possible.any():
            return np.zeros((len(_SCALES), _LEVELS)), False

        def scores(part):
            change = part[:, :, 1].sum(axis=1)
            outside = np.cumsum(change, axis=1) - change  # of all pixels outside each outline
            return np.where(possible, _smooth(outside), -np.inf)

        edges = scores(np.sum(parts, axis=0))
        best = int(edges[0].argmax())
        consistent = edges[0, best] > 0 and all(
            part[0, best] > _LEAST_CONSISTENT * part[0].max() for part in map(scores, parts)
        )
        return edges / np.maximum(edges.max(axis=1, keepdims=True), 1e-9), bool(consistent)

    def _judge_labels(self, hits, counted, matrix):
        """Dice of the mask of each threshold and the labels, had these no noise."""
        false, true = matrix[:, 1]
        if abs(true - false) < 1e-6:
            return
        self._labels_weight = _LABELS_WEIGHT if (false, true) == (0, 1) else _UNBENT_WEIGHT
        objects = (hits - false * counted) / (true - false)
        total = objects.sum()
        self.label_share = float(np.clip(total / counted.sum(), 0, 1))
        overlap = 2 * _above(objects) / np.maximum(_above(counted) + total, 1e-9)
        self.agreement = np.clip(_smooth(overlap), 0, 1)

    @property
    def _of_labels(self):
        """Index of the threshold whose masks are as large as the labels."""
        return int(np.abs(self.area - self.label_share).argmin())

    def best(self) -> int:
        """Index of the threshold that edges and labels together prefer.

        Edges that lie less than a pixel outside the outlines of the labels say little, the less the
        better the network reproduces the labels: so blur moves the edges of thin objects.
        """
        if self.agreement is None:
            return int(self.edges[0].argmax())
        agreement = self.agreement / max(self.agreement.max(), 1e-9)
        if not self.consistent:
            return int(agreement.argmax())
        index = self._preferred(agreement, self._labels_weight)
        if 0 < self.displacement(index) < _BLUR:
            exact = _EXACT / max(1 - self.agreement.max(), 1e-9)
            weight = max(self._labels_weight, min(exact, _UNBENT_WEIGHT))
            index = self._preferred(agreement, weight)
        return index

    def _preferred(self, agreement, weight):
        fine, coarse = (self.edges + weight * agreement).argmax(axis=1)
        labels = self._of_labels
        if fine <= labels:
            return int(fine)
        inside = range(labels, int(min(fine, coarse)) + 1)
        return max((k for k in inside if -self.displacement(k) <= _INSIDE), default=labels)

    def displacement(self, index: Any) -> float:
        """How far outside the outlines of the labels those of a threshold lie.

        Parameters
        ----------
        index : int
            Of the threshold.

        Returns
        -------
        float
            Mean distance in pixels; negative inside. 0 without labels, and for strokes, which have
            no outlines: objects and background hardly touch.
        """
        if not self.label_share or not self._outlined:
            return 0.0
        return self.distance(self._of_labels, index)

    def distance(self, begin: int, end: int) -> float:
        """How far outside the outlines of one threshold those of another lie.

        Parameters
        ----------
        begin, end : int
            Indices of the thresholds.

        Returns
        -------
        float
            Mean distance in pixels; negative inside.
        """
        between = slice(*sorted((begin, end)))
        # the area between two outlines over their length is their distance
        distance = float((self._pixels[between] / np.maximum(self._length[between], 1)).sum())
        return distance if end < begin else -distance


def _planes(values, picture):
    """(plane of values, its gradient, [planes of channels from 0 to 1]) of a plane or volume."""
    channels = picture if picture.ndim > values.ndim else [picture]
    scaled = [_range(channel) for channel in channels]
    if values.ndim == 2:
        yield values, _derivatives(values, 1, _GRADIENT), scaled
        return
    for number, plane in enumerate(values):
        yield plane, _derivatives(plane, 1, _GRADIENT), [channel[number] for channel in scaled]


def _range(image):
    """The image from 0 to 1 without its outliers."""
    image = np.asarray(image, dtype=np.float32)
    known = np.isfinite(image)
    if not known.all():
        image = np.where(known, image, np.median(image[known]) if known.any() else 0)
    low, high = np.quantile(image.ravel()[:: 1 + image.size // 2**18], [0.001, 0.999])
    return np.clip((image - low) / max(high - low, 1e-9), 0, 1)


def _slopes(normal, channels):
    """Slope of each channel in the direction in which the values rise, summed over all pixels."""
    return [(normal * _derivatives(np.sqrt(c), 1, _GRADIENT)).sum() for c in channels]


def _touching(label):
    """How many pixels of objects have a pixel of background as their next, along each axis."""
    found = 0
    for axis in range(label.ndim):
        ahead, behind = (np.moveaxis(label, axis, 0)[part] for part in (slice(1, None), slice(-1)))
        found += np.count_nonzero((ahead == 1) & (behind == 0))
        found += np.count_nonzero((ahead == 0) & (behind == 1))
    return found


def _count(bins, weights=None):
    weights = None if weights is None else weights.ravel()
    return np.bincount(bins.ravel(), weights, _LEVELS).astype(float)


def _above(counts):
    return counts[::-1].cumsum()[::-1]


def _smooth(curve):
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(curve, _SMOOTHING, mode="nearest")


def _derivatives(array, sigma, orders):
    from scipy.ndimage import gaussian_filter

    return np.stack([gaussian_filter(array, sigma, order=order) for order in orders])
