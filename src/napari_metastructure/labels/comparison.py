"""How labels, or probabilities, differ from a reference: scores, matrix, verdict and errors.

Arrays are read plane by plane, so that they may be larger than memory. The dock *Compare labels*
and the command ``compare`` show what is found here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from napari_metastructure.arrays.blocks import as_list
from napari_metastructure.arrays.labels import check_labels, count_classes
from napari_metastructure.jobs.events import Progress, Result
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels import density, transition
from napari_metastructure.labels.matching import ObjectScores, ObjectTally
from napari_metastructure.labels.metrics import NAMES, Tally, score_counts, score_probability
from napari_metastructure.labels.objects import split
from napari_metastructure.labels.planewise import is_binary, why_numbers
from napari_metastructure.words import counted

__all__ = ["ERRORS", "Comparison", "Request", "compare", "comparing"]

MISSED, EXTRA, WRONG = 1, 2, 3
ERRORS = {MISSED: "missed", EXTRA: "extra", WRONG: "wrong class"}
"""The values of an array of errors; 0: right, or not counted."""

MANY_PIXELS = 2**24  # of which probabilities are rounded to 1 / 4096
JUDGED_PIXELS = 2**24  # on which the verdict is made


@dataclass(frozen=True)
class Comparison:
    """What a comparison found; unpacks into ``scores, matrix, verdict, errors``.

    Attributes
    ----------
    scores : dict
        ``dice, iou, accuracy, auc, threshold``, nan where they have no meaning. Of several
        classes, the first two are means over the foreground, and ``per_class`` has the scores of
        each class by its value.
    matrix : (M, M) array of float64
        Transition matrix from the reference to the other; rows and columns are `classes`.
    verdict : transition.Verdict or str
        What is left of the classes; a sentence where nothing can be said.
    errors : array of uint8, or list of these, or None
        1: missed, 2: extra, 3: wrong class, 0: right, or not counted.
    classes : list
        The label values (of a mask: 0 and the value of its foreground).
    counts : (M, M) array of int64
        Pixels that the matrix is made from.
    rank : int
        Number of classes left.
    kept : float
        Figure of merit, see `density.kept`; nan where it has no meaning.
    sentences : list of str
        The verdict and what else is to be said.
    objects : matching.ObjectScores, optional
        How well objects were found.
    """

    scores: dict[str, Any]
    matrix: np.ndarray
    verdict: "transition.Verdict | str"
    errors: Any
    classes: list[Any]
    counts: np.ndarray
    rank: int
    kept: float
    sentences: list[str]
    objects: ObjectScores | None = None

    def __iter__(self) -> Iterator[Any]:
        return iter((self.scores, self.matrix, self.verdict, self.errors))

    @property
    def rows(self) -> dict[str, dict[str, float]]:
        """The scores as a table: a row for each foreground class, and their mean."""
        per_class = self.scores.get("per_class")
        if per_class is None:
            return {str(self.classes[-1]): {name: self.scores[name] for name in NAMES}}
        rows = {str(value): scores for value, scores in per_class.items()}
        if len(rows) > 1:
            mean = {name: float(np.mean([row[name] for row in rows.values()])) for name in NAMES}
            rows["mean"] = mean | {"threshold": float("nan")}
        return rows


@dataclass(frozen=True)
class Request:
    """What is to be compared: see `compare`."""

    reference: Any
    other: Any
    ignore_label: int | None = None
    of_class: int | None = None
    errors: bool = True
    objects: Literal["numbered", "components"] | None = None
    spatial_dims: Literal[2, 3] = 2


def compare(
    reference: Any,
    other: Any,
    *,
    ignore_label: int | None = None,
    of_class: int | None = None,
    errors: bool = True,
    objects: Literal["numbered", "components"] | None = None,
    spatial_dims: Literal[2, 3] = 2,
) -> Comparison:
    """Compare labels, or probabilities, with a reference.

    Parameters
    ----------
    reference : (..., y, x) array of int or bool, or a sequence of these
        The true, or clean, labels; numpy, dask or zarr. Pixels of label -1, and of `ignore_label`,
        do not count.
    other : array of the same shape, or a sequence of these
        Integers or bool are labels; masks may differ in the value of their foreground, 1 or 255,
        and pixels of label -1 do not count. Floats are probabilities of the foreground, from 0 to
        1, cut at the threshold of best Dice; with the classes as an axis before the others, the
        most probable class counts. Pixels of NaN or infinity do not count.
    ignore_label : int, optional
        Another label of the reference that does not count.
    of_class : int, optional
        The class whose probability `other` is, if the reference has several.
    errors : bool, optional
        Whether an array of the errors is made.
    objects : {"numbered", "components"}, optional
        Also score objects: "numbered" if each has its own label, "components" if they are
        connected parts of the foreground. Instances (see below) are scored in any case.
    spatial_dims : {2, 3}, optional
        Whether objects lie in planes or in volumes; one of these at a time is read.

    Returns
    -------
    Comparison
        ``scores, matrix, verdict, errors = compare(reference, other)``, and more attributes.

    Raises
    ------
    TypeError
        If the reference, or labels, are not integers.
    ValueError
        If shapes differ, or there is nothing to compare.

    Notes
    -----
    More than 32 values, or several of which one is 1000 or larger, are taken for instances: they
    are compared as masks, object against background.
    """
    request = Request(reference, other, ignore_label, of_class, errors, objects, spatial_dims)
    return list(Job(lambda job: comparing(job, request)))[-1].value


def comparing(job: Job, request: Request) -> Iterator[Any]:
    """The events of a comparison, the last one a `Result` with the `Comparison`."""
    yield Progress("starting", 0, 1)
    pair = yield from _pair(job, request)
    scores = yield from _probability_scores(job, pair)
    if scores and "threshold" in scores:
        pair = replace(pair, threshold=scores["threshold"])
    counts = yield from _counts(job, pair)
    judged = yield from _judged(job, pair)
    errors = yield from _errors(job, pair, request)
    objects = yield from _objects(job, pair, request)
    if job.stopping:
        yield Result(None, stopped=True)
        return
    yield Result(_comparison(pair, scores, counts, judged, errors, objects))


# --------------------------------------------------------------------------- what is compared


@dataclass(frozen=True)
class _Pair:
    """References and others, plane by plane, as classes 0 to size - 1; masks have classes 0 and 1.

    `notes` are sentences on what was found while they were looked through.
    """

    references: list[Any]
    others: list[Any]
    classes: list[Any]
    size: int
    binary: bool
    ignore_label: int | None = None
    of_class: int | None = None
    threshold: float = float("nan")
    instances: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def is_probability(self) -> bool:
        return self.others[0].dtype.kind == "f"

    @property
    def dtype(self) -> np.dtype:
        """The smallest type that holds the classes and -1."""
        return np.min_scalar_type(-self.size)

    @property
    def has_class_axis(self) -> bool:
        return self.others[0].ndim > self.references[0].ndim

    @property
    def parts(self) -> list[tuple[int, ...]]:
        """The number of the array, and the index of the plane in it."""
        return [
            (number, *index)
            for number, array in enumerate(self.references)
            for index in np.ndindex(array.shape[:-2])
        ]

    def true(self, part):
        number, *index = part
        labels = np.asarray(self.references[number][tuple(index)])
        counted = labels != -1
        if self.ignore_label is not None:
            counted &= labels != self.ignore_label
        if self.of_class is not None:
            labels = labels == self.of_class
        elif self.binary:
            labels = labels != 0
        return np.where(counted, labels, -1).astype(self.dtype)

    def probability(self, part):
        """Of the foreground (y, x), or of all classes (M, y, x)."""
        number, *index = part
        where = (slice(None), *index) if self.has_class_axis else tuple(index)
        return np.asarray(self.others[number][where])

    def found(self, part):
        """The labels to compare; probabilities are cut at the threshold."""
        number, *index = part
        if not self.is_probability:
            labels = np.asarray(self.others[number][tuple(index)])
            counted = labels != -1
            return np.where(counted, labels != 0 if self.binary else labels, -1).astype(self.dtype)
        plane = self.probability(part)
        known = np.isfinite(plane)
        if self.has_class_axis:
            known = known.all(0)
            labels = np.where(known, plane, 0).argmax(0)
        else:
            labels = plane > self.threshold
        return np.where(known, labels, -1).astype(self.dtype)


def _pair(job, request):
    references = [check_labels(array) for array in as_list(request.reference)]
    others = as_list(request.other)
    if len(references) != len(others):
        raise ValueError(f"There are {len(references)} references but {len(others)} to compare.")
    for reference, other in zip(references, others):
        _check_pair(reference, other)
    values = yield from _values(job, references, request.ignore_label)
    if values is None:
        return None
    if not values:
        raise ValueError("All pixels of the reference are ignored.")
    known = {"ignore_label": request.ignore_label}
    if others[0].dtype.kind != "f":
        found = yield from _values(job, others)
        if found is None:
            return None
        if request.objects == "numbered" or why_numbers(values) or why_numbers(found):
            return _instance_pair(references, others, values, found, known)
        return _label_pair(references, others, values, found, known)
    if others[0].ndim > references[0].ndim:
        size = len(others[0])
        if values[-1] >= size:
            raise ValueError(
                f"The reference has class {values[-1]}, but there are probabilities of only "
                f"{size} classes."
            )
        return _Pair(references, others, list(range(size)), size, False, **known)
    if request.of_class is not None and request.of_class not in values:
        raise ValueError(f"The reference has no pixel of class {request.of_class}.")
    classes = ["rest" if request.of_class else 0, request.of_class or max(values[-1], 1)]
    return _Pair(references, others, classes, 2, True, of_class=request.of_class, **known)


def _check_pair(reference, other):
    shape = other.shape
    if other.dtype.kind == "f" and other.ndim == reference.ndim + 1:
        shape = shape[1:]
    if other.dtype.kind not in "biuf":
        raise TypeError(f"Only labels or probabilities can be compared, not {other.dtype}.")
    if shape != reference.shape:
        raise ValueError(
            f"The reference has shape {reference.shape} but the other array has {other.shape}; "
            "compare arrays of the same pixels."
        )


def _values(job, arrays, ignore_label=None):
    """Sorted values of the labels, as a list."""
    found: set[int] = set()
    parts = [(array, index) for array in arrays for index in np.ndindex(array.shape[:-2])]
    for done, (array, index) in enumerate(parts, start=1):
        if job.stopping:
            return None
        plane = np.asarray(check_labels(array)[index])
        found.update(count_classes(plane, ignore_label)[0].tolist())
        yield Progress("looking for classes", done, len(parts))
    return sorted(found)


def _instance_pair(references, others, values, found, known):
    """Labels that are the numbers of objects: their masks are compared."""
    reason = why_numbers(values) or why_numbers(found) or "Each label is one object"
    note = f"{reason}: scores, matrix and verdict compare object with background."
    pair = references, others, [0, 1], 2, True
    return _Pair(*pair, instances=True, notes=[note], **known)


def _label_pair(references, others, values, found, known):
    classes = sorted({0, *values, *found})
    mine, theirs = set(values) - {0}, set(found) - {0}
    if is_binary(np.array(values), np.array(found)):
        return _Pair(references, others, [0, max(mine or theirs or {1})], 2, True, **known)
    if mine and theirs and not mine & theirs:
        raise ValueError(
            f"The layers have no class in common: the reference has {_listed(mine)}, the other "
            f"{_listed(theirs)}."
        )
    missing = mine ^ theirs
    notes = [f"Classes in only one of the layers: {_listed(missing)}."] if missing else []
    return _Pair(references, others, classes, classes[-1] + 1, False, notes=notes, **known)


# --------------------------------------------------------------------------- what is found


def _probability_scores(job, pair):
    """Scores of probabilities at the threshold of best Dice; per class where there are several."""
    if pair is None or job.stopping or not pair.is_probability:
        return None
    if not pair.has_class_axis:
        return (yield from _binary_scores(job, pair, "scores"))
    per_class = {}
    for value in pair.classes[1:]:
        scores = yield from _binary_scores(job, pair, f"scores of class {value}", value)
        if scores is None:
            return None
        per_class[value] = scores
    return {"per_class": per_class}


def _binary_scores(job, pair, activity, value=None):
    """`metrics.evaluate` plane by plane; many pixels with probabilities rounded to 1 / 4096."""
    exact = sum(array.size for array in pair.references) <= MANY_PIXELS
    tally, truths, probabilities = Tally(), [], []
    for done, part in enumerate(pair.parts, start=1):
        if job.stopping:
            return None
        true, plane = pair.true(part), pair.probability(part)
        plane = plane if value is None else plane[value]
        counted = (true >= 0) & np.isfinite(plane)
        truth, plane = (true == (1 if value is None else value))[counted], plane[counted]
        if exact:
            truths.append(truth)
            probabilities.append(plane)
        elif plane.size and not (plane.min() >= 0 and plane.max() <= 1):
            raise ValueError("Probabilities must lie between 0 and 1; rescale the image first.")
        else:
            tally.add(truth, plane)
        yield Progress(activity, done, len(pair.parts))
    if not exact:
        return tally.scores()
    return score_probability(np.concatenate(truths), np.concatenate(probabilities))


def _counts(job, pair):
    """How many pixels of each class of the reference have each class in the other."""
    if pair is None:
        return None
    total = np.zeros((pair.size, pair.size), np.int64)
    for done, part in enumerate(pair.parts, start=1):
        if job.stopping:
            return None
        total += transition.count(pair.true(part), pair.found(part), pair.size)
        yield Progress("counting", done, len(pair.parts))
    return total


def _judged(job, pair):
    """Verdict and figure of merit, from so many planes as can be looked at in seconds."""
    if pair is None or job.stopping:
        return None
    yield Progress("verdict", 0, 2)
    parts = _spread(pair)
    true, found = (_stacked([get(part) for part in parts]) for get in (pair.true, pair.found))
    try:
        verdict: transition.Verdict | str = transition.judge(true, found, pair.size)
    except ValueError as error:
        verdict = str(error)
    if job.stopping:
        return None
    yield Progress("verdict", 1, 2)
    try:
        kept = density.kept(true, found)
    except ValueError:
        kept = float("nan")
    yield Progress("verdict", 2, 2)
    return verdict, kept, len(parts)


def _spread(pair):
    """Planes evenly spread over all, that hold about `JUDGED_PIXELS` at most."""
    parts = pair.parts
    pixels = sum(array.size for array in pair.references)
    step = max(1, round(pixels / JUDGED_PIXELS))
    return parts[step // 2 :: step] or parts[:1]


def _stacked(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Planes of any sizes as one array; what they do not cover is -1."""
    shape = np.max([plane.shape for plane in planes], axis=0)
    stack = np.full((len(planes), *shape), -1, planes[0].dtype)
    for whole, plane in zip(stack, planes):
        whole[tuple(map(slice, plane.shape))] = plane
    return stack


