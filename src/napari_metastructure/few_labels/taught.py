"""A few strokes teach a pixel classifier, and the classifier teaches a network.

The classifier's label is structured though noisy, and a network learns the structure. Some strokes
are held out of both, to tell which of the two does better.
"""

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastructure.arrays.blocks import evenly
from napari_metastructure.few_labels.mode import Mode
from napari_metastructure.few_labels.object_share import believable
from napari_metastructure.few_labels.second_opinion import agreed, on_strokes
from napari_metastructure.few_labels.stroke_threshold import (
    heeding_strokes,
    threshold_of_classifier,
)
from napari_metastructure.jobs.events import Progress
from napari_metastructure.jobs.generators import Grace, in_background
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels.stroke_parts import hold_out, stroke_numbers
from napari_metastructure.labels.strokes import check_strokes, uncertainty
from napari_metastructure.learning.augmentation import Augmentation
from napari_metastructure.learning.features import FeatureCache
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import LOSSES
from napari_metastructure.learning.model import put_rows
from napari_metastructure.learning.patches import PatchSampler
from napari_metastructure.learning.stroke_classifier import StrokeClassifier
from napari_metastructure.learning.threshold import outline_steepness, outline_threshold

__all__ = [
    "Taught",
    "compare_on_strokes",
    "network_classes",
    "separation",
]

_FEATURES_KEPT = 2**30  # bytes
_MOST_TAUGHT = 2**22  # pixels that the classifier labels for the network
_HELD_OUT = 0.25  # of the strokes of each class
_LEAST_HELD_OUT = 8  # strokes of each class, else none is held out
_MOST_CHECKED = 4  # planes on which the network's result is compared with the strokes
_MARGIN = 0.01  # of the area under the ROC curve, by which the classifier must be better
_MARGIN_OF_ONE = 0.1  # the same if a class has a single stroke held out
_MUCH_LESS_CERTAIN = 2  # times, on planes without strokes
_UNCERTAIN = 0.05  # mean over a plane, below which nothing is told
_STEEP = 1.5  # times the plane's mean gradient: outlines in pure noise have 0.9 to 1.4 times
_SECONDS_TO_JUDGE = 0.25  # once the job is stopped
_GOING_ON = 0.5  # of the steps and of the learning rate, when training goes on
_EDGES_BESIDE_NETWORK = 0.1  # weight, where it has learnt the share of objects
_RULE = "largest expected Dice times gradient along the outline"


def network_classes(strokes: Any) -> list[int]:
    """Label values that strokes lead to, ascending: the values that occur, minus 1.

    Raises
    ------
    TypeError, ValueError
        If nothing can be learnt from the strokes, in one sentence.
    """
    return [int(value) - 1 for value in check_strokes(strokes)]


