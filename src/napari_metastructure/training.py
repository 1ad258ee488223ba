"""Train a segmentation network on images and labels, as an iterator of events."""

import copy
import time
from datetime import datetime

import numpy as np
import torch

from napari_metastructure import transition
from napari_metastructure.configs import TrainingConfig
from napari_metastructure.devices import autocast, pick_device, release_memory
from napari_metastructure.events import Done, Job, Preview, Progress, Step, Validated
from napari_metastructure.losses import IGNORE, LOSSES
from napari_metastructure.metrics import Tally
from napari_metastructure.model import SegmentationModel, versions
from napari_metastructure.noise import specs
from napari_metastructure.patches import Items, PatchSampler

__all__ = ["Trainer", "TrainingConfig", "fit", "train"]

_MAX_CLASSES = 256
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
        ``spatial_dims=3``) is brought to zero mean and unit deviation.
    labels : array or sequence of arrays
        Integers of the same shapes; 0 is background, -1 and ``ignore_label`` do not count.
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

    def work(job):
        return _training(job, images, labels, config, validation_images, validation_labels, noise)

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

    event = None
    with tqdm(unit="step") as bar:
        while not isinstance(event, Done):
            try:
                event = next(job)
            except KeyboardInterrupt:
                job.stop()
            if isinstance(event, Step):
                bar.total = event.total
                bar.update(event.step - bar.n)
                bar.set_postfix(loss=f"{event.loss:.3f}", refresh=False)
    return event


class Trainer:
    """A network, its optimiser and its one-cycle schedule; steps over batches of patches.

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
    """

    def __init__(self, network, loss, *, steps, learning_rate, device):
        self.device = device
        self.memory_format = torch.channels_last
        if next(p for p in network.parameters() if p.ndim > 3).ndim == 5:
            self.memory_format = torch.channels_last_3d
        self.network = network.to(device, memory_format=self.memory_format)
        self.loss = loss
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=learning_rate, total_steps=steps
        )
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
            loss = self.loss(self.network(images), targets)
        value = loss.item()
        if not np.isfinite(value):
            raise FloatingPointError("The loss is no longer finite; lower the learning rate.")
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return value


def _training(job, images, labels, config, validation_images, validation_labels, noise):
    started, clock = datetime.now(), time.perf_counter()
    yield Progress("reading the images", 0, 1)
    device = pick_device(config.device)
    seed = np.random.SeedSequence(config.seed).entropy if config.seed is None else config.seed
    weights_seed, patches_seed = np.random.SeedSequence(seed).spawn(2)
    items = Items.of(images, labels, config.spatial_dims)
    classes = _classes(items, config.ignore_label)
    training, held_back = _hold_back(items, config, validation_images, validation_labels)
    clean = validation_labels is not None

    model = SegmentationModel(
        {
            "network": config.network,
            "spatial_dims": config.spatial_dims,
            "in_channels": 1,
            "out_channels": 1 if len(classes) == 2 else len(classes),
            "channels": config.channels,
            "depth": config.depth,
        },
        classes,
        seed=int(weights_seed.generate_state(1)[0]),
    )
    _foresee(model, noise)
    sampler = PatchSampler(
        training,
        classes,
        patch_size=config.patch_size,
        batch_size=config.batch_size,
        multiple=config.multiple,
        ignore_label=config.ignore_label,
        seed=patches_seed,
    )
    steps = config.epochs * sampler.batches_per_epoch
    trainer = Trainer(
        model.network,
        LOSSES[config.loss],
        steps=steps,
        learning_rate=config.learning_rate,
        device=device,
    )
    history = {"loss": [], "validation": []}
    best, best_tally = None, None
    previews = _Previews(job, model)
    try:
        for step in range(1, steps + 1):
            if job.stopping:
                break
            epoch = (step - 1) // sampler.batches_per_epoch + 1
            loss = trainer.step(*sampler.batch())
            history["loss"].append(loss)
            yield Step(step, steps, epoch, loss)
            yield from previews.if_due(epoch)
            if step % sampler.batches_per_epoch or not len(held_back):
                continue
            tallies = yield from _validate(job, model, held_back, config.ignore_label)
            if tallies is None:  # stopped
                break
            scores = _mean_scores(tallies)
            merit = abs(scores["auc"] - 0.5)
            is_best = best is None or merit > best[0]
            if is_best:
                best = merit, copy.deepcopy(model.network.state_dict()), scores
                best_tally = tallies[0]
            validated = {"epoch": epoch, "step": step, **scores}
            history["validation"].append(validated)
            yield Validated(**validated, best=is_best)
        if best:
            model.network.load_state_dict(best[1])
        if len(classes) == 2:
            tally = best_tally or _tally_of_patches(model, sampler)
            _choose_threshold(model, noise, config.loss, tally, clean and best)
        model.network.eval()
        model.record = {
            "operation": "train",
            "config": {**config.model_dump(mode="json"), "seed": seed},
            "noise": [spec.model_dump(mode="json") for spec in noise],
            "images": [list(image.shape) for image in items.images[:1]] + [len(items)],
            "validated_on": "clean labels" if clean else "held-back labels",
            "steps": len(history["loss"]),
            "validation": best[2] if best else None,
            "threshold": model.threshold,
            "threshold_source": model.threshold_source,
            "device": str(device),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 1),
            "versions": versions(),
        }
        yield Done(model, history, model.record, stopped=job.stopping)
    finally:
        del trainer, best
        release_memory(device)


