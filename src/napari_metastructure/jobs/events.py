"""What a long job says while it runs: the last event is `Done` or `Result`."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = [
    "BETWEEN_STEPS",
    "Done",
    "FileDone",
    "FileProgress",
    "Memory",
    "Note",
    "Preview",
    "Progress",
    "Result",
    "Round",
    "Scored",
    "Step",
    "Validated",
]

BETWEEN_STEPS = ("validating", "previewing")
"""Activities that come again and again within a training: no bar of their own."""


@dataclass(frozen=True)
class Progress:
    """Work outside the optimisation: `done` of `total` pieces of `activity`."""

    activity: str
    done: int
    total: int


@dataclass(frozen=True)
class Step:
    """One optimisation step: `step` counts from 1 to `total`."""

    step: int
    total: int
    epoch: int
    loss: float


@dataclass(frozen=True)
class Validated:
    """Scores on the validation pixels; `best` if these weights are the best so far."""

    epoch: int
    step: int
    dice: float
    auc: float
    threshold: float
    best: bool


@dataclass(frozen=True)
class Preview:
    """Probability of the preview image (`Job.preview`) at this point of the training."""

    epoch: int
    probability: np.ndarray
    image: np.ndarray


@dataclass(frozen=True)
class Round:
    """A finished round of unsupervised segmentation, with pictures of one plane.

    Round 0 of the robust mode shows the start labels. `label_change` is the share of all pixels
    whose label differs from the round before (of the first one: from an empty label). `image` is
    the job's preview plane, or the first one if that is none of the images; `candidate` the mask
    chosen from the prediction `probability`; `label` what the next round learns.
    """

    round: int
    rounds: int
    label_change: float
    loss: float
    image: np.ndarray
    probability: np.ndarray
    candidate: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class Scored:
    """A finished run of a sweep, the `done`-th of `total`: its row of the table, what it predicts.

    `prediction` holds labels, one array per scored image; None if the run failed.
    """

    row: dict
    prediction: list | None
    done: int
    total: int


@dataclass(frozen=True)
class FileDone:
    """A file of a batch that was dealt with, the `done`-th of `total`.

    `row` has its ``file`` and ``group``, ``error`` (a sentence, or None), ``notes``, and the path
    of each of its ``outputs``.
    """

    row: dict
    done: int
    total: int


@dataclass(frozen=True)
class FileProgress:
    """How far a batch is with a file: `part` of `parts` of `activity`; `done` of `total` files are.

    `parts` is 1 where it is not known how long the activity takes; `share` is that of the file, of
    whose steps the activity is one.
    """

    activity: str
    part: int
    parts: int
    share: float
    done: int
    total: int

    @property
    def text(self) -> str:
        """In words, such as ``file 2 of 5: predicting``."""
        return f"file {self.done + 1} of {self.total}: {self.activity}"


@dataclass(frozen=True)
class Note:
    """Something the user should know of, in one sentence, though the job goes on."""

    text: str


@dataclass(frozen=True)
class Memory:
    """The most memory the job has held so far, in bytes, and where: "cpu", "cuda:0"."""

    peak: int
    device: str

    @property
    def text(self) -> Any:
        """The peak in words, such as ``1.50 GiB`` or ``1.50 GiB on cuda:0``."""
        where = "" if self.device == "cpu" else f" on {self.device}"
        return f"{self.peak / 2**30:.2f} GiB{where}"


@dataclass(frozen=True)
class Result:
    """The end of a job that computes arrays; `stopped` if it was ended early."""

    value: Any
    stopped: bool = False


@dataclass(frozen=True)
class Done:
    """The end: the model with its best weights, the course of the run and its record.

    `masks` (uint8, 0 and 1) and `probabilities` (float32), one per input image and of its shape,
    come with unsupervised segmentation only.
    """

    model: Any
    history: dict = field(default_factory=dict, repr=False)
    record: dict = field(default_factory=dict, repr=False)
    stopped: bool = False
    masks: list | None = field(default=None, repr=False)
    probabilities: list | None = field(default=None, repr=False)
