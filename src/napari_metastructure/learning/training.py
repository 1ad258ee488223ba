"""Train a segmentation network on images and labels, as an iterator of events."""

import copy
import time
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
import torch
from scipy.stats import entropy

from napari_metastructure.arrays.blocks import count_classes
from napari_metastructure.arrays.chunks import ChunkedArray
from napari_metastructure.jobs import parallel
from napari_metastructure.jobs.devices import (
    PeakMemory,
    autocast,
    is_out_of_memory,
    pick_device,
    release_memory,
)
from napari_metastructure.jobs.events import Done, Memory, Note, Preview, Progress, Step, Validated
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels import transition
from napari_metastructure.labels.metrics import Tally
from napari_metastructure.labels.noise import specs
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.learning.losses import IGNORE, LOSSES
from napari_metastructure.learning.model import SegmentationModel, versions
from napari_metastructure.learning.networks import expect
from napari_metastructure.learning.patches import Items, PatchSampler, class_indices

__all__ = ["Trainer", "TrainingConfig", "train"]

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
    device = parallel.own_device(pick_device(config.device))
    validation = validation_images, validation_labels

    def work(job):
        try:
            with parallel.joined(job, device) as job:
                yield from _training(job, images, labels, validation, config, noise, device)
        finally:
            release_memory(device)

    return Job(work)


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
    compile : bool
        Translate the network with `torch.compile`; where that fails, a note says so.

    Attributes
    ----------
    logits : torch.Tensor
        Output of the last step, before the weights moved.
    parts : int
        In how many parts a batch is done, one after the other, its gradients being summed: 1 as
        long as memory suffices.
    memory : PeakMemory
    notes : list of str
        What went otherwise than asked for.
    """

    def __init__(
        self, network, loss, *, steps, learning_rate, device, optimise=None, compile=False
    ):
        self.device = device
        self.memory_format = torch.channels_last
        if next(p for p in network.parameters() if p.ndim > 3).ndim == 5:
            self.memory_format = torch.channels_last_3d
        network = parallel.synchronise(network, device)
        self.network = network.to(device, memory_format=self.memory_format)
        self._shared = parallel.shared_network(self.network, device)
        self.loss = loss
        self.logits = None
        self.parts = 1
        self.memory, self.notes = PeakMemory(device), []
        self._unsaid, self._next_look = [], 0.0
        self._compiled = self._compile() if compile and parallel.size() == 1 else None
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
        RuntimeError
            If not even one patch fits in memory.
        """
        self.network.train()
        images = torch.from_numpy(images).to(self.device, memory_format=self.memory_format)
        targets = torch.from_numpy(targets).to(self.device)
        value = None
        while value is None:
            try:
                value = self._gradients(images, targets)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            if value is None:  # out of the except clause, so that the failed tensors are gone
                self._halve(len(images))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.memory.look()
        return value

    def news(self):
        """What there is to say since the last step: generator of `Note` and, at times, `Memory`."""
        while self._unsaid:
            self.notes.append(self._unsaid.pop(0))
            yield Note(self.notes[-1])
        if time.perf_counter() >= self._next_look:
            self._next_look = time.perf_counter() + _SECONDS_BETWEEN_PREVIEWS
            yield Memory(self.memory.peak, str(self.device))

    def _gradients(self, images, targets):
        """Loss and gradients of a batch, in as many parts as memory asks for."""
        self.optimizer.zero_grad(set_to_none=True)
        logits, total = [], 0.0
        for part, target in zip(images.chunk(self.parts), targets.chunk(self.parts)):
            share = len(part) / len(images)
            with autocast(self.device):
                logits.append(self._forward(part))
                loss, scaled = parallel.global_loss(self.loss, logits[-1], target)
            value = loss.item()
            if not np.isfinite(value):
                raise FloatingPointError("The loss is no longer finite; lower the learning rate.")
            total += share * value
            self.scaler.scale(scaled * share if share < 1 else scaled).backward()
            logits[-1] = logits[-1].detach()
        self.logits = torch.cat(logits) if len(logits) > 1 else logits[0]
        return total

    def _halve(self, batch_size):
        """Do the batches in twice as many parts from now on."""
        self.optimizer.zero_grad(set_to_none=True)
        self.logits = None
        release_memory(self.device)
        if parallel.size() > 1 or self.parts >= batch_size:
            what = "Even one patch" if parallel.size() == 1 else "The batch"
            raise RuntimeError(
                f"{what} does not fit in the memory of {self.device}: take a smaller patch_size, "
                "batch_size or fewer channels."
            )
        self.parts = min(2 * self.parts, batch_size)
        self._unsaid.append(
            f"{self.device} ran out of memory: each batch of {batch_size} patches is now done in "
            f"{self.parts} parts."
        )

    def _forward(self, images):
        if self._compiled is None:
            return self._shared(images)
        try:
            return self._compiled(images)
        except Exception as error:  # whatever a compiler may fail with
            if is_out_of_memory(error):
                raise
            self._without_compiler(error)
            return self._shared(images)

    def _compile(self):
        try:
            return torch.compile(self.network)
        except Exception as error:
            self._without_compiler(error)
        return None

    def _without_compiler(self, error):
        self._compiled = None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        self._unsaid.append(f"The network could not be compiled ({reason}); going on without.")


