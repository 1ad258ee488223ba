"""Parameters of a noise sweep. No torch here, so that forms open at once."""

from typing import TYPE_CHECKING, Any

from pydantic import create_model

from napari_metastructure.labels.kinds import sweep_fields
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.parameters import Field

__all__ = ["SweepConfig"]

_Noises: Any = create_model(  # type: ignore[call-overload]
    "_Noises", __base__=TrainingConfig, **sweep_fields()
)


class SweepConfig(_Noises):
    """Parameters of `sweep`: kinds and amounts of noise, and the training that all runs share."""

    if TYPE_CHECKING:  # its fields are made above

        def __init__(self, **values: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    seeds: int = Field(
        3,
        ge=1,
        le=100,
        title="Seeds",
        description="How many networks are trained with each noise, each with another seed.",
    )
    seed: int = Field(
        0, ge=0, title="First seed", description="The first seed; the others follow it."
    )
    channels: int = Field(
        8, ge=2, le=256, title="Channels", description="Width of the first level of the network."
    )
    epochs: int = Field(
        6,
        ge=1,
        le=10_000,
        title="Epochs",
        description="How often each pixel is seen in a training on average.",
    )
    validation_fraction: float = Field(
        0.25,
        ge=0,
        le=0.9,
        title="Test fraction",
        description="Share of the images, the last ones, that are used for scoring only.",
    )
    time_limit: float | None = Field(
        None,
        gt=0,
        title="Time limit [s]",
        description="Runs that have not begun after so many seconds are left out. Empty: no limit.",
    )
    scheduler: str | None = Field(
        None,
        title="Scheduler",
        description="Address of a dask.distributed scheduler, such as tcp://host:8786, whose "
        "workers train the runs. Empty: this process.",
    )