class Taught(Mode):
    """A network that learns the label of a stroke classifier; the items' labels are strokes."""

    def __init__(
        self, job: Job, items: Items, config: Any, device: Any, seed: Any, model: Any = None
    ) -> None:
        self.strokes = [np.asarray(stroke) for stroke in items.labels]
        classes = network_classes(self.strokes)
        super().__init__(job, items, config, device, seed, classes)
        self.facts["start"] = ["strokes"]
        self.going_on = model is not None and self._can_go_on(model)
        if self.going_on:
            self.model.network.load_state_dict(model.network.state_dict())
        self.classifier: Any = None  # not taught yet
        self.choice = "network"
        self.ended_early = True  # until the network has learnt for a while
        self._time_to_judge = Grace(job, _SECONDS_TO_JUDGE)
        self._known: dict[int, NDArray] = {}  # what the classifier says of planes
        self._rule_of_labels: Any = None  # its threshold, and what belongs to it
        self._starts: dict[int, NDArray] = {}  # start masks by plane, a second opinion
        self._features = FeatureCache(self._new_classifier().features, _FEATURES_KEPT)

    def _new_classifier(self):
        config = self.config
        channels = None if config.channel_axis is None else 0  # the items' come first
        return StrokeClassifier(
            spatial_dims=config.spatial_dims,
            channel_axis=channels,
            anisotropy=config.anisotropy,
            seed=self.seed,
        )

    def _can_go_on(self, model):
        """Whether a model's weights are of use; if not, a note says that training starts anew."""
        same = model.architecture == self.model.architecture and model.classes == self.model.classes
        hardly = (model.record or {}).get("ended_early", False)
        if hardly or not same:
            has = "had too little time to learn" if hardly else "has other classes or settings"
            self.notes.append(
                f"The given model {has}, so the network is trained from the beginning."
            )
        return same and not hardly

    # ------------------------------------------------------------------ training

    def train(self) -> Generator[Any, Any, Any]:
        """Teach, train and compare; generator of events.

        With strokes held out there are two courses of half the length: the first, on what the
        other strokes teach, is compared; the second learns from all of them.
        """
        yield from self.leave_out_surroundings()
        event = Progress("reading the strokes", 0, 1)
        split = yield from in_background(
            self.job, event, hold_out, self.strokes, _HELD_OUT, _LEAST_HELD_OUT, self.rng
        )
        taught, held_out = split or ([], None)
        courses = [self.strokes] if held_out is None else [taught, self.strokes]
        if split is None:
            courses = []
        elif held_out is None:
            self.facts["held_out"] = (
                f"none: a class has fewer than {_LEAST_HELD_OUT} strokes, too few to compare "
                "the network and the classifier"
            )
        first = self._take_up_course()
        for number, strokes in list(enumerate(courses))[first:]:
            yield from self._fit(strokes)
            if self.job.stopping:
                break
            if self.choice == "network" and (number == 0 or not self.ended_early):
                chosen = self._planes_to_label()
                labels = yield from self._labels(chosen, strokes)
                labels = yield from self._with_second_opinion(chosen, labels, strokes)
                if not self.job.stopping:
                    yield from self._train_network(chosen, labels, number, len(courses))
            if number == 0 and held_out is not None and not self.ended_early:
                yield from self._compare(held_out)
        yield from self._tell_where_uncertain()
        self._judge_early_end()
        if self.choice == "network":
            yield from self._check_on_strokes()
        self._note_classifier()

    def _fit(self, strokes):
        """Teach a classifier; generator. Stopped in the middle of it, the last one stays."""
        event, classifier = Progress("learning the strokes", 0, 1), self._new_classifier()
        classifier.cache = self._features

        def fit():
            classifier.fit(self.items.images, strokes, keys=range(len(strokes)))
            classifier.held_out_probabilities()  # kept for the threshold
            if self.choice == "classifier":  # there will be no labels to weigh the classes by
                classifier.class_weights = self.classifier.class_weights
            return classifier

        taught = yield from in_background(self.job, event, fit)
        if taught is not None:
            self.classifier, self._known, self._rule_of_labels = taught, {}, None
            self.polarity = self.facts["polarity"] = taught.polarity

    def _planes_to_label(self):
        """Numbers of planes that the network learns from: those with strokes, then spread ones."""
        size = [stroke.size for stroke in self.strokes]
        most = max(1, int(_MOST_TAUGHT // max(size)))
        painted = [k for k, stroke in enumerate(self.strokes) if stroke.any()][:most]
        others = [k for k in sorted(self.varied) if k not in set(painted)]
        return sorted(painted + evenly(others, most - len(painted)))

    def _labels(self, chosen, strokes):
        """The classifier's labels of planes, strokes counting as certain; generator."""
        probabilities = []
        for done, number in enumerate(chosen):
            event = Progress("labels for the network", done, len(chosen))
            found = yield from self._classified(number, event)
            if found is None:
                return []
            probabilities.append(found)
        if len(self.model.classes) > 2:
            probabilities = self.classifier.weigh_classes(probabilities)
        for number, found in zip(chosen, probabilities):
            self._known[number] = self._of_classes(found).copy()
        self._compare_planes(chosen, probabilities)
        event = Progress("labels for the network", len(chosen), len(chosen))
        decided = yield from in_background(self.job, event, self._decided, chosen)
        if decided is None:
            return []
        labels, self._rule_of_labels, one_by_one = decided
        self.facts["object_share"] = self._rule_of_labels[-1]
        if one_by_one:
            self.facts["label_threshold"] = "one for each plane with edges, as planes differ"
        return [
            np.where(strokes[k] > 0, strokes[k], label + 1).astype(np.int16) - 1
            for k, label in zip(chosen, labels)
        ]

    def _decided(self, chosen):
        """Labels of planes by the classifier, the `_threshold` for all, and if each has its own.

        With strokes on several planes, the one for all heeds what holds on planes not learnt from.
        """
        probabilities = [self._known[number] for number in chosen]
        if len(self.model.classes) > 2:
            return [self._cut(p) for p in probabilities], (None, None, None), False
        threshold, source, share = self._threshold(probabilities, chosen, "classifier")
        one_by_one = share is None and self._planes_differ()
        labels = [
            self._cut(p, self._own_threshold(p, number, threshold) if one_by_one else threshold)
            for number, p in zip(chosen, probabilities)
        ]
        return labels, (threshold, source, share), one_by_one

    def _own_threshold(self, p, number, common):
        """That of a plane alone; the common one where that finds no edges, as without objects."""
        own, *_ = self._threshold([p], [number], "classifier")
        steepness = outline_steepness(p > own, self.pictures[number], self.polarity)
        return own if steepness >= _STEEP else common

    def _with_second_opinion(self, chosen, labels, strokes):
        """Labels left open where a start mask that fits the strokes differs; generator."""
        if not labels or len(self.model.classes) != 2:
            return labels
        name = yield from self._best_start()
        painted = [number for number in chosen if self.strokes[number].any()]
        yield from self._draw_starts(name, painted)
        if self.job.stopping:
            return labels
        masks = [self._starts[number] for number in painted]
        found = on_strokes(masks, [self.strokes[k] for k in painted], self.classifier)
        self.facts["second_opinion"] = {"name": name, **found}
        if not found["used"]:
            return labels
        yield from self._draw_starts(name, chosen)
        if self.job.stopping:
            return labels
        marks = [strokes[number] for number in chosen]
        return agreed(labels, [self._starts[number] for number in chosen], marks)

    def _best_start(self):
        """Name of the start mask that fits the images best; generator."""
        if self.judge is None or self.judge.polarity != self.polarity:
            self._starts = {}
            yield from self.appoint_judge(self.polarity)
            yield from self.compare_starts()
        event = Progress("comparing start masks", 0, 1)
        ranking = yield from in_background(self.job, event, self.judge.ranking)
        return ranking[0].name if ranking else "otsu"

    def _draw_starts(self, name, numbers):
        """Make the start masks of planes that have none yet; generator."""
        missing = [number for number in numbers if number not in self._starts]
        for done, number in enumerate(missing):
            event = Progress("start masks beside the strokes", done, len(missing))
            made = yield from in_background(self.job, event, self.start_label, name, number)
            if made is None:
                return
            self._starts[number] = made

    def _compare_planes(self, chosen, probabilities):
        """Record how uncertain the classifier is on planes with strokes, and on the others."""
        found: dict[bool, list] = {True: [], False: []}
        for number, p in zip(chosen, probabilities):
            found[bool(self.strokes[number].any())].append(uncertainty(p).mean())
        if all(found.values()):
            with_strokes, without = (float(np.mean(found[key])) for key in (True, False))
            self.facts["uncertainty"] = {
                "planes_with_strokes": round(with_strokes, 4),
                "other_planes": round(without, 4),
            }

    def _planes_differ(self):
        """Whether the classifier is much less certain on planes without strokes.

        Then probabilities do not mean the same on every plane: no threshold fits all of them.
        """
        found = self.facts.get("uncertainty")
        if found is None:
            return False
        most = max(_MUCH_LESS_CERTAIN * found["planes_with_strokes"], _UNCERTAIN)
        return found["other_planes"] > most

    def _tell_where_uncertain(self):
        """A note if strokes on a few planes say little of the others; generator."""
        if self._planes_differ():
            found = self.facts["uncertainty"]
            with_strokes, others = found["planes_with_strokes"], found["other_planes"]
            yield self.note(
                "The planes without strokes look different: the classifier is less certain there "
                f"(mean uncertainty {others:.2f}, against {with_strokes:.2f} on the others), so "
                "the result may be wrong there. Paint a few strokes on some of them."
            )

    def _classified(self, number, event):
        """The classifier's probabilities of a plane; None if the job is stopped before."""
        image = self.items.images[number]
        return (
            yield from in_background(
                self.job, event, self.classifier.predict_plane, image, key=number
            )
        )

    def _train_network(self, chosen, labels, course, courses):
        """One of the courses, each with a schedule of its own; generator."""
        config = self.config
        pick = [self.items.images[k] for k in chosen], [self.items.moments[k] for k in chosen]
        sampler = PatchSampler(
            Items(pick[0], labels, pick[1]),
            self.model.classes,
            patch_size=config.patch_shape,
            batch_size=config.batch_size,
            multiple=config.multiple,
            augmentation=Augmentation.of(config.augmentation, config.spatial_dims),
            seed=self.rng,
        )
        share = _GOING_ON if self.going_on or course else 1
        every = max(config.epochs * sampler.batches_per_epoch, config.min_steps)
        steps = round(share * every)
        yield from self.learn(
            course,
            sampler,
            LOSSES["bce"],
            steps=steps,
            rate=config.learning_rate * share,
            following=round(_GOING_ON * every) if course < courses - 1 else 0,
        )
        learnt = len(self.history["loss"]) - self.part_begin
        self.ended_early = not self.going_on and course == 0 and learnt < steps / 2

    def state(self) -> tuple[dict, dict]:
        """The same with the comparison of the first course."""
        tensors, values = super().state()
        more = {
            "going_on": self.going_on,
            "held_out": self.facts.get("held_out"),
            "ended_early": self.ended_early,
        }
        return tensors, values | more

    def _take_up_course(self):
        """The course that an unfinished training was in; 0 by default."""
        kept = None if self.resume is None else self.resume.kept()
        if kept is None:
            return 0
        self.going_on = kept[1]["going_on"]
        self.ended_early = kept[1].get("ended_early", False)
        if kept[1]["held_out"] is not None:
            self.facts["held_out"] = kept[1]["held_out"]
        return kept[1]["part"]

    # ------------------------------------------------------------------ choice

    def _compare(self, held_out):
        """Take the classifier's result if held-out strokes clearly speak for it; generator.

        A job that is stopped goes on with it for a moment only.
        """
        self.facts["held_out"] = "none: stopped before the network and the classifier were compared"
        chosen = [number for number, stroke in enumerate(held_out) if stroke.any()]
        where = [held_out[number] > 0 for number in chosen]
        found = {}
        for kind in ("network", "classifier"):
            parts = []
            for done, (number, at) in enumerate(zip(chosen, where)):
                yield Progress("comparing on held-out strokes", done, len(chosen))
                event = Progress("predicting", number, len(self.items))
                predicting = self._of_kind(number, kind)
                predicted = yield from self._time_to_judge.run(predicting, event)
                if predicted is None:
                    return
                parts.append(predicted[..., at])
            found[kind] = np.concatenate(parts, axis=-1)
        truth = np.concatenate([held_out[k][at] for k, at in zip(chosen, where)]) - 1
        strokes = stroke_numbers([held_out[number] for number in chosen])
        both = found["network"], found["classifier"]
        comparing = compare_on_strokes(truth, strokes, *both, self.model.classes)
        event = Progress("comparing on held-out strokes", len(chosen), len(chosen))
        comparison = yield from self._time_to_judge.run(comparing, event)
        if comparison is None:
            return
        if comparison["difference"] > comparison["needed"]:
            self.choice = "classifier"
        self.facts["held_out"] = comparison

    def _judge_early_end(self):
        """A network that hardly learnt is not the result, however it ranks the strokes' pixels."""
        if not self.ended_early:
            return
        if self.classifier is None:
            self.choice = "none"
            self.facts["note"] = "stopped before anything was learnt, so the masks are empty"
            return
        self.choice = "classifier"
        self.facts["ended_early"] = True
        self.facts["note"] = (
            "the result is that of the classifier, as the network had too little time to learn "
            "(less than half of its steps)"
        )

    def _check_on_strokes(self):
        """Take the classifier's result if the network's contradicts the strokes; generator.

        How well it ranks their pixels says nothing of where it draws the line between them.
        """
        painted = [k for k, stroke in enumerate(self.strokes) if stroke.any()]
        most = max(1, min(_MOST_CHECKED, _MOST_TAUGHT // max(s.size for s in self.strokes)))
        numbers, probabilities = evenly(painted, most), []
        for done, number in enumerate(numbers):
            event = Progress("checking the result on the strokes", done, len(numbers))
            predicting = self._of_kind(number, "network")
            probabilities.append((yield from self._time_to_judge.run(predicting, event)))
            if probabilities[-1] is None:
                return
        threshold = None
        if len(self.model.classes) == 2:
            choose = partial(self._threshold, heed=False)
            threshold, *_ = yield from self.settled(choose, probabilities, numbers, "network")
        marked = [self.strokes[number] for number in numbers]
        truth = np.concatenate([stroke[stroke > 0] for stroke in marked]) - 1
        found = [
            self._cut(p[..., stroke > 0], threshold) for p, stroke in zip(probabilities, marked)
        ]
        right = np.concatenate(found) == truth
        shares = [right[truth == label].mean() for label in np.unique(truth)]
        expected = 1 - self.classifier.oob_error
        if _beyond_chance(np.mean(shares), len(shares)) < _beyond_chance(expected, len(shares)) / 2:
            self.choice = "classifier"
            self.facts["note"] = (
                "the result is that of the classifier, as the network contradicts the strokes"
            )

    def _note_classifier(self):
        """What the record says of the classifier and of the choice."""
        self.facts["result"] = self.choice
        if self.classifier is None:
            return
        self.facts["classifier"] = {
            "oob_error": round(self.classifier.oob_error, 4),
            "pixels": sum(int(np.count_nonzero(stroke)) for stroke in self.strokes),
            "stroke_values": self.classifier.classes,
        }
        settings, arrays = self.classifier.state()
        self.facts["classifier"]["settings"] = {
            **settings,
            "channel_axis": self.config.channel_axis,
        }
        self.model.attached = {f"classifier.{name}": array for name, array in arrays.items()}

    # ------------------------------------------------------------------ prediction

    @property
    def learnt(self) -> bool:
        """Whether there is a classifier or a network to predict with."""
        return self.choice != "none"

    def predicting(self, number: int) -> Generator[Any, Any, Any]:
        """Predict one plane with the network or the classifier; generator."""
        return (yield from self._of_kind(number, self.choice))

    def _of_kind(self, number, kind):
        """Probabilities as `SegmentationModel.predict` returns them; generator."""
        if number not in self.varied:
            return self._blank(number)
        image = self.items.images[number]
        if kind == "network":
            return (yield from self.model.predicting_plane(image))
        if number in self._known:
            return self._known[number]
        found = self._blank(number)
        write = partial(put_rows, found, found.ndim - self.config.spatial_dims)
        yield from self._by_classifier(image, write, key=number)
        return found

    def _by_classifier(self, image, write, key=None):
        """The classifier's probabilities of the network's classes, row by row; generator."""
        return self.classifier.predicting_rows(image, self.model.classes, write, key=key)

    def _blank(self, number):
        """Probabilities of 0."""
        classes = (len(self.model.classes),) * (len(self.model.classes) > 2)
        return np.zeros((*classes, *self.strokes[number].shape), np.float32)

    def _of_classes(self, probabilities):
        """The classifier's probabilities of all stroke values as those of the network's classes."""
        if len(self.model.classes) == 2:
            return probabilities[self.model.classes[1]]
        return probabilities[self.model.classes]

    def predicted(self, number: int, probabilities: NDArray) -> None:
        """The most probable of more than two classes."""
        if len(self.model.classes) > 2:
            self.results.masks[number][...] = self._cut(probabilities)

    def decide(self) -> Generator[Any, Any, Any]:
        """Labels of the planes, by a threshold of their own for two classes; generator."""
        if not self.learnt:
            return
        self.model.threshold_source = "none: the most probable class"
        if len(self.model.classes) > 2:
            return
        numbers, kind = self.numbers(), self.choice
        probabilities = [self.results.probabilities[number] for number in numbers]
        found = self._rule_of_labels if kind == "classifier" and self.job.stopping else None
        if found is None:
            found = yield from self.settled(self._threshold, probabilities, numbers, kind)
        self.model.threshold, self.model.threshold_source, share = found
        if kind == "classifier":
            self.facts["object_share"] = share
        for number in set(numbers) - self.unpredicted:
            p = self.results.probabilities[number]
            self.results.masks[number][...] = self._cut(p, self.model.threshold)

    def _threshold(self, probabilities, numbers, kind, heed=True):
        """Of two classes: the threshold, where it comes from, and the objects' share if estimated.

        It may run in the background, and changes nothing.
        """
        pictures, share = [self.pictures[number] for number in numbers], None
        some = self.for_threshold(probabilities, pictures)
        if kind == "classifier":
            threshold, share = threshold_of_classifier(self.classifier, *some)
        else:
            threshold = outline_threshold(*some, self.polarity, **self._rule_of_network())
        if not heed:
            return threshold, _RULE, share
        painted = [k for k, number in enumerate(numbers) if self.strokes[number].any()]
        if not painted:
            return threshold, _RULE, share
        strokes = [self.strokes[numbers[k]] for k in painted]
        heeding = heeding_strokes(threshold, [probabilities[k] for k in painted], strokes)
        moved = ", moved to where it agrees with the strokes" if heeding != threshold else ""
        return heeding, f"{_RULE}{moved}", share

    def _rule_of_network(self):
        """What counts in the network's threshold: the edges if its label was left open around
        objects. Else it has learnt their share with the label, and that which the strokes tell
        counts, too.
        """
        if self.facts.get("second_opinion", {}).get("used", False):
            return {"edges": 1.0}
        share = believable(self.facts.get("object_share"))
        return {"edges": _EDGES_BESIDE_NETWORK, "share": share}

    def _cut(self, probabilities, threshold=None):
        """Labels of a plane: by a threshold, or the most probable of more than two classes."""
        classes = np.array(self.model.classes, np.uint8)
        if threshold is None:
            return classes[probabilities.argmax(0)]
        return np.where(probabilities > threshold, classes[1], classes[0])

    def predict_mask(self, item: Items, write: Any) -> Generator[Any, Any, Any]:
        """Predict the labels of one plane; a generator like `predict_tiles`."""
        image = np.asarray(item.images[0]) if self.choice == "classifier" else item.images[0]

        def decided(start, rows):
            write(start, self.model.decide(rows))

        if self.choice == "classifier":
            yield from self._by_classifier(image, decided)
        elif self.choice == "network":
            yield from self.model.predicting_plane(image, write=decided)


def _beyond_chance(right, classes):
    """A mean share of right pixels, as 0 by chance and 1 if all are right; 1 for one class."""
    return 1.0 if classes < 2 else (right - 1 / classes) / (1 - 1 / classes)


def compare_on_strokes(
    truth: NDArray,
    strokes: Any,
    network: Any,
    classifier: Any,
    classes: Sequence[int],
    draws: int = 200,
) -> Generator[None, None, dict]:
    """How much better a classifier tells held-out strokes apart than a network, and how surely.

    A generator, which yields after each draw.

    Pixels of one stroke resemble each other, so what counts are strokes: the difference has to
    exceed two of its standard errors over redrawn strokes (bootstrap), and more where there are
    few.

    Parameters
    ----------
    truth : array of int, (pixels,)
        Class labels.
    strokes : array of int, (pixels,)
        The stroke that each pixel belongs to.
    network, classifier : arrays of float, (pixels,) or (classes, pixels)
        Probabilities.
    classes : sequence of int
    draws : int
        Of the bootstrap.

    Returns
    -------
    dict
        Areas under the ROC curve (``network``, ``classifier``), their ``difference``, what is
        ``needed`` for the classifier, and the number of ``pixels`` and ``strokes``.
    """
    rng = np.random.default_rng(0)
    every = [np.flatnonzero(strokes == number) for number in np.unique(strokes)]
    by_class = [[at for at in every if truth[at[0]] == label] for label in classes]
    by_class = [group for group in by_class if group]

    def scores(at):
        return [separation(truth[at], p[..., at], classes) for p in (network, classifier)]

    differences = []
    for _ in range(draws):
        at = [group[k] for group in by_class for k in rng.integers(len(group), size=len(group))]
        both = scores(np.concatenate(at))
        differences.append(both[1] - both[0])
        yield
    of_network, of_classifier = scores(np.arange(len(truth)))
    least = min(map(len, by_class))
    return {
        "score": "area under the ROC curve, mean over the classes",
        "network": round(of_network, 4),
        "classifier": round(of_classifier, 4),
        "difference": round(of_classifier - of_network, 4),
        "needed": round(max(_MARGIN, _MARGIN_OF_ONE / least, 2 * float(np.std(differences))), 4),
        "pixels": len(truth),
        "strokes": len(every),
    }


def separation(truth: NDArray, probabilities: Any, classes: Sequence[int]) -> float:
    """Area under the ROC curve of annotated pixels; of more than two classes their mean."""
    if len(classes) == 2:
        return _area_under_roc(truth == classes[1], probabilities)
    pairs = zip(classes, probabilities)
    return float(np.mean([_area_under_roc(truth == label, p) for label, p in pairs]))


def _area_under_roc(is_object, p):
    """By ranks, as it is asked for hundreds of times: scikit-learn's takes a millisecond each."""
    from scipy.stats import rankdata

    objects = np.count_nonzero(is_object)
    pairs = objects * (len(p) - objects)
    return float((rankdata(p)[is_object].sum() - objects * (objects + 1) / 2) / pairs)
