"""Train a segmentation network on images and labels, as an iterator of events."""

import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.jobs import parallel
from napari_metastructure.jobs.devices import pick_device, release_memory
from napari_metastructure.jobs.events import Done, Note, Progress, Result, Step
from napari_metastructure.jobs.generators import in_background
from napari_metastructure.jobs.job import Job
from napari_metastructure.jobs.versions import versions
from napari_metastructure.labels.noise import specs
from napari_metastructure.learning.augmentation import Augmentation, strength_for
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.learning.dataset import (
    classes_of,
    counting,
    hold_back,
    warn_of_numbers,
)
from napari_metastructure.learning.duration import (
    AutomaticDuration,
    FixedDuration,
    OpenEndedRate,
)
from napari_metastructure.learning.loading import load_model
from napari_metastructure.learning.losses import (
    LOSSES,
    class_weighted,
    forward_corrected,
    noise_floor,
    true_shares,
)
from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.learning.networks import initialise_bias, load_networks
from napari_metastructure.learning.patches import PatchSampler, Prefetched
from napari_metastructure.learning.previews import Previews
from napari_metastructure.learning.resume import Resume, digests, resuming
from napari_metastructure.learning.threshold import choose_threshold, known_matrix, uncorrected
from napari_metastructure.learning.trainer import Trainer, one_cycle, open_ended
from napari_metastructure.learning.validation import Validation
from napari_metastructure.parameters import with_fields_of

__all__ = ["TrainingConfig", "train"]

_LEAST_STEPS_BETWEEN_SCORES = 50
_EPOCHS_WITHOUT_SCORE, _STEPS_WITHOUT_SCORE = 12, 600  # where nothing is held back


