"""Segment images without annotation: iterative ground truth training, published and robust."""

import time
from datetime import datetime
from functools import partial

import numpy as np
import torch

from napari_metastructure.arrays.blocks import as_list, round_up
from napari_metastructure.arrays.chunks import ChunkedArray
from napari_metastructure.few_labels import filters as pseudo
from napari_metastructure.jobs.devices import pick_device, release_memory
from napari_metastructure.jobs.events import Done, Note, Progress, Round, Step
from napari_metastructure.jobs.generators import run_out
from napari_metastructure.jobs.job import Job
from napari_metastructure.jobs.versions import versions
from napari_metastructure.labels import extraction
from napari_metastructure.learning.configs import SegmentConfig
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import IGNORE, UNSUPERVISED_LOSSES
from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.learning.patches import PatchSampler
from napari_metastructure.learning.previews import Previews
from napari_metastructure.learning.threshold import outline_threshold
from napari_metastructure.learning.trainer import Trainer

__all__ = ["SegmentConfig", "segment"]

_LEAST_AGREEMENT = 0.5  # Dice of the result and its start
_SETTLED = 0.002  # share of pixels
_MOST_TRAINED = 2**25  # pixels, of images larger than memory
_MOST_IN_MEMORY = 2**28


def segment(images, config=None, *, labels=None, out=None, **params):
    """Segment bright or dark structures in images without annotation.

    Parameters
    ----------
    images : array or sequence of arrays
        Planes (y, x) or stacks (..., y, x) of any real type; together they are one image set, for
        which one network is trained. With ``channel_axis`` they have one axis more, for
        channels: the network sees all of them, start labels are drawn from the mean of the
        normalised channels or from ``start_channel``.
    config : SegmentConfig or dict, optional
    labels : array or sequence of arrays, optional
        Integers of the images' shapes, for two values of ``start``. "labels": a first
        segmentation, 0 is background. "scribbles": 1 on background, 2 on structures, 0 elsewhere.
    out : array or sequence of arrays, optional
        Where to write the masks, one per image: `ome_zarr.create_image`, numpy.memmap or whatever
        else can be assigned to by index. Then the images may be larger than memory: the network
        is trained on evenly spread planes (parts, of very large ones) of about 2**25 pixels in all,
        and then applied to all planes, whose masks are written as they come.
    **params
        Single parameters, such as ``polarity="dark"``, in place of the config's.

    Returns
    -------
    Job
        An iterator of `Progress`, `Step`, `Preview`, `Round` and at last `Done` with the model,
        ``masks`` (uint8, 0 and 1) and ``probabilities`` (float32), one of each per image; with
        `out` that are the masks, and there are no probabilities.

    Raises
    ------
    ValueError, TypeError
        If a parameter or the data do not fit, with one sentence that says why.

    Notes
    -----
    ``mode="paper"`` is iterative ground truth training as published (Luo et al., AAAI 2022, arXiv
    2103.11594): labels start black; every epoch the network's output picks, by determinant-based
    mutual information, one of its own thresholded masks, whose jittered, thinned skeleton is
    the next label.

    Examples
    --------
    >>> for event in segment(stack, polarity="bright"):  # doctest: +SKIP
    ...     print(event)
    """
    config = SegmentConfig.of(config, **params)
    given = config.start in ("scribbles", "labels")
    if given and labels is None:
        raise ValueError(f"start={config.start!r} needs labels; give one array per image.")
    if labels is not None and not given:
        raise ValueError("labels are used with start='labels' or start='scribbles'; choose one.")
    return Job(lambda job: _segmenting(job, images, labels, out, config))