def _errors(job, pair, request):
    if pair is None or job.stopping or not request.errors:
        return None
    errors = [np.zeros(array.shape, np.uint8) for array in pair.references]
    for done, part in enumerate(pair.parts, start=1):
        if job.stopping:
            return None
        true, found = pair.true(part), pair.found(part)
        wrong = (true != found) & transition.both_known(true, found, None)
        kind = np.where(found == 0, MISSED, np.where(true == 0, EXTRA, WRONG))
        errors[part[0]][part[1:]] = kind * wrong
        yield Progress("errors", done, len(pair.parts))
    return errors[0] if hasattr(request.reference, "shape") else errors


def _objects(job, pair, request):
    """Scores of the objects, plane by plane or volume by volume."""
    how = request.objects or ("numbered" if pair is not None and pair.instances else None)
    if pair is None or how is None or job.stopping:
        return None
    tally, dims = ObjectTally(), request.spatial_dims
    if dims not in (2, 3) or any(array.ndim < dims for array in pair.references):
        raise ValueError(f"Objects of {dims} dimensions need arrays with at least as many axes.")
    units = [
        (number, index)
        for number, array in enumerate(pair.references)
        for index in np.ndindex(array.shape[: array.ndim - dims])
    ]
    for done, (number, index) in enumerate(units, start=1):
        if job.stopping:
            return None
        tally.add(*_numbered(pair, number, index, how))
        yield Progress("objects", done, len(units))
    return tally.scores()


