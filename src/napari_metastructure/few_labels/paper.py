"""The paper mode of `segment`: iterative ground truth training (iGTT) as published."""

from collections.abc import Generator
from functools import partial
from typing import Any

import numpy as np
import torch

from napari_metastructure.arrays.blocks import round_up
from napari_metastructure.few_labels.dmi import best_threshold, candidate
from napari_metastructure.few_labels.mode import Mode
from napari_metastructure.few_labels.polarity import background_is_larger
from napari_metastructure.jobs.events import Round, Step
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import IGNORE, UNSUPERVISED_LOSSES
from napari_metastructure.learning.trainer import Trainer

__all__ = ["Paper"]


class Paper(Mode):
    """Iterative ground truth training as published: whole tiles, labels from the last epoch."""

    def train(self) -> Generator[Any, Any, Any]:
        """Train as published; generator of events."""
        config = self.config
        tiles = self._tiles()
        labels = [self._first(*tile) for tile in tiles]
        batches = -(-len(tiles) // config.batch_size)
        self._draw_weights()
        trainer = Trainer(
            self.model.network,
            UNSUPERVISED_LOSSES[config.loss],
            steps=config.epochs * batches,
            learning_rate=config.learning_rate,
            device=self.device,
            optimise=partial(_published_sgd, batches=batches),
        )
        for epoch in range(1, config.epochs + 1):
            new: dict[int, Any] = {}
            losses: list[float] = []
            order = self.rng.permutation(len(tiles))
            for start in range(0, len(tiles), config.batch_size):
                if self.job.stopping:
                    return
                if self.spent() >= 1:
                    yield self.cut_short(len(self.history["loss"]), config.epochs * batches)
                    return
                batch = order[start : start + config.batch_size]
                inputs = np.stack([self._cut(*tiles[index]) for index in batch])
                targets = np.stack(
                    [_fill_label(labels[index], inputs.shape[2:]) for index in batch]
                )
                losses.append(trainer.step(inputs, targets))
                self.history["loss"].append(losses[-1])
                yield Step(len(self.history["loss"]), config.epochs * batches, epoch, losses[-1])
                yield from self.pending_events(trainer)
                probabilities = trainer.logits[:, 0].float().sigmoid()
                for index, p in zip(batch, probabilities.cpu().numpy()):
                    p = p[tuple(slice(side) for side in labels[index].shape)]
                    chosen = candidate(p, config.num_thresholds)
                    chosen = background_is_larger(chosen)
                    new[index] = p, chosen, self.sketch(chosen)
            yield from self._report(epoch, labels, new, losses, tiles)
            for index, (_, _, label) in new.items():
                labels[index] = label
            yield from self.previews.if_due(epoch)
            if self.history["rounds"][-1]["label_change"] == 0 and epoch > 1:
                return

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

    def _first(self, number, place):
        name = "black" if self.config.start == "auto" else self.config.start
        label = self.start_label(name, number)[place]
        return self.sketch(label) if label.any() else label

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

    def _report(self, epoch, labels, new, losses, tiles):
        changed = sum(
            np.count_nonzero(label != labels[index]) for index, (_, _, label) in new.items()
        )
        change = changed / sum(label.size for label in labels)
        self.history["rounds"].append({"round": epoch, "label_change": change})
        shown = self.shown()
        index = next(i for i, (number, _) in enumerate(tiles) if number == shown)
        number, place = tiles[index]
        image = np.asarray(self.items.images[number][(..., *place)])
        probability, chosen, label = new[index]
        loss = float(np.mean(losses))
        yield Round(epoch, self.config.epochs, change, loss, image, probability, chosen, label)

    def masks(self, probabilities: Any) -> list:
        """The candidate of each plane, as in training."""
        thresholds = [best_threshold(p, self.config.num_thresholds) for p in probabilities]
        self.model.threshold = float(np.median(thresholds))
        self.model.threshold_source = "median of the planes' thresholds of largest DMI"
        masks = [(p > t).astype(np.uint8) for p, t in zip(probabilities, thresholds)]
        return [background_is_larger(mask) for mask in masks]

    def predict_mask(self, item: Items, write: Any) -> Generator[Any, Any, Any]:
        """Predict the mask of one plane, which has to be in memory to choose a threshold."""
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
