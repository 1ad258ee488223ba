"""The robust mode of `segment`: a network learns start labels drawn from the images."""

from collections.abc import Generator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastructure.few_labels.dmi import best_threshold
from napari_metastructure.few_labels.field_of_view import filled
from napari_metastructure.few_labels.filters import TEXTURE, WITHIN_HALOS, describe
from napari_metastructure.few_labels.mode import Mode, packed, unpacked
from napari_metastructure.few_labels.optics import is_stained
from napari_metastructure.jobs.events import Progress, Round
from napari_metastructure.jobs.generators import in_background, run_out, run_until_stopped
from napari_metastructure.learning.augmentation import Augmentation
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import UNSUPERVISED_LOSSES
from napari_metastructure.learning.patches import PatchSampler
from napari_metastructure.learning.threshold import outline_threshold

__all__ = ["Robust"]

_CLOSE = 0.5  # Dice of the result and its start, above which they are not compared further
_SETTLED = 0.002  # share of pixels
_SHOWN = 6  # starts in the record
_POLARITY_SOURCES = {
    "stained": "colours, as of stains in transmitted light",
    "halos": "bright rims of dark cores, as in phase contrast",
}
_EDGES = (0.5, "root of ")  # power of the gradient in the threshold, beside the overlap
_EDGES_BY_START = {
    TEXTURE: (0.1, "tenth root of "),  # objects are full of edges
    WITHIN_HALOS: (1.0, ""),  # no edge is steeper than that of a halo
}