def _segmenting(job, images, labels, out, config):
    started, clock = datetime.now(), time.perf_counter()
    yield Progress("reading the images", 0, 1)
    device = pick_device(config.device)
    seed = np.random.SeedSequence(config.seed).entropy if config.seed is None else config.seed
    arrays = as_list(images)
    every = Items.of(arrays, labels, config.spatial_dims, channel_axis=config.channel_axis)
    outs = _checked(out, every, arrays, config)
    items = every.in_memory(None if outs is None else _MOST_TRAINED)
    run = {"paper": _Paper, "robust": _Robust}[config.mode](job, items, config, device, seed)
    try:
        if run.varied:
            yield from run.train()
        else:
            run.facts["note"] = "every plane is constant: there is nothing to find"
        run.model.flips = config.mode == "robust"
        probabilities = yield from run.predict("predicting")
        masks = run.masks(probabilities)
        if outs is not None:
            del probabilities, masks
            yield from run.write_masks(every, outs)
        record = {
            "operation": "segment",
            "config": {**config.model_dump(mode="json"), "seed": seed},
            "images": [list(array.shape) for array in arrays[:1]] + [len(every)],
            **run.facts,
            "steps": len(run.history["loss"]),
            "threshold": run.model.threshold,
            "threshold_source": run.model.threshold_source,
            "device": str(device),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 1),
            "versions": versions(),
        }
        run.model.record = record
        run.model.network.eval()
        if outs is None:
            masks = _like(arrays, masks, config.channel_axis)
            probabilities = _like(arrays, probabilities, config.channel_axis)
        else:
            masks, probabilities = outs, None
            for one in outs:
                if hasattr(one, "finish"):
                    one.note(record) if job.stopping else one.finish(record)
        yield Done(
            run.model,
            run.history,
            record,
            stopped=job.stopping,
            masks=masks,
            probabilities=probabilities,
        )
    finally:
        del run
        release_memory(device)


def _checked(out, items, arrays, config):
    """One array per image to write on; None if masks are to stay in memory."""
    shapes = []
    for array in arrays:
        shape = list(array.shape)
        if config.channel_axis is not None:
            del shape[config.channel_axis]
        shapes.append(tuple(shape))
    if out is None:
        pixels = sum(np.prod(shape, dtype=float) for shape in shapes)
        if pixels > _MOST_IN_MEMORY and any(isinstance(i, ChunkedArray) for i in items.images):
            raise ValueError(
                f"The images hold {pixels / 1e9:.1f} billion pixels, too many for masks in memory; "
                "give out=, such as ome_zarr.create_image makes, to write them to."
            )
        return None
    outs = [out] if hasattr(out, "shape") else list(out)
    if [tuple(one.shape) for one in outs] != shapes:
        raise ValueError(f"out should hold one array per image, of the shapes {shapes}.")
    return outs


class _Run:
    """What both modes share: the model, prediction of all planes, and the report of a round."""

    def __init__(self, job, items, config, device, seed):
        self.job, self.items, self.config, self.device = job, items, config, device
        seeds = np.random.SeedSequence(seed).spawn(2)
        self.model = SegmentationModel(
            config.architecture(items.images[0].shape),
            [0, 1],
            channel_axis=config.channel_axis,
            seed=int(seeds[0].generate_state(1)[0]),
        )
        self.rng = np.random.default_rng(seeds[1])
        self.history = {"loss": [], "rounds": []}
        self.facts = {}
        self.pictures = items.pictures(config.start_channel)
        self.polarity = config.polarity
        if self.polarity == "auto":
            self.polarity = pseudo.polarity(self.pictures)
        self.facts["polarity"] = self.polarity
        self.varied = {number for number, image in enumerate(items.images) if _varies(image)}
        self.previews = Previews(job, self.model)
        self.clock = time.perf_counter()

    def predict(self, activity):
        """Probability of every plane; generator of `Progress`."""
        probabilities = []
        for number, image in enumerate(self.items.images):
            if number not in self.varied:
                probabilities.append(np.zeros(self.pictures[number].shape, np.float32))
                continue
            prediction = self.model.predicting_plane(image)
            while len(probabilities) == number:
                try:
                    next(prediction)
                    yield Progress(activity, number, len(self.items))
                except StopIteration as end:
                    probabilities.append(end.value)
        return probabilities

    def pending_events(self, trainer):
        """What the trainer has to say, noted for the record too."""
        for event in trainer.pending_events():
            if isinstance(event, Note):
                self.facts.setdefault("notes", []).append(event.text)
            yield event
        self.facts["peak_memory"] = trainer.memory.peak

    def write_masks(self, items, outs):
        """Predict every plane and write its mask; generator of `Progress`."""
        shapes = [out.shape[: len(out.shape) - self.config.spatial_dims] for out in outs]
        places = [(out, index) for out, shape in zip(outs, shapes) for index in np.ndindex(*shape)]
        for number, (out, index) in enumerate(places):
            if self.job.stopping:
                return
            image = items.images[number]
            if not _varies(image):
                out[index] = np.zeros(out.shape[len(index) :], np.uint8)
                continue
            write = partial(self.write, out, index)
            for _ in self.predict_mask(items._take(slice(number, number + 1)), write):
                yield Progress("predicting", number, len(places))
                if self.job.stopping:
                    return

    def write(self, out, index, start, mask):
        """Write rows of one plane (or volume)."""
        out[(*index, slice(start, start + len(mask)))] = mask.astype(np.uint8)

    def start_label(self, name, number):
        """First label of a plane: uint8, 0 and 1."""
        image = self.pictures[number]
        if name == "black":
            return np.zeros(image.shape, np.uint8)
        if name == "labels":
            return (np.asarray(self.items.labels[number]) > 0).astype(np.uint8)
        if name == "scribbles":
            return pseudo.scribble_mask(image, self.items.labels[number])
        return pseudo.filter_mask(image, name, self.polarity)

    def sketch(self, mask):
        """Extraction of meta-structure, if it is asked for."""
        if not self.config.ems:
            return mask
        return extraction.extract(
            mask,
            shift=self.config.shift,
            fraction=self.config.fraction,
            spatial_dims=self.config.spatial_dims,
            seed=self.rng,
        )

    def shown(self):
        """Index of the plane whose pictures go with a round."""
        preview = self.job.preview
        for index, image in enumerate(self.items.images):
            if (
                preview is not None
                and image.shape == preview.shape
                and np.array_equal(image, preview)
            ):
                return index
        return 0

    def spent(self):
        """Share of the time limit that is gone."""
        if self.config.time_limit is None:
            return 0
        return (time.perf_counter() - self.clock) / self.config.time_limit


