"""Train a segmentation network on images and labels, as an iterator of events."""

import copy
import signal
import threading
import time
import warnings
from collections import Counter
from contextlib import closing, contextmanager
from datetime import datetime

import numpy as np
import torch

from napari_metastructure import transition
from napari_metastructure.chunks import ChunkedArray
from napari_metastructure.configs import TrainingConfig
from napari_metastructure.devices import autocast, pick_device, release_memory
from napari_metastructure.events import Done, Job, Preview, Progress, Step, Validated
from napari_metastructure.losses import IGNORE, LOSSES
from napari_metastructure.metrics import Tally
from napari_metastructure.model import SegmentationModel, versions
from napari_metastructure.networks import expect
from napari_metastructure.noise import specs
from napari_metastructure.patches import Items, PatchSampler, class_indices
from napari_metastructure.volumes import count_classes

__all__ = ["Trainer", "TrainingConfig", "fit", "train"]

_MAX_CLASSES = 256
_MANY_CLASSES = 20
_MOST_COUNTED = 2**32  # pixels
_MOST_VALIDATED = 2**26  # of images that are not in memory
_SECONDS_BETWEEN_PREVIEWS = 2.0


def train(
    images,
    labels,
    config=None,
    *,
    validation_images=None,
    validation_labels=None,
    noise=None,
    **params,
):
    """Train a segmentation network.

    Parameters
    ----------
    images : array or sequence of arrays
        Planes (y, x) or stacks (..., y, x) of any real type; each plane (volume for
        ``spatial_dims=3``) is brought to zero mean and unit deviation. With ``channel_axis`` they
        have one axis more, for channels, each of which is normalised by itself.
    labels : array or sequence of arrays
        Integers of the same shapes, without channels; 0 is background, -1 and ``ignore_label``
        do not count. Where no pixel of a plane counts, it is left out.
    config : TrainingConfig or dict, optional
    validation_images : array or sequence of arrays, optional
        Images to validate on. By default a block of `images` is held back.
    validation_labels : array or sequence of arrays, optional
        Clean labels: of `validation_images` or, without these, of `images`, of
        which only the held-back block is looked at. By default validation uses `labels`.
    noise : NoiseSpec, dict or list of these, optional
        How `labels` were corrupted, if that is known; it sets the threshold.
    **params
        Single parameters, such as ``epochs=20``, in place of the config's.

    Returns
    -------
    Job
        An iterator of `Progress`, `Step`, `Validated`, `Preview` and at last `Done` with the
        model. The weights kept are those that best separate object from
        background on the held-back pixels: area under the ROC curve, whose order of
        classifiers random label noise does not change (Menon et al. 2015, section 4).

    Raises
    ------
    ValueError, TypeError
        If a parameter or the data do not fit, with one sentence that says why.

    Examples
    --------
    >>> for event in train(images, labels, epochs=5):  # doctest: +SKIP
    ...     print(event)
    """
    config = TrainingConfig.of(config, **params)
    noise = [] if noise is None else specs(noise)
    device = pick_device(config.device)
    validation = validation_images, validation_labels

    def work(job):
        try:
            yield from _training(job, images, labels, validation, config, noise, device)
        finally:
            release_memory(device)

    return Job(work)


def fit(images, labels, config=None, **params):
    """`train`, run to its end with a progress bar; Ctrl-C ends it early with the best weights.

    Returns
    -------
    Done
        With ``model``, ``history`` and ``record``.
    """
    return run_to_end(train(images, labels, config, **params))


def run_to_end(job):
    """Run a job with a progress bar in the terminal; returns its last event."""
    from tqdm.auto import tqdm

    with closing(job), _ctrl_c_stops(job), tqdm(unit="step") as bar:
        for event in job:
            if isinstance(event, Step):
                bar.total = event.total
                bar.update(event.step - bar.n)
                bar.set_postfix(loss=f"{event.loss:.3f}", refresh=False)
    return event