class Robust(Mode):
    """A network learns start labels drawn from the images; later rounds, its own refined ones."""

    unpredicted_are = "their masks are the start masks"
    start_labels: Sequence[NDArray] = ()
    labels: list[NDArray]  # of the round

    def train(self) -> Generator[Any, Any, Any]:
        """Train on the start labels, round by round; generator of events."""
        config = self.config
        yield from self.leave_out_surroundings()
        yield from self._choose_start()
        yield from self._make_start_labels()
        if self.job.stopping:
            return
        yield from self._first_round(self.start_labels)
        if not any((label > 0).any() for label in self.start_labels):
            self.facts["note"] = "the start mask is empty, so there is nothing to learn"
            self.model.threshold = 1.0
            self.model.threshold_source = "no structure in the start mask"
            return
        self.clock = self.job.clock()  # the limit is for the training
        self.labels = yield from self._sketched(self.start_labels)
        if self.job.stopping:
            return
        for number in range(self._take_up_round(), config.rounds + 1):
            yield from self._round(number)
            if self.job.stopping or self.spent() >= 1:
                return
            if number == config.rounds:
                yield from self._report(number, self.labels, self.labels)
                return
            probabilities = yield from self._refining()
            if probabilities is None:
                return
            threshold = self.model.threshold = yield from self.settled(self.cut, probabilities)
            refined = yield from self._sketched(
                [(p > threshold).astype(np.uint8) for p in probabilities]
            )
            if self.job.stopping:
                return
            yield from self._report(number, self.labels, refined)
            self.labels = refined
            if self.history["rounds"][-1]["label_change"] < _SETTLED:
                return

    # ------------------------------------------------------------------ start

    def _choose_start(self):
        """Name and polarity of the start; generator of `Progress` and, in doubt, a `Note`."""
        config, name, clear, ranking = self.config, self.config.start, False, []
        colours = config.channel_axis is not None and config.spatial_dims == 2
        stained = config.polarity == "auto" and colours and is_stained(self.items.images)
        yield from self.appoint_judge(config.polarity, stained)
        if self.judge.optics in _POLARITY_SOURCES:
            self.facts["polarity_source"] = _POLARITY_SOURCES[self.judge.optics]
        if name == "auto":
            yield from self.compare_starts()
            if not self.job.stopping:
                event = Progress("comparing start masks", 0, 1)
                found = yield from in_background(self.job, event, self.judge.ranking)
                ranking, clear = found or [], found is not None and self.judge.clear_gap
            name = ranking[0].name if ranking else "otsu"
            self.facts["start_description"] = describe(name)
            self.facts["ranking"] = [
                asdict(start) for start in self.judge.different(ranking, _SHOWN)
            ]
        self.polarity = ranking[0].polarity if ranking else self.judge.polarity
        self.facts.update(start=[name], polarity=self.polarity)
        # undisturbed, a network soon learns the start's errors where intensity does not tell
        self.augmentation = 0 if clear else config.augmentation
        self.epochs = config.epochs / 2 if clear else config.epochs
        if self.job.stopping or config.start in ("labels", "black"):
            return
        confidence = self.judge.confidence(ranking)
        self.facts["confidence"] = asdict(confidence)
        if confidence.level == "low":
            yield self.note(
                f"Low confidence: {'; '.join(confidence.reasons)}. These start masks disagree. "
                "Choose one below, or paint a few strokes."
            )

    def _make_start_labels(self):
        """The start label of every plane; generator of `Progress`."""
        self.start_labels = self.results.masks
        name, total = self.facts["start"][0], len(self.items)
        for number in range(total):
            label = None
            if not self.job.stopping:
                event = Progress("start labels", number, total)
                label = yield from in_background(self.job, event, self.start_label, name, number)
            if label is None:
                done = f"{number} of {total}"
                yield self.note(f"Stopped after {done} start labels; nothing was trained.")
                return
            self.start_labels[number][...] = label
            self.results.probabilities[number][...] = label

    def _sketched(self, masks):
        """The extracted meta-structure of masks, if it is asked for; generator."""
        found = list(masks)
        for number, mask in enumerate(masks if self.config.ems else ()):
            event = Progress("extracting meta-structure", number, len(masks))
            made = yield from in_background(self.job, event, self.sketch, mask)
            if made is None:
                break
            found[number] = made
        return found

    # ------------------------------------------------------------------ rounds

    def _first_round(self, labels):
        """The start labels as round 0, with what the untrained network makes of the plane;
        generator of its event.
        """
        shown = self.shown()
        image, label = np.asarray(self.items.images[shown]), labels[shown].copy()
        share = float(np.mean([part.mean() for part in labels]))
        p = yield from self._predicted(image)
        if p is not None:
            yield Round(0, self.config.rounds, share, float("nan"), image, p, label, label)

    def _predicted(self, image):
        """Probabilities of the plane that is shown, None once the job is stopped; generator."""
        event = Progress("previewing", 0, 1)
        return (yield from run_until_stopped(self.job, self.model.predicting_plane(image), event))

    def _report(self, number, before, after):
        """The round's event, with the prediction of the plane that is shown."""
        change = np.mean([np.mean(new != old) for new, old in zip(after, before)])
        loss = float(np.mean(self.history["loss"][-50:]))
        self.history["rounds"].append({"round": number, "label_change": float(change)})
        shown = self.shown()
        image = np.asarray(self.items.images[shown])
        p = yield from self._predicted(image)
        if p is None:
            return
        chosen = (p > self.model.threshold).astype(np.uint8)
        label = after[shown].copy()  # the result may be put in its place
        yield Round(number, self.config.rounds, float(change), loss, image, p, chosen, label)

    def _round(self, number):
        config = self.config
        sampler = PatchSampler(
            Items(self.items.images, self.labels, self.items.moments),
            [0, 1],
            patch_size=config.patch_shape,
            batch_size=config.batch_size,
            multiple=config.multiple,
            foreground=0,
            augmentation=Augmentation.of(self.augmentation, config.spatial_dims),
            seed=self.rng,
        )
        steps = max(round(self.epochs * sampler.batches_per_epoch), config.min_steps)
        yield from self.learn(
            number,
            sampler,
            UNSUPERVISED_LOSSES[config.loss],
            steps=steps,
            rate=config.learning_rate,
            following=steps * (config.rounds - number),
        )

    def _refining(self):
        """Probabilities of every plane for the next round, None once the job is stopped: its time
        is for the result; generator of `Progress`.
        """
        found, total = [], len(self.items)
        for number in range(total):
            event = Progress("refining the labels", number, total)
            found.append((yield from run_until_stopped(self.job, self.predicting(number), event)))
            if found[-1] is None:
                return None
            self.predicted(number, found[-1])
        self.unpredicted = set()
        return found

    def state(self) -> tuple[dict, dict]:
        """The same with the labels of a later round, which earlier networks have made."""
        tensors, values = super().state()
        if self.part > 1:
            for number, label in enumerate(self.labels):
                tensors[f"label.{number}"] = packed(label)
        return tensors, values

    def _take_up_round(self):
        """The round that an unfinished training was in, its labels in place; 1 by default."""
        kept = None if self.resume is None else self.resume.kept()
        if kept is None or kept[1]["part"] == 1:
            return 1
        for number, label in enumerate(self.labels):
            self.labels[number] = unpacked(kept[0][f"label.{number}"], label.shape)
        return kept[1]["part"]

    # ------------------------------------------------------------------ result

    @property
    def _edges(self) -> tuple[float, str]:
        """How much the edges count in the threshold, and in words."""
        return _EDGES_BY_START.get(self.facts["start"][0], _EDGES)

    def predicted(self, number: int, probabilities: NDArray) -> None:
        """Keep the plane's own threshold, if it has one."""
        if self.config.ems:  # the few points that stay make all probabilities small
            self.noted[number] = best_threshold(probabilities, self.config.num_thresholds)

    def cut(self, probabilities: Any) -> Any:
        """Threshold of the best probable overlap and outline; of the largest DMI after EMS."""
        if self.config.ems and self.noted:
            return float(np.median(list(self.noted.values())))
        numbers = self.numbers()
        some = self.for_threshold(
            [probabilities[number] for number in numbers],
            [self.pictures[number] for number in numbers],
        )
        power, _ = self._edges
        return outline_threshold(*some, self.polarity, edges=power)

    def decide(self) -> Generator[Any, Any, Any]:
        """What lies above the threshold, or the start where that fits the images better; generator.

        The start is there already.
        """
        probabilities, start = self.results.probabilities, self.results.masks
        if not self.learnt:
            if not self.job.stopping and any(label.any() for label in start):
                self.facts["result_is_start"] = True
                self.facts["note"] = (
                    "there was too little time to learn, so the result is the start mask"
                )
            return
        threshold = self.model.threshold = yield from self.settled(self.cut, probabilities)
        _, part = self._edges
        self.model.threshold_source = (
            "median of the planes' thresholds of largest DMI"
            if self.noted
            else f"largest expected Dice times {part}the gradient along the outline"
        )
        masks = {
            number: (p > threshold).astype(np.uint8)
            for number, p in enumerate(probabilities)
            if number not in self.unpredicted
        }
        better = True
        if not self.job.stopping:
            event = Progress("comparing the result with its start", 0, 1)
            found = yield from in_background(self.job, event, self._compared, list(masks.values()))
            better, note = found or (True, None)
            self.facts |= {"note": note} if note else {}
        if better:
            for number, mask in masks.items():
                start[number][...] = mask
            return
        self.facts["result_is_start"] = True
        for plane, label in zip(probabilities, start):
            plane[...] = label

    def _compared(self, masks):
        """Whether masks that differ much from their start fit the images at least as well, and a
        note on it.
        """
        start = self.start_labels
        overlap = sum(np.count_nonzero(mask & label) for mask, label in zip(masks, start))
        area = sum(int(mask.sum()) + int(label.sum()) for mask, label in zip(masks, start))
        dice = 2 * overlap / max(area, 1)
        if dice >= _CLOSE:
            return True, None
        differs = f"the network differs from its start mask (Dice {dice:.2f})"
        if self.facts["start"] == [TEXTURE]:  # it is not judged by its outline
            return False, f"{differs}, so the result is the start mask"
        if not self.judge.ranking():  # the start was given, so the bank is not made yet
            run_out(self.judge.work())
        network, before = (
            self.judge.score(self.parts(labels), self.polarity) for labels in (masks, start)
        )
        better = network >= before
        if better:
            return True, f"{differs} and fits the images better, so its masks are the result"
        return False, f"{differs} and fits the images less well, so the result is the start mask"

    def predict_mask(self, item: Items, write: Any) -> Generator[Any, Any, Any]:
        """Predict the mask of one plane row by row; generator like `predict_tiles`."""
        if self.facts.get("result_is_start"):
            self.items, self.pictures = item, item.pictures(self.config.start_channel)
            if self.dark is not None:
                self.pictures = [filled(picture, self.dark) for picture in self.pictures]
            label = yield from in_background(
                self.job, None, self.start_label, self.facts["start"][0], 0
            )
            if label is not None:
                write(0, label)
            return
        threshold = self.model.threshold
        yield from self.model.predicting_plane(
            item.images[0], write=lambda start, rows: write(start, rows > threshold)
        )