class _Robust(_Run):
    """A network learns start labels drawn from the images; later rounds, its own refined ones."""

    start_labels = ()
    has_left = False

    def train(self):
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
            names = pseudo.vote_filters(self.pictures, self.polarity)
        self.facts["start"] = list(names)
        clear = names == pseudo.INTENSITY  # undisturbed, a network soon learns the start's errors
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


def _varies(image):
    """Whether an image, numpy or in chunks, has pixels of more than one value."""
    if isinstance(image, ChunkedArray):
        return image.statistics()[1] > 0
    return float(image.min()) < float(image.max())


def _like(arrays, planes, channel_axis):
    """Planes in order, put together to arrays of the same shapes but for channels."""
    planes = iter(planes)
    results = []
    for array in arrays:
        shape = list(array.shape)
        if channel_axis is not None:
            del shape[channel_axis]
        first = next(planes)
        stack = [first, *(next(planes) for _ in range(int(np.prod(shape)) // first.size - 1))]
        results.append(np.stack(stack).reshape(shape))
    return results


class _Paper(_Run):
    """Iterative ground truth training as published: whole tiles, labels from the last epoch."""

    def train(self):
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
            optimise=lambda *arguments: _published_sgd(*arguments, batches),
        )
        for epoch in range(1, config.epochs + 1):
            new, losses = {}, []
            order = self.rng.permutation(len(tiles))
            for start in range(0, len(tiles), config.batch_size):
                if self.job.stopping or self.spent() >= 1:
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
                    chosen = pseudo.candidate(p, config.num_thresholds)
                    chosen = pseudo.background_is_larger(chosen)
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

    def masks(self, probabilities):
        """The candidate of each plane, as in training."""
        thresholds = [pseudo.best_threshold(p, self.config.num_thresholds) for p in probabilities]
        self.model.threshold = float(np.median(thresholds))
        self.model.threshold_source = "median of the planes' thresholds of largest DMI"
        masks = [(p > t).astype(np.uint8) for p, t in zip(probabilities, thresholds)]
        return [pseudo.background_is_larger(mask) for mask in masks]

    def predict_mask(self, item, write):
        """Predict the mask of one plane, which has to be in memory to choose a threshold."""
        p = yield from self.model.predicting_plane(item.images[0])
        chosen = pseudo.candidate(p, self.config.num_thresholds)
        write(0, pseudo.background_is_larger(chosen))


def _published_sgd(parameters, learning_rate, steps, batches):
    """SGD as published: momentum 0.9, weight decay 1e-3, a tenth of the rate every 20 epochs."""
    optimizer = torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, weight_decay=1e-3)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 20 * batches, 0.1)


def _pad(array, shape, **how):
    missing = [(0, size - side) for side, size in zip(array.shape[-len(shape) :], shape)]
    return np.pad(array, [(0, 0)] * (array.ndim - len(shape)) + missing, **how)


def _fill_label(label, shape):
    return _pad(label.astype(np.int64), shape, constant_values=IGNORE)