def _numbered(pair, number, index, how):
    """The objects of both on one plane or volume, 0 where a pixel does not count."""
    shape = pair.references[number].shape[len(index) : -2]
    parts = [(number, *index, *inner) for inner in np.ndindex(shape)]
    masks = [np.stack([get(part) for part in parts]) for get in (pair.true, pair.found)]
    counted = (masks[0] >= 0) & (masks[1] >= 0)
    objects = []
    for mask, array in zip(masks, (pair.references[number], pair.others[number])):
        if how == "numbered" and array.dtype.kind != "f":
            labels = np.asarray(array[index]).reshape(mask.shape)
        else:
            labels = mask if shape else mask[0]
            labels = np.where(counted.reshape(labels.shape), labels, 0)
            labels = split(labels, spatial_dims=labels.ndim).reshape(mask.shape)
        objects.append(np.where(counted, labels, 0))
    return objects


def _label_scores(pair, counts):
    """Scores of labels, from the counts alone."""
    if pair.binary:
        return score_counts(counts)
    present = [v for v in range(1, len(counts)) if counts[v].any() or counts[:, v].any()]
    total = counts.sum()
    return {
        "accuracy": float(np.trace(counts) / total) if total else float("nan"),
        "per_class": {value: score_counts(_against_rest(counts, value)) for value in present},
    }


