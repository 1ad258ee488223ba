"""What both modes of `segment` share: the model, predictions of all planes, a round's report."""

import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_metastructure.arrays.statistics import varies
from napari_metastructure.few_labels import filters
from napari_metastructure.few_labels.field_of_view import field_of_view, filled
from napari_metastructure.few_labels.ranking import Judge, evenly_spread
from napari_metastructure.files.fingerprint import digest
from napari_metastructure.jobs.events import Note, Progress, Step
from napari_metastructure.jobs.generators import Grace, in_background
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels import extraction
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.learning.patches import Prefetched
from napari_metastructure.learning.previews import Previews
from napari_metastructure.learning.resume import Resume
from napari_metastructure.learning.trainer import Trainer

__all__ = ["Mode", "packed", "unpacked"]

_SECONDS_AFTER_STOP = 0.4  # for predictions
_PARTS_AFTER_STOP = 4  # of planes, for the threshold


class Mode:
    """A segmentation of an image set; `Robust`, `Paper` and `Taught` say how its network learns."""

    unpredicted_are = "their masks are empty"  # said of planes that a stopped job did not come to

    def __init__(
        self,
        job: Job,
        items: Items,
        config: Any,
        device: Any,
        seed: Any,
        classes: Sequence[int] = (0, 1),
    ) -> None:
        self.job, self.items, self.config, self.device = job, items, config, device
        self.seed = seed
        seeds = np.random.SeedSequence(seed).spawn(2)
        self.model = SegmentationModel(
            config.architecture(items.images[0].shape, len(classes)),
            classes,
            channel_axis=config.channel_axis,
            seed=int(seeds[0].generate_state(1)[0]),
        )
        self.rng = np.random.default_rng(seeds[1])
        self.history = {"loss": [], "rounds": []}
        self.facts = {}
        self.pictures = items.pictures(config.start_channel)
        self.dark: Any = None  # where the surroundings of a field of view are, if there are any
        self.polarity = config.polarity  # "auto" until a mode has found it
        self.judge: Any = None  # of start masks
        self.varied = {number for number, image in enumerate(items.images) if varies(image)}
        self.previews = Previews(job, self.model)
        self.started = time.perf_counter()
        self.clock = job.clock()  # from here on the time limit counts
        self.resume: Resume | None = None
        self.part = 0  # the round or course that is trained
        self.part_begin = 0  # step
        self.part_labels = ""  # digest
        self.trainer: Any = None
        self.prefetched: Prefetched | None = None
        self.results: Any = None  # `masks` and `probabilities`: planes to put them in
        self.unpredicted = set(range(len(items)))  # planes that have no probabilities yet
        self.noted: dict[int, Any] = {}  # by `predicted`, of planes
        self.grace = Grace(job, _SECONDS_AFTER_STOP)

    @staticmethod
    def parts(planes: Any) -> list:
        """Evenly spread parts of planes (or volumes), to judge the image set on: 2-D arrays."""
        return [np.asarray(planes[number][where]) for number, where in evenly_spread(planes)]

    def leave_out_surroundings(self) -> Generator[Any, Any, Any]:
        """Fill dark surroundings that all planes share, whose rim would outdo all other edges;
        generator.
        """
        pictures, total = self.pictures, len(self.pictures)
        event = Progress("looking for dark surroundings", 0, 1)
        self.dark = yield from in_background(self.job, event, field_of_view, pictures)
        if self.dark is None:
            return
        share = round(float(np.mean(self.dark > 0.5)), 3)
        self.facts["surroundings"] = share
        yield self.note(
            f"All images have dark surroundings, {share:.0%} of their area; start masks and "
            "thresholds come from the rest."
        )
        self.pictures = list(pictures)
        for number, picture in enumerate(pictures):
            event = Progress("leaving out dark surroundings", number, total)
            found = yield from in_background(self.job, event, filled, picture, self.dark)
            if found is None:
                return
            self.pictures[number] = found

    # ------------------------------------------------------------------ training

    def learn(
        self, part: int, sampler: Any, loss: Any, *, steps: int, rate: float, following: int = 0
    ) -> Generator[Any, Any, Any]:
        """Train the network on patches: one round or course; generator of events.

        Parameters
        ----------
        part : int
            The number of the round or course.
        sampler : PatchSampler
        loss : callable
        steps : int
        rate : float
            Highest learning rate.
        following : int
            Steps of the parts that come after this one.
        """
        self.trainer = Trainer(
            self.model.network,
            loss,
            steps=steps,
            learning_rate=rate,
            device=self.device,
            compile=self.config.compile,
        )
        losses = self.history["loss"]
        self.part, self.part_begin = part, len(losses)
        if self.resume is not None:
            self.part_labels = digest(sampler.items.labels)
            yield from self.resume.restore(self)
        end = self.part_begin + steps
        total = end + following
        with Prefetched(sampler) as self.prefetched:
            while len(losses) < end and not self.job.stopping:
                if self.spent() >= 1:
                    yield self.cut_short(len(losses), total)
                    break
                losses.append(self.trainer.step(*self.prefetched.batch()))
                epoch = (len(losses) - 1) // sampler.batches_per_epoch + 1
                yield Step(len(losses), total, epoch, losses[-1])
                yield from self.pending_events(self.trainer)
                yield from self.previews.if_due(epoch)
                if self.resume is not None and self.resume.is_due():
                    yield from self.resume.keep(self, len(losses), total)
        if self.resume is not None:
            yield from self.resume.keep(self, len(losses), total)

    @property
    def notes(self) -> list:
        """What the user should know of, for the record."""
        return self.facts.setdefault("notes", [])

    def state(self) -> tuple[dict, dict]:
        """What a checkpoint keeps besides the trainer: tensors, and values that JSON holds."""
        return {}, {
            "part": self.part,
            "part_begin": self.part_begin,
            "part_labels": self.part_labels,
            "rng": (self.prefetched or self.rng.bit_generator).state,
            "losses": self.history["loss"],
            "rounds": self.history["rounds"],
            "threshold": self.model.threshold,
            "notes": self.facts.get("notes", []),
            "spent": self.job.clock() - self.clock,
            "seconds": time.perf_counter() - self.started,
        }

    def take_up(self, tensors: dict, values: dict) -> None:
        """Go on from a `state`, once what comes before the training was done again."""
        if self.resume is not None and values["part_labels"] != self.part_labels:
            self.resume.refuse("is of a training on labels that were drawn in another way")
        self.part_begin = values["part_begin"]
        self.rng.bit_generator.state = values["rng"]
        self.history["loss"][:] = values["losses"]
        self.history["rounds"][:] = values["rounds"]
        self.model.threshold = values["threshold"]
        if values["notes"]:
            self.notes[:] = dict.fromkeys(values["notes"] + self.notes)
        self.clock = self.job.clock() - values["spent"]
        self.started -= values["seconds"]

    # ------------------------------------------------------------------ prediction

    def predict(self) -> Generator[Any, Any, Any]:
        """Put the probabilities of every plane in their place; generator of `Progress`.

        A job that is stopped goes on for less than a second; planes that it does not come to stay
        as they are.
        """
        total = len(self.items)
        self.unpredicted, self.noted = set(range(total)), {}
        if not self.learnt:
            return
        for number in range(total):
            event = Progress("predicting", number, total)
            found = yield from self.grace.run(self.predicting(number), event)
            if found is not None:
                self.results.probabilities[number][...] = found
                self.unpredicted.discard(number)
                self.predicted(number, found)
        if self.unpredicted:
            yield self.note(
                f"Stopped before {len(self.unpredicted)} of {total} planes were predicted; "
                f"{self.unpredicted_are}."
            )

    def predicted(self, number: int, probabilities: NDArray) -> None:
        """Take note of what a plane's own probabilities decide."""

    def numbers(self) -> list[int]:
        """Planes to choose a threshold on: those that were predicted, all if none was."""
        every = range(len(self.items))
        return [number for number in every if number not in self.unpredicted] or list(every)

    def decide(self) -> Generator[Any, Any, Any]:
        """Put the masks of all planes in their places; generator of `Progress`."""
        raise NotImplementedError

    def settled(self, function: Callable, *arguments: Any) -> Generator[Any, Any, Any]:
        """What a function returns that looks at fewer parts once the job is stopped; generator.

        It changes nothing, and begins anew when the job is stopped meanwhile.
        """
        found = None
        if not self.job.stopping:
            event = Progress("choosing the threshold", 0, 1)
            found = yield from in_background(self.job, event, function, *arguments)
        return function(*arguments) if found is None else found

    @property
    def learnt(self) -> bool:
        """Whether the network was trained by a step at least."""
        return bool(self.history["loss"])

    def predicting(self, number: int) -> Generator[Any, Any, Any]:
        """Predict one plane: a generator that yields after each tile, and returns probabilities."""
        if number not in self.varied:
            return np.zeros(self.pictures[number].shape, np.float32)
        return (yield from self.model.predicting_plane(self.items.images[number]))

    def for_threshold(self, probabilities: Any, pictures: Any) -> tuple[list, list]:
        """The planes to choose a threshold on: all, but a few parts once the job is stopped."""
        if not self.job.stopping:
            return list(probabilities), list(pictures)
        places = evenly_spread(pictures)
        chosen = np.linspace(0, len(places) - 1, min(len(places), _PARTS_AFTER_STOP)).astype(int)
        parts = [places[k] for k in chosen]
        return (
            [np.asarray(probabilities[k][at]) for k, at in parts],
            [np.asarray(pictures[k][at]) for k, at in parts],
        )

    def note(self, text: str) -> Note:
        """Put a sentence in the record; returns its event."""
        self.notes.append(text)
        return Note(text)

    def cut_short(self, step: Any, total: int) -> Note:
        """The event that says that the time limit ended the training."""
        return self.note(
            f"The time limit of {self.config.time_limit:g} s ended the training at step {step} "
            f"of {total}; with more time the result would differ."
        )

    def pending_events(self, trainer: Any) -> Generator[Any, Any, Any]:
        """What the trainer has to say, noted for the record too."""
        for event in trainer.pending_events():
            if isinstance(event, Note):
                self.notes.append(event.text)
            yield event
        self.facts["peak_memory"] = trainer.memory.peak

    def write_masks(self, items: Items, outs: Any) -> Generator[Any, Any, Any]:
        """Predict every plane and write its mask; generator of `Progress`."""
        shapes = [out.shape[: len(out.shape) - self.config.spatial_dims] for out in outs]
        places = [(out, index) for out, shape in zip(outs, shapes) for index in np.ndindex(*shape)]
        for number, (out, index) in enumerate(places):
            if self.job.stopping:
                return
            image = items.images[number]
            event = Progress("predicting", number, len(places))
            varied = yield from in_background(self.job, event, varies, image)
            if varied is None:
                return
            if not varied:
                out[index] = np.zeros(out.shape[len(index) :], np.uint8)
                continue
            write = partial(self.write, out, index)
            for _ in self.predict_mask(items._take(slice(number, number + 1)), write):
                yield event
                if self.job.stopping:
                    return

    def predict_mask(self, item: Items, write: Any) -> Generator[Any, Any, Any]:
        """Predict the mask of one plane and hand it to `write`; each mode in its own way."""
        raise NotImplementedError

    def write(self, out: Any, index: Any, start: Any, mask: NDArray) -> None:
        """Write rows of one plane (or volume)."""
        out[(*index, slice(start, start + len(mask)))] = mask.astype(np.uint8)

    def appoint_judge(self, polarity: str, stained: bool = False) -> Generator[Any, Any, Any]:
        """Make the judge of start masks, in the background; generator. If the job is stopped, it
        judges nothing.
        """
        event, parts = Progress("comparing start masks", 0, 1), self.parts(self.pictures)
        found = yield from in_background(self.job, event, Judge, parts, polarity, stained=stained)
        self.judge = Judge([], polarity, stained=stained) if found is None else found

    def compare_starts(self) -> Generator[Any, Any, Any]:
        """Let the judge see the whole bank of start masks; generator of `Progress`."""
        work, at = self.judge.work(torch.get_num_threads()), (0, 1)
        while at is not None:
            event = Progress("comparing start masks", *at)
            at = yield from in_background(self.job, event, next, work, None)

    def start_label(self, name: str, number: int) -> Any:
        """First label of a plane: uint8, 0 and 1."""
        image = self.pictures[number]
        if name == "black":
            return np.zeros(image.shape, np.uint8)
        if name == "labels":
            return (np.asarray(self.items.labels[number]) > 0).astype(np.uint8)
        return filters.filter_mask(image, name, self.polarity)

    def sketch(self, mask: NDArray) -> Any:
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

    def shown(self) -> Any:
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

    def spent(self) -> float:
        """Share of the time limit that is gone."""
        if self.config.time_limit is None:
            return 0
        return (self.job.clock() - self.clock) / self.config.time_limit


def packed(mask: NDArray) -> torch.Tensor:
    """A mask of 0 and 1 as bits, for a checkpoint."""
    return torch.from_numpy(np.packbits(mask > 0))


def unpacked(bits: torch.Tensor, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The mask of this shape that was `packed`."""
    return np.unpackbits(bits.numpy(), count=int(np.prod(shape))).reshape(shape)