@contextmanager
def _ctrl_c_stops(job):
    """Let the first Ctrl-C stop the job; a second one interrupts as usual.

    An interrupt raised inside the generator would end it without its last events.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        job.stop()
        signal.signal(signal.SIGINT, usual)

    usual = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def one_cycle(parameters, learning_rate, steps):
    """AdamW, its rate rising to `learning_rate` and falling to nothing over the steps."""
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps
    )
    return optimizer, schedule


class Trainer:
    """A network, its optimiser and its schedule; steps over batches of patches.

    Parameters
    ----------
    network : torch.nn.Module
    loss : callable
        ``loss(logits, target)`` of `losses`.
    steps : int
        Length of the schedule.
    learning_rate : float
        Highest rate.
    device : torch.device
    optimise : callable, optional
        ``optimise(parameters, learning_rate, steps)`` returns the optimiser and its schedule; by
        default AdamW and one cycle.

    Attributes
    ----------
    logits : torch.Tensor
        Output of the last step, before the weights moved.
    """

    def __init__(self, network, loss, *, steps, learning_rate, device, optimise=None):
        self.device = device
        self.memory_format = torch.channels_last
        if next(p for p in network.parameters() if p.ndim > 3).ndim == 5:
            self.memory_format = torch.channels_last_3d
        self.network = network.to(device, memory_format=self.memory_format)
        self.loss = loss
        self.logits = None
        optimise = optimise or one_cycle
        self.optimizer, self.schedule = optimise(network.parameters(), learning_rate, steps)
        self.scaler = torch.amp.GradScaler(
            enabled=device.type == "cuda" and not torch.cuda.is_bf16_supported()
        )

    def step(self, images, targets):
        """One optimisation step on numpy arrays; returns the loss.

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        """
        self.network.train()
        images = torch.from_numpy(images).to(self.device, memory_format=self.memory_format)
        targets = torch.from_numpy(targets).to(self.device)
        with autocast(self.device):
            logits = self.network(images)
            loss = self.loss(logits, targets)
        self.logits = logits.detach()
        value = loss.item()
        if not np.isfinite(value):
            raise FloatingPointError("The loss is no longer finite; lower the learning rate.")
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return value


def _training(job, images, labels, validation, config, noise, device):
    started, clock = datetime.now(), time.perf_counter()
    yield Progress("reading the images", 0, 1)
    training, held_back, clean = _hold_back(images, labels, *validation, config)
    counts = yield from _counts(job, training, config)
    judged = yield from _counts(job, held_back, config)
    classes = _classes(counts, judged, clean)
    seed = np.random.SeedSequence(config.seed).entropy
    weights_seed, patches_seed = np.random.SeedSequence(seed).spawn(2)
    model = SegmentationModel(
        config.architecture(training.images[0].shape, len(classes)),
        classes,
        channel_axis=config.channel_axis,
        seed=int(weights_seed.generate_state(1)[0]),
    )
    if "bce" in config.loss:
        expect(model.network, [counts[value] / counts.total() for value in classes])
    _foresee(model, noise, config.loss)
    sampler = PatchSampler(
        training,
        classes,
        patch_size=config.patch_shape,
        batch_size=config.batch_size,
        multiple=config.multiple,
        ignore_label=config.ignore_label,
        seed=patches_seed,
    )
    per_epoch = max(sampler.batches_per_epoch, -(-config.min_steps // config.epochs))
    steps = config.epochs * per_epoch
    trainer = Trainer(
        model.network,
        LOSSES[config.loss],
        steps=steps,
        learning_rate=config.learning_rate,
        device=device,
    )
    losses, previews = [], Previews(job, model)
    validation = _Validation(job, model, held_back, clean, config.ignore_label)
    for step in range(1, steps + 1):
        if job.stopping:
            break
        epoch = (step - 1) // per_epoch + 1
        losses.append(trainer.step(*sampler.batch()))
        yield Step(step, steps, epoch, losses[-1])
        yield from previews.if_due(epoch)
        if step % per_epoch == 0 and len(held_back):
            yield from validation.run(epoch, step)
    trainer.optimizer.zero_grad()
    if validation.weights:
        model.network.load_state_dict(validation.weights)
    model.network.eval()
    _choose_threshold(model, noise, validation, sampler)
    model.record = {
        "operation": "train",
        "config": {**config.model_dump(mode="json"), "seed": seed},
        "noise": [spec.model_dump(mode="json") for spec in noise],
        "images": len(training),
        "held_back": len(held_back),
        "image_shape": list(training.images[0].shape),
        "validated_on": validation.labels,
        "validation": validation.scores,
        "steps": len(losses),
        "threshold": model.threshold,
        "threshold_source": model.threshold_source,
        "device": str(device),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 1),
        "versions": versions(),
    }
    history = {"loss": losses, "validation": validation.history}
    yield Done(model, history, model.record, stopped=job.stopping)


def _hold_back(images, labels, validation_images, validation_labels, config):
    """Items to train on, items to validate on, and whether the labels of these are clean."""
    dims, fraction = config.spatial_dims, config.validation_fraction
    axis = config.channel_axis
    items = Items.of(images, labels, dims, channel_axis=axis)
    every_moments, boxes = items.moments, items.boxes_that_count(config.ignore_label)
    items = items.within(boxes)
    if validation_images is not None:
        if validation_labels is None:
            raise ValueError("The validation images need labels; give validation_labels too.")
        held_back = Items.of(validation_images, validation_labels, dims, channel_axis=axis)
        return items, held_back.thinned(_MOST_VALIDATED), True
    training, held_back = items.split(fraction)
    if validation_labels is None:
        return training, held_back.thinned(_MOST_VALIDATED), False
    clean = Items.of(images, validation_labels, dims, every_moments, axis).within(boxes)
    return training, clean.split(fraction)[1].thinned(_MOST_VALIDATED), True


def _counts(job, items, config):
    """Number of pixels per label value, of those that count; generator of `Progress`.

    Labels that do not fit in memory are read chunk by chunk; of more than 2**32 pixels, evenly
    spread planes stand for all.
    """
    labels, counts = items.labels, Counter()
    pixels = sum(label.size for label in labels if isinstance(label, ChunkedArray))
    step = -(-pixels // _MOST_COUNTED) or 1
    if step > 1:
        warnings.warn(
            f"The labels are so large that only 1 in {step} planes is searched for classes; "
            "other values are left out.",
            stacklevel=2,
        )
    for number, label in enumerate(labels[::step]):
        if isinstance(label, ChunkedArray):
            yield Progress("looking for classes", number * step, len(labels))
            if job.stopping and len(counts) > 1:
                break
        found = count_classes(label, config.ignore_label)
        counts.update(dict(zip(*(part.tolist() for part in found))))
    if config.as_mask:
        counts = Counter({0: counts[0], 1: counts.total() - counts[0]})
    return counts


def _classes(counts, judged, clean):
    """Sorted label values, background first, of the pixels to train on and to validate on."""
    present, judged = {0, *(+counts)}, {0, *(+judged)}
    if present == {0}:
        raise ValueError(
            "The labels to train on hold no object, only background; paint some first."
        )
    if not clean:
        present |= judged
    if len(present) > _MAX_CLASSES:
        raise ValueError(
            f"The labels hold {len(present)} different values; these look like instances: "
            "give one value per kind of structure, or train on the mask (as_mask)."
        )
    if len(present) > _MANY_CLASSES:
        warnings.warn(
            f"The labels hold {len(present)} different values, and each is trained as a class of "
            "its own; if they are instances, train on the mask (as_mask).",
            stacklevel=2,
        )
    if len(present) > 2 and judged - present:
        raise ValueError(
            f"The validation labels hold {min(judged - present)}, which the labels to train on "
            "do not; use the same values in both."
        )
    return sorted(present)


def _foresee(model, noise, loss):
    """What the known noise says of the network before it is trained."""
    chain = [_with_indices(spec, model.classes) for spec in noise]
    try:
        matrix = transition.of(chain, len(model.classes))
    except ValueError:  # a perturbation has no closed form
        return
    if not chain or transition.rank(matrix) < len(matrix):
        return
    if len(matrix) == 2:
        model.inverted = bool(matrix[1, 1] < matrix[0, 1])
    if loss == "bce":  # the other losses do not yield the probabilities of the labels
        model.transition = matrix.tolist()


def _with_indices(spec, classes):
    """The spec with its classes, label values, as rows of the matrix."""
    if spec.classes is None:
        return spec
    return type(spec).of(spec, classes=[classes.index(c) for c in spec.classes if c in classes])


def _choose_threshold(model, noise, validation, sampler):
    """Decision rule: of the known noise, else of the clean labels, else Otsu's threshold."""
    kinds = ", ".join(spec.summary() for spec in noise)
    if len(model.classes) > 2:
        undone = f", the noise undone ({kinds})" if model.transition else ""
        model.threshold_source = f"none: the most probable class{undone}"
    elif model.transition:
        middle = (model.transition[0][1] + model.transition[1][1]) / 2
        model.threshold = 1 - middle if model.inverted else middle
        model.threshold_source = f"transition matrix ({kinds})"
    elif validation.clean and validation.scores:
        scores = validation.tally.scores()
        if scores["auc"] < 0.5:
            model.inverted = not model.inverted
            scores = validation.tally.turned().scores()
        model.threshold = scores["threshold"]
        model.threshold_source = "best on the clean validation labels"
    else:
        tally = validation.tally if validation.scores else _tally_of_patches(model, sampler)
        if np.count_nonzero(tally.histogram) > 1:
            from skimage.filters import threshold_otsu

            model.threshold = float(threshold_otsu(hist=(tally.histogram, tally.values)))
            model.threshold_source = "Otsu's threshold of the probabilities"


