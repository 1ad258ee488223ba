"""The decision rule: what is known of the noise and the images -> inversion and threshold.

One rule for training, few labels and sweep. A label error does not move the order in which a
network ranks the pixels as much as it moves its probabilities, so the threshold has to follow it.
"""

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastructure.arrays.blocks import evenly
from napari_metastructure.arrays.chunks import ChunkedArray
from napari_metastructure.arrays.intensity import unit_range
from napari_metastructure.jobs.events import Progress
from napari_metastructure.jobs.generators import run_out, run_until_stopped
from napari_metastructure.labels import transition
from napari_metastructure.labels.kinds import BLIND, KINDS, MOVED
from napari_metastructure.learning.edges import Evidence, logit, rise
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import IGNORE, true_shares
from napari_metastructure.learning.networks import raise_background
from napari_metastructure.learning.noise_estimate import estimate_from
from napari_metastructure.learning.patches import class_indices
from napari_metastructure.words import counted

__all__ = [
    "choose_threshold",
    "known_matrix",
    "outline_steepness",
    "outline_threshold",
    "uncorrected",
]

_MOST_PIXELS = 2**21
_FEW, _SMALL = 4, {2: 192, 3: 48}  # parts, and their sides, once the training is stopped
_TIMES_OFTENER = 1.5  # objects are labelled as object than the background is: else it is chance
_LEAST_KEPT = 0.02  # of the objects' labels
_NOTEWORTHY = 1.0  # pixels between the labels' outlines and the edges
_BINS = 100
_MIDDLES = (np.arange(_BINS) + 0.5) / _BINS


def known_matrix(noise: list, classes: list[int]) -> NDArray | None:
    """The transition matrix of the stated noise, if it is known and can be undone.

    Parameters
    ----------
    noise : list of NoiseSpec
    classes : list of int
        Label values, background first.

    Returns
    -------
    array of float, (classes, classes), or None
        None without noise, where a kind has no closed form (borders that moved) and where the
        matrix has not full rank (true classes that can no longer be told apart).

    Raises
    ------
    ValueError
        If a given matrix has not one row for each class.
    """
    for spec in noise:
        if spec.kind == "transition" and len(spec.matrix) != len(classes):
            raise ValueError(
                f"The noise transition matrix has {len(spec.matrix)} rows, but the labels hold "
                f"{len(classes)} classes; give one row per class."
            )
    chain = [_with_indices(spec, classes) for spec in noise]
    try:
        matrix = transition.of(chain, len(classes))
    except ValueError:  # a perturbation has no closed form
        return None
    return matrix if chain and transition.rank(matrix) == len(matrix) else None


def uncorrected(noise: list, classes: list[int], matrix: Any, loss: str) -> str | None:
    """Why stated noise is not corrected in the training.

    Parameters
    ----------
    noise : list of NoiseSpec
    classes : list of int
        Label values, background first.
    matrix : array or None
        Their `known_matrix`.
    loss : str
        Of `losses.LOSSES`.

    Returns
    -------
    str or None
        A sentence; None if it is corrected, and for borders that moved: these the threshold finds.
    """
    if not noise:
        return None
    stated = f"The stated noise ({', '.join(spec.summary() for spec in noise)})"
    effects = {KINDS[spec.kind].effect for spec in noise}
    absent = sorted({value for spec in noise for value in spec.classes or ()} - set(classes))
    if absent:
        return f"{stated} is of class {absent[0]}, which the training labels do not hold."
    if matrix is not None:
        only = f'{stated} can be corrected only with the loss "binary cross-entropy" (bce).'
        return None if loss == "bce" else only
    if BLIND not in effects:
        if MOVED in effects:
            return None
        try:
            transition.of(noise, len(classes))
        except ValueError as error:
            return f"{stated} was not corrected: {error}"
    return f"{stated} leaves nothing in the labels that tells the classes apart."


def _with_indices(spec, classes):
    """The spec with its classes, label values, as rows of the matrix."""
    if spec.classes is None:
        return spec
    return type(spec).of(spec, classes=[classes.index(c) for c in spec.classes if c in classes])