@with_fields_of(TrainingConfig)
def train(
    images: Any,
    labels: Any,
    config: Any = None,
    *,
    validation_images: Any = None,
    validation_labels: Any = None,
    noise: Any = None,
    model: Any = None,
    checkpoint: Any = None,
    fresh: bool = False,
    **params: Any,
) -> Job:
    """Train a segmentation network.

    Parameters
    ----------
    images : array or sequence of arrays
        Planes (y, x) or stacks (..., y, x) of any real type; each plane (volume for
        ``spatial_dims=3``) is normalised to zero mean and unit standard deviation, in which
        outliers, such as hot pixels, and pixels that are NaN or infinite do not count.
        With ``channel_axis`` they have one axis more, for channels, each of which is normalised
        by itself.
    labels : array or sequence of arrays
        Integers of the same shapes, without channels; 0 is background, -1 and ``ignore_label``
        do not count. Planes in which no pixel counts are left out.
    config : TrainingConfig or dict, optional
    validation_images : array or sequence of arrays, optional
        Images to validate on. By default a block of `images` is held back.
    validation_labels : array or sequence of arrays, optional
        Clean labels: of `validation_images` or, without these, of `images`, of
        which only the held-back block is looked at. By default validation uses `labels`.
    noise : NoiseSpec, dict, list of these, or (classes, classes) array of float, optional
        How `labels` were corrupted, if that is known, or its transition matrix
        ``matrix[true, noisy]`` in the order of the label values. With ``loss="bce"`` the loss is
        then the cross entropy of the noisy labels under the matrix (forward correction, see
        `losses.forward_corrected`): probabilities are those of the true labels.
    model : SegmentationModel or path, optional
        Start from the weights of this model, with its network in place of the config's; the model
        itself is not changed. If the classes differ, the last layer starts anew.
    checkpoint : path, optional
        A ``.safetensors`` file in which the training is saved every 20 s and when it stops. The
        same call resumes it, on a CPU with the same result as without the interruption.
    fresh : bool
        Start anew whatever the checkpoint holds; it is replaced.
    **params
        Single parameters, such as ``epochs=20``, in place of the config's.

    Returns
    -------
    Job
        An iterator of `Progress`, `Step`, `Validated`, `Preview` and at last `Done` with the
        model. Its weights are averages over about the last tenth of the steps, and of these
        averages the one that best separates object from background on the held-back pixels: area
        under the ROC curve, whose order of classifiers random label noise does not change (Menon
        et al. 2015, section 4). Of several classes with known noise it is the one under which the
        held-back noisy labels are likeliest. Stopped while it reads the images, it ends with a
        `Result` of None.

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
    noise = _noise_specs(noise)
    if isinstance(model, (str, Path)):
        model = load_model(model, "cpu")
    if model is not None:
        config = _on_network_of(model, config)
    device = parallel.own_device(pick_device(config.device))
    validation = validation_images, validation_labels
    data = images, labels, validation, noise

    def work(job):
        try:
            with parallel.joined(job, device) as job:
                training = _Training(job, config, noise, device, model)
                resume = yield from resuming(
                    job, checkpoint, "train", config, partial(_digests, *data), fresh
                )
                if resume is not None:
                    training.keep_in(resume)
                if not (yield from training.prepare(images, labels, *validation)):
                    yield Note("Stopped while the images were read; nothing was computed.")
                    yield Result(None, stopped=True)
                    return
                yield from training.steps()
                yield from training.decide()
                yield training.done()
        finally:
            release_memory(device)

    return Job(work)


def _noise_specs(noise):
    """The noise as a list of `NoiseSpec`; an array is a transition matrix."""
    if noise is None:
        return []
    rows = noise if isinstance(noise, (list, tuple)) else []
    if hasattr(noise, "shape") or (rows and np.ndim(rows[0]) == 1):
        return specs("transition", matrix=noise)
    return specs(noise)


def _digests(images, labels, validation, noise):
    """What tells the data of one training from those of another."""
    names = ("images", "labels", "validation images", "validation labels")
    found = digests(dict(zip(names, (images, labels, *validation))))
    return found | {"noise": [spec.model_dump_json() for spec in noise]}


def _on_network_of(model, config):
    """The config with the network of a model."""
    if not isinstance(model, SegmentationModel):
        raise TypeError(
            f"A training can start from a SegmentationModel or its file, not from {model!r}."
        )
    if "network" not in model.architecture:
        raise ValueError(
            "Training can continue only from models trained with this plugin, not from packages."
        )
    names = ("network", "channels", "depth", "spatial_dims", "anisotropy")
    own = {name: model.architecture[name] for name in names if name in model.architecture}
    if "spatial_dims" in config.model_fields_set and config.spatial_dims != model.spatial_dims:
        raise ValueError(
            f"The model to start from is for {model.spatial_dims}-D images, not for "
            f"{config.spatial_dims}-D ones."
        )
    return TrainingConfig.of(config, **own)


class _Training:
    """One training: the data, the network that learns them, and what comes of it.

    Parameters
    ----------
    job : Job
    config : TrainingConfig
    noise : list of NoiseSpec
    device : torch.device
    start : SegmentationModel or None
        Where the weights come from, if not from the seed.
    """

    def __init__(self, job, config, noise, device, start=None):
        self.start = start
        self.job, self.config, self.noise, self.device = job, config, noise, device
        self.started, self.clock = datetime.now(), time.perf_counter()
        self.losses, self.stopped_early = [], False
        self.seed = parallel.same(np.random.SeedSequence(config.seed).entropy)
        self.resume: Resume | None = None
        self.prefetched: Any = None  # `Prefetched`
        self.validation_due = False  # a stop came in its way

    def keep_in(self, resume: Resume) -> None:
        """Keep the training in a checkpoint, and go on from what it holds."""
        if parallel.size() > 1:
            raise ValueError(
                "A checkpoint works with a single process; leave it out under torchrun."
            )
        self.resume, self.seed = resume, resume.seed_or(self.seed)

    @property
    def notes(self) -> list:
        """What went otherwise than asked for, for the record."""
        return self.trainer.notes

    def state(self) -> tuple[dict, dict]:
        """What a checkpoint keeps besides the trainer: tensors, and values that JSON holds."""
        weights, validation = self.validation.state()
        return weights, {
            "seconds": time.perf_counter() - self.clock,
            "sampler": self.prefetched.state,
            "losses": self.losses,
            "stopped_early": self.stopped_early,
            "validation_due": self.validation_due,
            "duration": self.duration.state(),
            "validation": validation,
        }

    def take_up(self, tensors: dict, values: dict) -> None:
        """Go on from a `state`."""
        self.clock -= values["seconds"]
        self.sampler.rng.bit_generator.state = values["sampler"]
        self.losses[:], self.stopped_early = values["losses"], values["stopped_early"]
        self.validation_due = values["validation_due"]
        self.duration.take_up(values["duration"])
        self.validation.take_up(tensors, values["validation"])

    def prepare(self, images, labels, validation_images, validation_labels):
        """Read the data and make the network, its sampler and its trainer.

        A generator of events; it returns whether it came to its end.
        """
        event = Progress("reading the images", 0, 1)
        data = images, labels, validation_images, validation_labels, self.config
        found = yield from in_background(self.job, event, hold_back, *data)
        yield from in_background(self.job, event, load_networks, optimisers=True)
        if parallel.stopping(self.job):
            return False
        self.items, self.held_back, clean = found
        counts = yield from counting(self.job, self.items, self.config)
        held_back_counts = yield from counting(self.job, self.held_back, self.config)
        if parallel.stopping(self.job):
            return False
        classes = classes_of(counts, held_back_counts, clean)
        warn_of_numbers(self.items.labels, classes)
        self.shares = [counts[value] / counts.total() for value in classes]
        self.augmentation = strength_for(counts.total(), self.config.augmentation)
        self.matrix = known_matrix(self.noise, classes)
        forward = self.matrix if self.config.loss == "bce" else None
        weights_seed, patches_seed = np.random.SeedSequence(self.seed).spawn(2)
        self.model = self._new_model(classes, weights_seed)
        self.sampler = self._new_sampler(classes, patches_seed)
        self.validation = Validation(
            self.job, self.model, self.held_back, clean, self.config.ignore_label, forward
        )
        optimise = self._plan()
        self.trainer = Trainer(
            self.model.network,
            self._loss(forward),
            steps=self.duration.total,
            learning_rate=self.config.learning_rate,
            device=self.device,
            optimise=optimise,
            compile=self.config.compile,
            averaging=True,
        )
        self.model.network = self.trainer.average.module
        reason = uncorrected(self.noise, classes, self.matrix, self.config.loss)
        if reason is not None:
            self.notes.append(reason)
            yield Note(reason)
        return True

    def _loss(self, forward):
        if forward is None:
            weighted = self.config.class_weights
            return class_weighted(self.shares) if weighted else LOSSES[self.config.loss]
        if self.config.class_weights:
            raise ValueError(
                "class_weights cannot be combined with known noise, whose correction they "
                "would bias; leave out one of them."
            )
        return forward_corrected(forward)

    def _plan(self):
        """Set the length of an epoch and of the training; returns the schedule that fits."""
        config, per_epoch = self.config, self.sampler.batches_per_epoch
        epochs = config.epochs or _EPOCHS_WITHOUT_SCORE
        min_steps = config.min_steps if config.epochs else _STEPS_WITHOUT_SCORE
        self.steps_per_epoch = max(per_epoch, -(-min_steps // epochs))
        if config.epochs:
            self.duration = FixedDuration(epochs * self.steps_per_epoch)
            return one_cycle
        enough = epochs * self.steps_per_epoch
        if len(self.held_back):
            self.steps_per_epoch, enough = max(per_epoch, _LEAST_STEPS_BETWEEN_SCORES), None
        rate = OpenEndedRate()
        self.duration = AutomaticDuration(
            rate,
            self.steps_per_epoch,
            config.time_limit,
            len(self.model.classes),
            self.job.clock,
            enough,
        )
        return lambda *arguments: open_ended(*arguments, rate)

    def _new_model(self, classes, seed):
        config = self.config
        model = SegmentationModel(
            config.architecture(self.items.images[0].shape, len(classes)),
            classes,
            channel_axis=config.channel_axis,
            seed=int(seed.generate_state(1)[0]),
            pretrained=config.pretrained and self.start is None,
        )
        corrected = config.loss == "bce" and self.matrix is not None
        if "bce" in config.loss:
            initialise_bias(
                model.network, true_shares(self.matrix, self.shares) if corrected else self.shares
            )
        if self.matrix is not None and not corrected and len(classes) == 2:
            model.inverted = bool(self.matrix[1, 1] < self.matrix[0, 1])
        if self.start is not None:
            model.take_weights(self.start)
        return model

    def _new_sampler(self, classes, seed):
        config = self.config
        sampler = PatchSampler(
            self.items,
            classes,
            patch_size=config.patch_shape,
            batch_size=config.batch_size * parallel.size(),
            multiple=config.multiple,
            ignore_label=config.ignore_label,
            augmentation=Augmentation.of(self.augmentation, config.spatial_dims),
            seed=seed,
        )
        sampler.slots = parallel.own_slots(config.batch_size)
        return sampler

    def steps(self):
        """All optimisation steps, a validation after each epoch; generator of events."""
        per_epoch, duration, step = self.steps_per_epoch, self.duration, 0
        previews = Previews(self.job, self.model)
        floor = -np.inf
        if self.config.early_stopping:
            floor = noise_floor(self.validation.forward_matrix, self.shares)
        resume = self.resume
        if resume is not None:
            step = yield from resume.restore(self)
            if self.validation_due:
                yield from self._score(step // per_epoch, step)
        with Prefetched(self.sampler) as self.prefetched:
            while step < duration.total and not self.stopped_early:
                if parallel.stopping(self.job):
                    break
                step += 1
                epoch = (step - 1) // per_epoch + 1
                try:
                    self.losses.append(self.trainer.step(*self.prefetched.batch()))
                except FloatingPointError as error:
                    if not self.validation.weights:
                        raise
                    self.trainer.notes.append(f"{error} The best weights so far are kept.")
                    yield Note(self.trainer.notes[-1])
                    return
                duration.update(step)
                yield Step(step, duration.total, epoch, self.losses[-1])
                yield from self.trainer.pending_events()
                yield from previews.if_due(epoch)
                if step % per_epoch == 0:
                    yield from self._score(epoch, step)
                    self.stopped_early = bool(np.mean(self.losses[-per_epoch:]) < floor)
                if resume is not None and resume.is_due():
                    yield from resume.keep(self, step, duration.total)
        if resume is not None:
            yield from resume.keep(self, step, duration.total)

    def _score(self, epoch, step):
        """Validate, if anything is held back; generator of events."""
        done = len(self.validation.history)
        if len(self.held_back):
            yield from self.validation.run(epoch, step)
            self.validation_due = len(self.validation.history) == done
            if not self.validation_due:
                self.duration.update(step, self.validation.merit)

    def decide(self):
        """The best weights and the decision rule; generator of events."""
        model = self.model
        self.trainer.optimizer.zero_grad()
        if self.validation.weights:
            model.network.load_state_dict(self.validation.weights)
        model.network.eval()
        model.flips = self.config.mirror_averaging
        self.decision = yield from choose_threshold(
            model, self.noise, self.validation, self.items, self.matrix, self.config.ignore_label
        )
        for text in self.decision["notes"]:
            self.trainer.notes.append(text)
            yield Note(text)

    def done(self):
        """The end: the model and the record."""
        model = self.model
        model.record = self._record()
        history = {"loss": self.losses, "validation": self.validation.history}
        return Done(model, history, model.record, stopped=self.job.stopping)

    def _record(self):
        return {
            "operation": "train",
            "config": {**self.config.model_dump(mode="json"), "seed": self.seed},
            "noise": [spec.model_dump(mode="json") for spec in self.noise],
            "noise_matrix": None if self.matrix is None else self.matrix.tolist(),
            "started_from": None if self.start is None else self.start.record,
            "images": len(self.items),
            "held_back": len(self.held_back),
            "augmentation": self.augmentation,
            "image_shape": list(self.items.images[0].shape),
            "validated_on": self.validation.labels,
            "validation": self.validation.scores,
            "steps": len(self.losses),
            "stopped_early": self.stopped_early,
            "ended": self.duration.reason,
            "threshold": self.model.threshold,
            "threshold_source": self.model.threshold_source,
            "outline_displacement": self.decision.get("displacement"),
            "noise_estimate": self.decision["noise_estimate"].record(),
            "device": str(self.device),
            "processes": parallel.size(),
            "peak_memory": self.trainer.memory.look(),
            "notes": self.trainer.notes,
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - self.clock, 1),
            "versions": versions(),
        }
