"""Parameters of a noise sweep. No torch here, so that forms open at once."""

from typing import Annotated

from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.parameters import Field

__all__ = ["SweepConfig"]

Shares = tuple[Annotated[float, Field(ge=0, le=1)], ...]
Radii = tuple[Annotated[float, Field(ge=0)], ...]


class SweepConfig(TrainingConfig):
    """Parameters of `sweep`: kinds and amounts of noise, and the training that all runs share."""

    sample: Shares = Field(
        (0.5, 0.3, 0.1),
        title="Pixels kept",
        description="Shares of the object pixels that keep their label, such as 0.5, 0.1.",
    )
    flip: Shares = Field(
        (0.2, 0.4, 0.45),
        title="Pixels flipped",
        description="Shares of the pixels that get another class, such as 0.2, 0.4.",
    )
    shift: Radii = Field(
        (), title="Shift", description="How far object pixels are scattered, in pixels."
    )
    dilate: Radii = Field((1, 2, 4), title="Dilate", description="How far objects grow, in pixels.")
    erode: Radii = Field((1,), title="Erode", description="How far objects shrink, in pixels.")
    skeletonize: bool = Field(
        True, title="Skeleton", description="Objects reduced to their skeleton."
    )
    random: bool = Field(
        True, title="Random labels", description="Labels drawn without regard to the image."
    )
    seeds: int = Field(
        3, ge=1, le=100, title="Seeds", description="How often each noise is drawn and trained on."
    )
    seed: int = Field(0, ge=0, title="First seed", description="The seeds count up from here.")
    channels: int = Field(
        8, ge=2, le=256, title="Channels", description="Width of the first level of the network."
    )
    epochs: int = Field(
        6,
        ge=1,
        le=10_000,
        title="Epochs",
        description="How often a run sees every pixel on average.",
    )
    validation_fraction: float = Field(
        0.25,
        ge=0,
        le=0.9,
        title="Test fraction",
        description="Share of the images, the last ones, that no run is trained on and all are "
        "scored on.",
    )
    time_limit: float | None = Field(
        None,
        gt=0,
        title="Time limit",
        description="Seconds; runs that have not begun by then are left out. Empty: no limit.",
    )
    scheduler: str | None = Field(
        None,
        title="Scheduler",
        description="Address of a dask.distributed scheduler, such as tcp://host:8786, whose "
        "workers train the runs. Empty: this process.",
    )
