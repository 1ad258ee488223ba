"""The paper mode of `segment`: iterative ground truth training (iGTT) as published."""

from collections.abc import Generator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_metastructure.arrays.blocks import round_up
from napari_metastructure.few_labels.dmi import best_threshold, candidate
from napari_metastructure.few_labels.mode import Mode, packed, unpacked
from napari_metastructure.few_labels.polarity import background_is_larger, polarity
from napari_metastructure.files.fingerprint import digest
from napari_metastructure.jobs.events import Progress, Round, Step
from napari_metastructure.jobs.generators import in_background
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import IGNORE, UNSUPERVISED_LOSSES
from napari_metastructure.learning.trainer import Trainer

__all__ = ["Paper"]


class Paper(Mode):
    """Iterative ground truth training as published: whole tiles, labels from the last epoch."""

    tiles: list  # (plane, place)
    labels: list[NDArray]  # of the tiles
    new: dict[int, NDArray]  # labels that this epoch has made so far
    order: list[int]  # of the tiles in this epoch

    def train(self) -> Generator[Any, Any, Any]:
        """Train as published; generator of events."""
        config = self.config
        self.tiles = self._tiles()
        yield from self._find_polarity()
        self.labels = yield from self._first_labels()
        if self.job.stopping:
            return
        self.batches = -(-len(self.tiles) // config.batch_size)
        self._draw_weights()
        self.trainer = Trainer(
            self.model.network,
            UNSUPERVISED_LOSSES[config.loss],
            steps=config.epochs * self.batches,
            learning_rate=config.learning_rate,
            device=self.device,
            optimise=partial(_published_sgd, batches=self.batches),
            compile=config.compile,
        )
        self.part, self.new, self.order = 1, {}, []
        if self.resume is not None:
            self.part_labels = digest(self.labels)
            yield from self.resume.restore(self)
        yield from self._epochs()
        if self.resume is not None:
            yield from self.resume.keep(self, len(self.history["loss"]), self._total)

    @property
    def _total(self):
        """Steps in all."""
        return self.config.epochs * self.batches

    @property
    def _settled(self):
        """Whether the last epoch has changed no label."""
        rounds = self.history["rounds"]
        return len(rounds) > 1 and rounds[-1]["label_change"] == 0

    def _epochs(self):
        """Epochs until the labels settle; generator of events."""
        while self.part <= self.config.epochs and not self._settled:
            seen: dict[int, tuple] = {}
            if not (yield from self._epoch(seen)):
                return
            epoch = self.part
            yield from self._report(seen)
            for index, label in self.new.items():
                self.labels[index] = label
            self.part, self.new, self.order = epoch + 1, {}, []
            yield from self.previews.if_due(epoch)

    def _epoch(self, seen):
        """One epoch; generator of events that returns whether it came to its end.

        It puts the probability and the candidate of each tile into `seen`.
        """
        config, losses = self.config, self.history["loss"]
        if not self.order:
            self.order = self.rng.permutation(len(self.tiles)).tolist()
        before = (self.part - 1) * self.batches
        while (done := len(losses) - before) < self.batches:
            if self.job.stopping:
                return False
            if self.spent() >= 1:
                yield self.cut_short(len(losses), self._total)
                return False
            batch = self.order[done * config.batch_size : (done + 1) * config.batch_size]
            inputs = np.stack([self._cut(*self.tiles[index]) for index in batch])
            targets = np.stack(
                [_fill_label(self.labels[index], inputs.shape[2:]) for index in batch]
            )
            losses.append(self.trainer.step(inputs, targets))
            yield Step(len(losses), self._total, self.part, losses[-1])
            yield from self.pending_events(self.trainer)
            probabilities = self.trainer.logits[:, 0].float().sigmoid()
            for index, p in zip(batch, probabilities.cpu().numpy()):
                p = p[tuple(slice(side) for side in self.labels[index].shape)]
                chosen = background_is_larger(candidate(p, config.num_thresholds))
                seen[index] = p, chosen
                self.new[index] = self.sketch(chosen)
            if self.resume is not None and self.resume.is_due():
                yield from self.resume.keep(self, len(losses), self._total)
        return True

    def state(self) -> tuple[dict, dict]:
        """The same with the labels and the order of the epoch."""
        tensors, values = super().state()
        for number, label in enumerate(self.labels):
            tensors[f"label.{number}"] = packed(label)
        for number, label in self.new.items():
            tensors[f"new.{number}"] = packed(label)
        return tensors, values | {"order": self.order, "new": list(self.new)}

    def take_up(self, tensors: dict, values: dict) -> None:
        """Go on from a `state`, in the middle of its epoch."""
        super().take_up(tensors, values)
        self.part, self.order = values["part"], values["order"]
        shapes = [label.shape for label in self.labels]
        self.labels = [unpacked(tensors[f"label.{k}"], shape) for k, shape in enumerate(shapes)]
        self.new = {k: unpacked(tensors[f"new.{k}"], shapes[k]) for k in values["new"]}

    def _tiles(self):
        """(plane, place) of tiles of at most the patch size that cover every plane."""
        tiles, sizes = [], self.config.patch_shape
        for number, image in enumerate(self.pictures):
            starts = [
                np.unique(np.linspace(0, max(side - size, 0), -(-side // size)).astype(int))
                for side, size in zip(image.shape, sizes)
            ]
            for corner in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, image.ndim):
                place = tuple(
                    slice(at, min(at + size, side))
                    for at, side, size in zip(corner, image.shape, sizes)
                )
                tiles.append((number, place))
        largest = np.max([image.shape for image in self.pictures], axis=0)
        self.shape = tuple(  # twice the multiple, for a batch norm needs more than one value
            max(2 * multiple, min(size, round_up(side, multiple)))
            for side, size, multiple in zip(largest, sizes, self.config.multiple)
        )
        return tiles

    @property
    def _start(self):
        return "black" if self.config.start == "auto" else self.config.start

    def _find_polarity(self):
        """Of a filter whose masks are the first labels; generator of `Progress`."""
        if self._start in ("black", "labels"):
            return
        if self.polarity == "auto":
            event, parts = Progress("looking for the polarity", 0, 1), self.parts(self.pictures)
            self.polarity = (yield from in_background(self.job, event, polarity, parts)) or "bright"
        self.facts["polarity"] = self.polarity

    def _first_labels(self):
        """The first label of every tile, those before a stop; generator of `Progress`."""
        labels, of_plane = [], {}
        for done, (number, place) in enumerate(self.tiles):
            event = Progress("start labels", done, len(self.tiles))
            if number not in of_plane:
                made = yield from in_background(
                    self.job, event, self.start_label, self._start, number
                )
                of_plane = {number: made}
            if self.job.stopping:
                break
            label = of_plane[number][place]
            labels.append(self.sketch(label) if label.any() else label)
        return labels

    def _cut(self, number, place):
        tile = _pad(self.items.image(number, place), self.shape, mode="symmetric")
        return tile.reshape(-1, *self.shape)

    def _draw_weights(self):
        """Weights from N(0, 0.02)."""
        generator = torch.Generator().manual_seed(int(self.rng.integers(2**31)))
        with torch.no_grad():
            for weight in self.model.network.parameters():
                if weight.ndim > 1:
                    weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))

    def _report(self, seen):
        """The epoch's event; without one if its picture was seen before an interruption."""
        changed = sum(
            np.count_nonzero(label != self.labels[index]) for index, label in self.new.items()
        )
        change = changed / sum(label.size for label in self.labels)
        self.history["rounds"].append({"round": self.part, "label_change": change})
        shown = self.shown()
        index = next(i for i, (number, _) in enumerate(self.tiles) if number == shown)
        if index not in seen:
            return
        number, place = self.tiles[index]
        image = np.asarray(self.items.images[number][(..., *place)])
        loss = float(np.mean(self.history["loss"][-self.batches :]))
        label = self.new[index]
        yield Round(self.part, self.config.epochs, change, loss, image, *seen[index], label)

    def predicted(self, number: int, probabilities: NDArray) -> None:
        """The candidate of the plane, as in training."""
        threshold = best_threshold(probabilities, self.config.num_thresholds)
        mask = (probabilities > threshold).astype(np.uint8)
        self.noted[number] = threshold, 2 * np.count_nonzero(mask) > mask.size
        self.results.masks[number][...] = background_is_larger(mask)

    def decide(self) -> Generator[Any, Any, Any]:
        """Turn model and probabilities where most candidates are larger than the background."""
        yield from ()
        if not self.learnt:
            self.facts.setdefault("note", "there was no step of training, so the masks are empty")
        thresholds, larger = zip(*self.noted.values()) if self.noted else ((0.0,), (False,))
        self.model.threshold = float(np.median(thresholds))
        self.model.threshold_source = "median of the planes' thresholds of largest DMI"
        if np.mean(larger) > 0.5:  # so that it predicts upright
            self.model.inverted, self.model.threshold = True, 1 - self.model.threshold
            for number in self.noted:
                p = self.results.probabilities[number]
                np.subtract(1, p, out=p)

    def predict_mask(self, item: Items, write: Any) -> Generator[Any, Any, Any]:
        """Predict the mask of one plane, which has to be in memory to choose a threshold."""
        if not self.learnt:
            write(0, np.zeros(item.pictures()[0].shape, np.uint8))
            return
        p = yield from self.model.predicting_plane(item.images[0])
        chosen = candidate(p, self.config.num_thresholds)
        write(0, background_is_larger(chosen))


def _published_sgd(parameters, learning_rate, steps, batches):
    """SGD as published: momentum 0.9, weight decay 1e-3, a tenth of the rate every 20 epochs."""
    optimizer = torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, weight_decay=1e-3)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 20 * batches, 0.1)


def _pad(array, shape, **how):
    missing = [(0, size - side) for side, size in zip(array.shape[-len(shape) :], shape)]
    return np.pad(array, [(0, 0)] * (array.ndim - len(shape)) + missing, **how)


def _fill_label(label, shape):
    return _pad(label.astype(np.int64), shape, constant_values=IGNORE)