def _tally_of_patches(model, sampler):
    """Probabilities of one training batch, where nothing was held back or validated yet."""
    tally = Tally()
    images, targets = sampler.batch()
    with torch.inference_mode():
        logits = model.network(torch.from_numpy(images).to(model.device)).float()
    probability = logits[:, 0].sigmoid().cpu().numpy()
    counted = targets != IGNORE
    tally.add(targets[counted] == 1, probability[counted])
    return tally.turned() if model.inverted else tally


class _Validation:
    """Scores on the held-back pixels, and the best weights so far.

    Clean labels judge what the model says; others, as noisy as those trained on, what
    the network says of them, before the noise is undone.
    """

    def __init__(self, job, model, items, clean, ignore_label):
        self.job, self.model, self.items = job, model, items
        self.clean, self.ignore_label = clean, ignore_label
        self.history = []
        self.merit, self.weights, self.tally, self.scores = -np.inf, None, None, None

    @property
    def labels(self):
        """What the scores were taken on."""
        if self.scores is None:
            return None
        return "clean labels" if self.clean else "held-back labels"

    def run(self, epoch, step):
        """Score the network as it is; generator of events."""
        tallies = yield from self._tallies()
        if tallies is None:
            return
        turned = self.model.inverted and not self.clean
        scores = _mean_scores([tally.turned() if turned else tally for tally in tallies])
        merit = self._merit(scores["auc"])
        is_best = np.isnan(merit) or merit > self.merit
        if is_best:
            self.merit, self.tally = merit, tallies[0]
            self.scores = None if np.isnan(merit) else scores
            self.weights = copy.deepcopy(self.model.network.state_dict())
        validated = {"epoch": epoch, "step": step, **scores}
        self.history.append(validated)
        yield Validated(**validated, best=bool(is_best))

    def _merit(self, auc):
        """The area under the curve; that of the inverse too where only clean labels know."""
        unknown = self.model.transition is None and not self.model.inverted
        return max(auc, 1 - auc) if self.clean and unknown else auc

    def _tallies(self):
        """One tally per foreground class; None if stopped."""
        model = self.model
        tallies = [Tally() for _ in model.classes[1:]]
        for number, label in enumerate(self.items.labels):
            truth = class_indices(np.asarray(label), model.classes, self.ignore_label)
            counted = truth != IGNORE
            if not counted.any():
                continue
            prediction = model.predicting_one(self.items.image(number))
            probability = yield from _finish(
                self.job, prediction, Progress("validating", number, len(self.items))
            )
            if probability is None:
                return None
            if len(tallies) == 1:
                probability = np.stack([1 - probability, probability])
            elif self.clean:
                probability = np.clip(model.undo_noise(probability), 0, 1)
            for index, tally in enumerate(tallies, 1):
                tally.add(truth[counted] == index, probability[index][counted])
        return tallies


def _mean_scores(tallies):
    """Means over the classes that occur; nan if none does."""
    scores = [score for score in (tally.scores() for tally in tallies) if score["auc"] >= 0]
    return {
        name: float(np.mean([score[name] for score in scores])) if scores else float("nan")
        for name in ("dice", "auc", "threshold")
    }


def _finish(job, prediction, progress):
    """Run a prediction to its end and return it; None if the job is stopped before."""
    while not job.stopping:
        try:
            next(prediction)
        except StopIteration as end:
            return end.value
        yield progress
    prediction.close()
    return None


class Previews:
    """Predictions of the job's preview image, not more often than is worth its time."""

    def __init__(self, job, model):
        self.job, self.model = job, model
        self._next = time.perf_counter()

    def if_due(self, epoch):
        started, image = time.perf_counter(), self.job.preview
        if image is None or started < self._next:
            return
        prediction = self.model.predicting_plane(image)
        probability = yield from _finish(self.job, prediction, Progress("preview", 0, 1))
        now = time.perf_counter()
        self._next = now + max(_SECONDS_BETWEEN_PREVIEWS, 10 * (now - started))
        if probability is not None:
            yield Preview(epoch, probability, image)