def _against_rest(counts, value):
    both, true, found = counts[value, value], counts[value].sum(), counts[:, value].sum()
    return np.array([[counts.sum() - true - found + both, found - both], [true - both, both]])


def _comparison(pair, scores, counts, judged, errors, objects):
    scores = {**_label_scores(pair, counts), **(scores or {})}
    if "per_class" in scores:
        rows = scores["per_class"].values()
        mean = {name: float(np.mean([row[name] for row in rows])) for name in ("dice", "iou")}
        scores = {**mean, "auc": float("nan"), "threshold": float("nan"), **scores}
        scores = {**{name: scores[name] for name in NAMES}, "per_class": scores["per_class"]}
    shown = list(range(len(counts)))
    if not pair.binary:
        shown = [value for value in shown if counts[value].any() or counts[:, value].any()]
    full, counts = counts, counts[np.ix_(shown, shown)]
    matrix = transition.normalised(counts)
    verdict, kept, planes = judged
    rank, total = transition.rank(matrix, counts), int(counts.any(1).sum())
    sentences = [str(verdict)]
    if rank < total and getattr(verdict, "kind", None) == "bent":
        sentences.append(str(transition.verdict(transition.normalised(full), full)))
    sentences.append(f"Rank {rank}: {rank} of {total} classes can be told apart.")
    if kept == kept:
        sentences.append(f"Meta-structure kept: {kept:.3f} (1: everything, 0: nothing).")
    sentences += [str(objects)] if objects else []
    sentences += pair.notes
    if planes < len(pair.parts):
        some = counted(planes, "plane")
        sentences.append(f"Verdict and figure of merit were computed on {some} of the stack.")
    return Comparison(
        scores=scores,
        matrix=matrix,
        verdict=verdict,
        errors=errors,
        classes=pair.classes if pair.binary else shown,
        counts=counts,
        rank=rank,
        kept=kept,
        sentences=sentences,
        objects=objects,
    )


def _listed(values):
    return ", ".join(map(str, sorted(values)))