def choose_threshold(
    model: Any,
    noise: list,
    validation: Any,
    items: Items,
    matrix: Any = None,
    ignore_label: int | None = None,
) -> Generator[Any, Any, Any]:
    """Set the model's threshold, for two classes, and the words that say where it came from.

    Of more classes the most probable one counts. Where the same rule moves the outlines of all
    objects outwards by a pixel or more, as those of centre lines, the network's last bias is
    changed by so much.

    In this order of trust: clean validation labels; the edges of the images, with the labels
    having a say; the labels alone, where the edges in one part of the images do not
    bear out those in another. Stated noise has been corrected in training, and is undone in the
    labels; so is pixel-wise noise that the labels show where none is stated.

    Parameters
    ----------
    model : SegmentationModel
    noise : list of NoiseSpec
        What is stated of the noise.
    validation : Validation
    items : Items
        Images and labels trained on; about 2**21 evenly spread pixels are looked at.
    matrix : (2, 2) array of float, optional
        Noise transition matrix of the labels.
    ignore_label : int, optional

    Returns
    -------
    dict
        ``noise_estimate`` (`NoiseEstimate`); ``displacement``, how far outside the outlines of the
        labels the model's lie, in pixels, where the edges were looked at; ``notes``, sentences for
        the user.

    Yields
    ------
    Progress
    """
    kinds = ", ".join(spec.summary() for spec in noise)
    corrected = validation.forward_matrix is not None
    known = f", noise corrected in training ({kinds})" if corrected else ""
    found = yield from _predicted(model, items, ignore_label, validation.job)
    if found is None:
        known += ", on a few small parts only, as the training was stopped"
        found = run_out(_predicted(model, _small_parts(items), ignore_label))
    pictures, labels, probabilities = found
    estimate = estimate_from(probabilities, labels, len(model.classes))
    decision = {"noise_estimate": estimate, "notes": _notes_on_noise(estimate, noise, matrix)}
    if validation.clean and validation.history and not validation.scores:
        decision["notes"].append(
            "The clean validation labels hold only a single class where they count, so they were "
            "of no use."
        )
    if len(model.classes) > 2:
        model.threshold_source = f"none: the most probable class{known}"
        trusted = validation.clean and validation.scores
        if not trusted and all(KINDS[spec.kind].effect == MOVED for spec in noise):
            matrix = estimate.matrix if estimate.noisy else np.eye(len(model.classes))
            found = _widen_objects(model, probabilities, pictures, labels, matrix)
            decision["notes"] += found.pop("notes", [])
            decision |= found
    elif validation.clean and validation.scores:
        scores = validation.tally.scores()
        if scores["auc"] < 0.5:
            model.inverted = not model.inverted
            scores = validation.tally.turned().scores()
            validation.scores = {name: scores[name] for name in validation.scores}
        model.threshold = scores["threshold"]
        model.threshold_source = "best Dice on the clean validation labels"
    else:
        if not noise and estimate.noisy and transition.rank(estimate.matrix) == 2:
            matrix, known = estimate.matrix, ", corrected for the estimated noise"
        found = _decide(model, Evidence(probabilities, pictures, labels, matrix), known)
        decision["notes"] += found.pop("notes", [])
        decision |= found
    return decision


def _predicted(model, items, ignore_label, job=None):
    """Images, labels and probabilities of evenly spread parts; generator of `Progress`.

    None if the job, if any, is stopped before that.
    """
    if job is not None and job.stopping:
        return None
    items = items.in_memory(_MOST_PIXELS)
    labels, probabilities = [], []
    for number in range(len(items)):
        prediction = model.predicting_one(items.image(number))
        event = Progress("looking for the threshold", number, len(items))
        yield event
        if job is None:
            probability = run_out(prediction)
        else:
            probability = yield from run_until_stopped(job, prediction, event)
        if probability is None:
            return None
        probabilities.append(probability)
        label = class_indices(np.asarray(items.labels[number]), model.classes, ignore_label)
        missing = items.missing(number)
        if missing is not None:
            label[missing] = IGNORE
        labels.append(label)
    return items.images, labels, probabilities