def _training(job, images, labels, validation, config, noise, device):
    started, clock = datetime.now(), time.perf_counter()
    yield Progress("reading the images", 0, 1)
    training, held_back, clean = _hold_back(images, labels, *validation, config)
    counts = yield from counting(job, training, config)
    judged = yield from counting(job, held_back, config)
    classes = classes_of(counts, judged, clean)
    seed = parallel.same(np.random.SeedSequence(config.seed).entropy)
    weights_seed, patches_seed = np.random.SeedSequence(seed).spawn(2)
    model = SegmentationModel(
        config.architecture(training.images[0].shape, len(classes)),
        classes,
        channel_axis=config.channel_axis,
        seed=int(weights_seed.generate_state(1)[0]),
    )
    shares = [counts[value] / counts.total() for value in classes]
    if "bce" in config.loss:
        expect(model.network, shares)
    _foresee(model, noise, config.loss)
    sampler = PatchSampler(
        training,
        classes,
        patch_size=config.patch_shape,
        batch_size=config.batch_size * parallel.size(),
        multiple=config.multiple,
        ignore_label=config.ignore_label,
        seed=patches_seed,
    )
    sampler.slots = parallel.own_slots(config.batch_size)
    per_epoch = max(sampler.batches_per_epoch, -(-config.min_steps // config.epochs))
    steps = config.epochs * per_epoch
    trainer = Trainer(
        model.network,
        LOSSES[config.loss],
        steps=steps,
        learning_rate=config.learning_rate,
        device=device,
        compile=config.compile,
    )
    losses, previews = [], Previews(job, model)
    floor = noise_floor(model.transition, shares) if config.early_stopping else -np.inf
    memorising = False
    validation = _Validation(job, model, held_back, clean, config.ignore_label)
    with ThreadPoolExecutor(1) as pool:
        batch = sampler.batch()
        for step in range(1, steps + 1):
            if parallel.stopping(job):
                break
            epoch = (step - 1) // per_epoch + 1
            following = pool.submit(sampler.batch)  # read and cut while the network works
            losses.append(trainer.step(*batch))
            batch = following.result()
            yield Step(step, steps, epoch, losses[-1])
            yield from trainer.news()
            yield from previews.if_due(epoch)
            if step % per_epoch:
                continue
            if len(held_back):
                yield from validation.run(epoch, step)
            memorising = np.mean(losses[-per_epoch:]) < floor
            if memorising:
                break
    trainer.optimizer.zero_grad()
    if validation.weights:
        model.network.load_state_dict(validation.weights)
    model.network.eval()
    sampler.slots = slice(None)
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
        "stopped_early": bool(memorising),
        "threshold": model.threshold,
        "threshold_source": model.threshold_source,
        "device": str(device),
        "processes": parallel.size(),
        "peak_memory": trainer.memory.peak,
        "notes": trainer.notes,
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


def counting(job, items, config):
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


def classes_of(counts, judged, clean):
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


def noise_floor(matrix, shares):
    """Cross entropy of the noisy labels for a network that knows the true ones.

    A loss below it, over a whole epoch, says more of the noisy labels than the true ones do.

    Parameters
    ----------
    matrix : list of list of float or None
        Noise transition matrix; None if it is not known.
    shares : list of float
        Share of each class in the noisy labels.

    Returns
    -------
    float
        The entropy H(noisy | true) in nats; minus infinity where the noise is not known.
    """
    if matrix is None:
        return -np.inf
    true = np.clip(np.linalg.solve(np.transpose(matrix), shares), 0, None)
    return float(true / true.sum() @ entropy(matrix, axis=1))


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
        for number in range(parallel.rank(), len(self.items), parallel.size()):
            label = self.items.labels[number]
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
        parallel.sum_tallies(tallies)
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