def _classes(items, ignore_label):
    """Sorted label values, background first; what does not count is left out."""
    present = set().union(*(np.unique(np.asarray(label)).tolist() for label in items.labels))
    present -= {-1, ignore_label}
    if not present - {0}:
        raise ValueError("The labels hold no object, only background; paint some first.")
    negative = [label for label in present if label < 0]
    if negative:
        raise ValueError(f"The labels hold {negative[0]}; labels should be -1 (ignore), 0 or more.")
    if len(present | {0}) > _MAX_CLASSES:
        raise ValueError(
            f"The labels hold {len(present)} different values; these look like instances: "
            "give one value per kind of structure."
        )
    return sorted(int(label) for label in present | {0})


def _hold_back(items, config, validation_images, validation_labels):
    """Items to train on, and items to validate on (with clean labels if there are any)."""
    if validation_images is not None:
        if validation_labels is None:
            raise ValueError("The validation images need labels; give validation_labels too.")
        return items, Items.of(validation_images, validation_labels, config.spatial_dims)
    training, held_back = items.split(config.validation_fraction)
    if validation_labels is not None:
        clean = Items.of(items.images, _planes_of(validation_labels, config), config.spatial_dims)
        clean.moments = items.moments
        held_back = clean.split(config.validation_fraction)[1]
    return training, held_back


def _planes_of(labels, config):
    from napari_metastructure.volumes import as_list, planes

    return [part for label in as_list(labels) for part in planes(label, config.spatial_dims)]


def _foresee(model, noise):
    """What the known noise says of the network before it is trained."""
    try:
        matrix = transition.of(noise, len(model.classes)) if noise else None
    except ValueError:  # a perturbation has no closed form
        return
    if matrix is None:
        return
    model.transition = np.asarray(matrix).tolist()
    if len(model.classes) == 2:
        model.inverted = bool(matrix[1][1] < matrix[0][1])


def _choose_threshold(model, noise, loss, tally, clean):
    """Decision rule of a two-class model: METHOD of the noise, clean labels, or Otsu."""
    chances = [row[1] for row in model.transition] if model.transition else None
    if chances and loss == "bce" and abs(chances[1] - chances[0]) > 1e-3:
        threshold = (chances[0] + chances[1]) / 2
        model.threshold = 1 - threshold if model.inverted else threshold
        kinds = ", ".join(spec.summary() for spec in noise)
        model.threshold_source = f"transition matrix ({kinds})"
    elif clean:
        scores = tally.scores()
        if scores["auc"] < 0.5:
            model.inverted = not model.inverted
            scores = tally.turned().scores()
        model.threshold = scores["threshold"]
        model.threshold_source = "best on the clean validation labels"
    else:
        from skimage.filters import threshold_otsu

        model.threshold = float(threshold_otsu(hist=(tally.histogram, tally.values)))
        model.threshold_source = "Otsu's threshold of the probabilities"


def _validate(job, model, items, ignore_label):
    """One tally per foreground class over the held-back items; None if stopped."""
    tallies = [Tally() for _ in model.classes[1:]]
    for index, (image, label) in enumerate(zip(items.images, items.labels)):
        probability = None
        prediction = model.predicting(image)
        while probability is None:
            if job.stopping:
                return None
            try:
                next(prediction)
                yield Progress("validating", index, len(items))
            except StopIteration as end:
                probability = end.value
        label = np.asarray(label)
        counted = label != IGNORE
        if ignore_label is not None:
            counted &= label != ignore_label
        per_class = [probability] if len(tallies) == 1 else probability[1:]
        for tally, value, chance in zip(tallies, model.classes[1:], per_class):
            tally.add((label == value)[counted], chance[counted])
    return tallies


def _mean_scores(tallies):
    scores = [tally.scores() for tally in tallies]
    mean = {name: np.mean([s[name] for s in scores]) for name in ("dice", "auc", "threshold")}
    return {name: float(value) for name, value in mean.items()}


def _tally_of_patches(model, sampler):
    """Probabilities of one training batch, where nothing was held back or validated yet."""
    tally = Tally()
    images, targets = sampler.batch()
    model.network.eval()
    with torch.inference_mode():
        logits = model.network(torch.from_numpy(images).to(model.device)).float()
    probability = logits[:, 0].sigmoid().cpu().numpy()
    tally.add(targets == 1, 1 - probability if model.inverted else probability)
    return tally


class _Previews:
    """Predictions of the job's preview image, not more often than is worth its time."""

    def __init__(self, job, model):
        self.job, self.model = job, model
        self._next = time.perf_counter()

    def if_due(self, epoch):
        started, image = time.perf_counter(), self.job.preview
        if image is None or started < self._next:
            return
        probability = None
        prediction = self.model.predicting(image)
        while probability is None and not self.job.stopping:
            try:
                next(prediction)
                yield Progress("preview", 0, 1)
            except StopIteration as end:
                probability = end.value
        now = time.perf_counter()
        self._next = now + max(_SECONDS_BETWEEN_PREVIEWS, 10 * (now - started))
        if probability is not None:
            yield Preview(epoch, probability, image)