def _small_parts(items):
    """Small parts of a few evenly spread entries, around a pixel in the midst of their objects."""
    parts = Items([], [], [])
    for index in evenly(range(len(items)), _FEW):
        label, where = items.labels[index], []
        for middle, side in zip(_midst(label, items.box(index)), label.shape):
            length = min(_SMALL[label.ndim], side)
            begin = min(max(0, middle - length // 2), side - length)
            where.append(slice(begin, begin + length))
        parts.images.append(np.array(items.images[index][(..., *where)]))
        parts.labels.append(np.array(label[tuple(where)]))
        parts.moments.append(items.moments[index])
    return parts


def _midst(label, box):
    """An object pixel with as many before as behind it; of labels in chunks, the box's middle."""
    if not isinstance(label, ChunkedArray):
        objects = np.flatnonzero(label > 0)
        if len(objects):
            return np.unravel_index(objects[len(objects) // 2], label.shape)
    return tuple((side.start + side.stop) // 2 for side in box)


def _notes_on_noise(estimate, noise, matrix):
    """What the user should know of the labels' noise, as sentences."""
    if not noise and estimate.noisy:
        return [
            f"{estimate.text} State it as label noise and train again for better probabilities."
        ]
    if matrix is not None and estimate.contradicts(matrix):
        return [f"The stated noise differs from the noise found in the labels. {estimate.text}"]
    return []


def _decide(model, evidence, known):
    """Take the threshold that the evidence prefers; returns what `choose_threshold` does."""
    if evidence.consistent:
        source = "edges of the images and the labels"
    elif evidence.agreement is not None:
        source = (
            "best agreement with the labels, as the edges of the images give no clear threshold"
        )
    else:
        return {}
    index = evidence.best()
    model.threshold = float(evidence.thresholds[index])
    model.threshold_source = source + known
    return _on_outlines(evidence, index)


def _on_outlines(evidence, index):
    """Displacement at a threshold, and a note where it is noteworthy."""
    distance, notes = evidence.displacement(index), []
    if evidence.consistent and abs(distance) >= _NOTEWORTHY:
        side = "inside" if distance > 0 else "outside"
        count = round(abs(distance))
        notes.append(
            f"Your outlines lie about {counted(count, 'pixel')} {side} the edges in the "
            "images. The threshold follows the edges."
        )
    return {"displacement": round(distance, 2), "notes": notes}


def _of_objects(matrix, labels):
    """The transition matrix of all objects against the background; None if it tells little."""
    if transition.rank(matrix) < len(matrix):
        return None
    counts = sum(np.bincount(label[label >= 0], minlength=len(matrix)) for label in labels)
    if not counts[1:].any():
        return None
    objects = true_shares(matrix, counts / counts.sum())[1:]
    if not objects.any():
        return None
    false, true = 1 - matrix[0, 0], np.average(1 - matrix[1:, 0], weights=objects)
    told = true > max(_TIMES_OFTENER * false, _LEAST_KEPT)
    return np.array([[1 - false, false], [1 - true, true]]) if told else None


def _widen_objects(model, probabilities, pictures, labels, matrix):
    """Let the outlines of all classes against the background follow edges and labels outwards.

    Not inwards, where classes that are rare, and thus less probable, lose most; nor if some classes
    are brighter than the background and others darker.
    """
    matrix = _of_objects(matrix, labels)
    if matrix is None:
        return {}
    against = [p[1:] / np.maximum(p[1:] + p[0], 1e-12) for p in probabilities]
    rises = [[rise(q, picture) for q in each] for each, picture in zip(against, pictures)]
    if np.ptp(np.sign(np.sum(rises, axis=0)), axis=0).any():
        return {}
    objects, labels = [q.max(axis=0) for q in against], [np.minimum(label, 1) for label in labels]
    evidence = Evidence(objects, pictures, labels, matrix)
    index, most_probable = evidence.best(), int(np.searchsorted(evidence.thresholds, 0.5))
    moved = evidence.distance(most_probable, index)
    if not evidence.consistent or moved < _NOTEWORTHY:
        return {}
    model.threshold_source += ", against background by the edges of the images and the labels"
    raise_background(model.network, float(logit(evidence.thresholds[index])))
    found = _on_outlines(evidence, index)
    if not found["notes"]:
        count = counted(round(moved), "pixel")
        found["notes"].append(
            f"The outlines of all classes were moved outwards by about {count}, to fit the edges "
            "in the images and the labels, corrected for their noise."
        )
    return found


def outline_threshold(
    probabilities: Any,
    images: Any,
    polarity: str = "bright",
    *,
    prior: float = 0.5,
    edges: float = 1.0,
    share: float | None = None,
) -> float:
    """The threshold whose masks probably overlap best and have the steepest outlines.

    What is largest is the product of the Dice that the masks would have, were the probabilities
    right (Lipton, Elkan and Naryanaswamy 2014, arXiv 1402.1892), and the mean gradient of the
    images along the outlines. A network that learnt labels too wide or too narrow repeats them
    with certainty, so its probabilities alone do not tell; the edges of the images do.

    Parameters
    ----------
    probabilities : sequence of arrays of float, [0, 1]
        Planes or volumes. Sums run over all of them.
    images : sequence of arrays
        The images, of the same shapes; the gradient is that of the square root of their range,
        which evens out photon noise, after a Gaussian of 1 pixel.
    polarity : {"bright", "dark"}
        Whether the structures are brighter or darker than their surroundings.
    prior : float, (0, 1)
        Share of objects, where the probabilities are of a classifier for which both classes are
        equally frequent.
    edges : float
        Power of the gradient: how much the edges count beside the overlap.
    share : float, (0, 1), optional
        Of objects, as it is estimated from other evidence. Masks of another share count less, as
        if the logarithm of the estimate had a standard deviation of 1.

    Returns
    -------
    float
        From 0.1 to 0.9, in steps of 0.01; 0.5 if nothing speaks for any.
    """
    pixels, gradients, lengths = np.zeros((3, _BINS))
    for probability, image in zip(probabilities, images):
        scaled = unit_range(image, polarity)
        if scaled is not None:
            pixels += np.bincount(_bin(probability).ravel(), minlength=_BINS)
            along, length = _outlines(np.sqrt(scaled), np.asarray(probability))
            gradients += along
            lengths += length
    odds = _MIDDLES / (1 - _MIDDLES) * prior / (1 - prior)
    area, hits = (part[::-1].cumsum()[::-1] for part in (pixels, pixels * odds / (1 + odds)))
    merit = 2 * hits / np.maximum(area + hits[0], 1e-12)
    merit *= (np.maximum(gradients, 0) / np.maximum(lengths, 1)) ** edges
    if share is not None:
        off = np.log(np.maximum(area, 1) / max(pixels.sum(), 1) / share)
        merit *= np.exp(-(off**2) / 2)
    merit = merit[_BINS // 10 : _BINS * 9 // 10 + 1]
    return float(merit.argmax() / _BINS + 0.1) if merit.max() > 0 else 0.5


def outline_steepness(mask: NDArray, image: Any, polarity: str = "bright") -> float:
    """Mean gradient of an image along the outline of a mask, over that of the whole image.

    Parameters
    ----------
    mask : array of bool
        A plane or volume.
    image : array
        Of its shape; the gradient is that of `outline_threshold`.
    polarity : {"bright", "dark"}
        Whether the structures are brighter or darker than their surroundings.

    Returns
    -------
    float
        About 1 for an outline that follows no edge; 0 without an outline.
    """
    from scipy.ndimage import binary_dilation, binary_erosion, gaussian_gradient_magnitude

    scaled = unit_range(image, polarity)
    outline = binary_dilation(mask) & ~binary_erosion(mask, border_value=1)
    if scaled is None or not outline.any():
        return 0.0
    gradient = gaussian_gradient_magnitude(np.sqrt(scaled), 1)
    return float(gradient[outline].mean() / max(gradient.mean(), 1e-12))


def _bin(probability):
    return np.minimum((np.asarray(probability) * _BINS).astype(np.intp), _BINS - 1)


def _outlines(image, probability):
    """Sum of the gradient along the outline of each mask ``bin >= b``, and the outline's length.

    Both sides of the outline count: pixels with neighbours inside and outside, that is those
    whose neighbourhood reaches from below b to b or above.
    """
    from scipy.ndimage import (
        gaussian_gradient_magnitude,
        generate_binary_structure,
        grey_dilation,
        grey_erosion,
    )

    cross, bins = generate_binary_structure(probability.ndim, 1), _bin(probability)
    low, high = (f(bins, footprint=cross).ravel() + 1 for f in (grey_erosion, grey_dilation))
    gradient = gaussian_gradient_magnitude(image, 1).ravel()
    counted = [
        np.bincount(low, weights, _BINS + 1) - np.bincount(high, weights, _BINS + 1)
        for weights in (gradient, None)
    ]
    return np.cumsum(counted, axis=1)[:, :_BINS]
