"""The robust mode of `segment`: a network learns start labels drawn from the images."""

import numpy as np

from napari_metastructure.few_labels import filters
from napari_metastructure.few_labels.mode import Mode
from napari_metastructure.jobs.events import Progress, Round, Step
from napari_metastructure.jobs.generators import run_out
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import UNSUPERVISED_LOSSES
from napari_metastructure.learning.patches import PatchSampler
from napari_metastructure.learning.threshold import outline_threshold
from napari_metastructure.learning.trainer import Trainer

__all__ = ["Robust"]

_LEAST_AGREEMENT = 0.5  # Dice of the result and its start
_SETTLED = 0.002  # share of pixels


class Robust(Mode):
    """A network learns start labels drawn from the images; later rounds, its own refined ones."""

    start_labels = ()
    has_left = False

    def train(self):
        """Train on the start labels, round by round; generator of events."""
        config = self.config
        labels = self.start_labels = yield from self._start()
        yield self._first_round(labels)
        if not any((label > 0).any() for label in labels):
            self.model.threshold = 1.0
            self.model.threshold_source = "no structure in the start labels"
            return
        for number in range(1, config.rounds + 1):
            yield from self._round(number, labels)
            if self.job.stopping or self.spent() >= 1:
                return
            if number == config.rounds:
                yield from self._report(number, labels, labels)
                return
            probabilities = yield from self.predict("refining the labels")
            self.model.threshold = self.cut(probabilities)
            refined = [
                self.sketch((p > self.model.threshold).astype(np.uint8)) for p in probabilities
            ]
            yield from self._report(number, labels, refined)
            labels = refined
            if self.history["rounds"][-1]["label_change"] < _SETTLED:
                return

    def _first_round(self, labels):
        """The start labels as round 0, with what the untrained network makes of the plane."""
        shown = self.shown()
        image, label = np.asarray(self.items.images[shown]), labels[shown]
        share = float(np.mean([part.mean() for part in labels]))
        p = run_out(self.model.predicting_plane(image))
        return Round(0, self.config.rounds, share, float("nan"), image, p, label, label)

    def _report(self, number, before, after):
        """The round's event, with the prediction of the plane that is shown."""
        change = np.mean([np.mean(new != old) for new, old in zip(after, before)])
        loss = float(np.mean(self.history["loss"][-50:]))
        self.history["rounds"].append({"round": number, "label_change": float(change)})
        shown = self.shown()
        image = np.asarray(self.items.images[shown])
        p = run_out(self.model.predicting_plane(image))
        chosen = (p > self.model.threshold).astype(np.uint8)
        yield Round(number, self.config.rounds, float(change), loss, image, p, chosen, after[shown])

    def _start(self):
        """Majority of the start's filters for every plane; generator of `Progress`."""
        config, items = self.config, self.items
        names = (config.start,)
        if config.start == "auto":
            names = filters.vote_filters(self.pictures, self.polarity)
        self.facts["start"] = list(names)
        clear = names == filters.INTENSITY  # undisturbed, a network soon learns the start's errors
        self.augmentation = 0 if clear else config.augmentation
        self.epochs = config.epochs / 2 if clear else config.epochs
        labels = []
        for number in range(len(items)):
            yield Progress("start labels", number, len(items))
            labels.append(self._vote(number))
        return labels

    def _vote(self, number):
        names = self.facts["start"]
        votes = sum(self.start_label(name, number) for name in names)
        return (2 * votes > len(names)).astype(np.uint8)

    def _round(self, number, labels):
        config = self.config
        sampler = PatchSampler(
            Items(self.items.images, labels, self.items.moments),
            [0, 1],
            patch_size=config.patch_shape,
            batch_size=config.batch_size,
            multiple=config.multiple,
            foreground=0,
            seed=self.rng,
        )
        steps = max(round(self.epochs * sampler.batches_per_epoch), config.min_steps)
        trainer = Trainer(
            self.model.network,
            UNSUPERVISED_LOSSES[config.loss],
            steps=steps,
            learning_rate=config.learning_rate,
            device=self.device,
        )
        total = steps * config.rounds
        at = first = (number - 1) * steps
        while at < first + steps and not self.job.stopping and self.spent() < 1:
            patches, targets = sampler.batch()
            loss = trainer.step(self._disturb(patches), targets)
            self.history["loss"].append(loss)
            at += 1
            behind = min(int(self.spent() * total), first + steps) - at
            for _ in range(behind):  # the schedule ends in time
                trainer.schedule.step()
            at += max(behind, 0)
            epoch = (at - 1) // sampler.batches_per_epoch + 1
            yield Step(at, total, epoch, loss)
            yield from self.pending_events(trainer)
            yield from self.previews.if_due(epoch)

    def _disturb(self, patches):
        """Contrast, brightness and noise at random, so that intensity alone is not learnt."""
        if not self.augmentation:
            return patches
        per_patch = (len(patches), *[1] * (patches.ndim - 1))
        contrast = np.exp(self.rng.normal(0, 0.6 * self.augmentation, per_patch))
        brightness = self.rng.normal(0, 0.6 * self.augmentation, per_patch)
        noise = self.rng.standard_normal(patches.shape, dtype=np.float32)
        noise *= self.rng.uniform(0, self.augmentation, per_patch)
        return (patches * contrast + brightness + noise).astype(np.float32)

    def cut(self, probabilities):
        """Threshold of the best probable overlap and outline."""
        return outline_threshold(probabilities, self.pictures, self.polarity)

    def masks(self, probabilities):
        """What lies above the threshold of the best probable overlap and outline."""
        if self.history["loss"]:
            self.model.threshold = self.cut(probabilities)
            self.model.threshold_source = "largest expected Dice times gradient along the outline"
        masks = [(p > self.model.threshold).astype(np.uint8) for p in probabilities]
        start = self.start_labels
        overlap = sum(np.count_nonzero(mask & label) for mask, label in zip(masks, start))
        area = sum(mask.sum() + label.sum() for mask, label in zip(masks, start))
        if 2 * overlap >= _LEAST_AGREEMENT * area:
            return masks
        self.facts["note"] = (
            "the network has left its start labels, or had too little time to learn them: "
            "the result is the start"
        )
        self.has_left = True
        probabilities[:] = [label.astype(np.float32) for label in start]
        return start

    def predict_mask(self, item, write):
        """Predict the mask of one plane row by row; generator like `predict_tiles`."""
        if self.has_left:
            self.items, self.pictures = item, item.pictures(self.config.start_channel)
            write(0, self._vote(0))
            yield
            return
        threshold = self.model.threshold
        yield from self.model.predicting_plane(
            item.images[0], write=lambda start, rows: write(start, rows > threshold)
        )
