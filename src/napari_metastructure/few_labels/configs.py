"""Parameters of `segment`. No torch here, so that forms open at once."""

from typing import Literal

from pydantic import model_validator

from napari_metastructure.few_labels.filters import BANK
from napari_metastructure.learning.configs import VOLUMES, NetworkConfig
from napari_metastructure.parameters import Field, words

__all__ = ["WITHOUT_STROKES", "SegmentConfig"]

WITHOUT_STROKES = (
    "start",
    "polarity",
    "loss",
    "rounds",
    "num_thresholds",
    "ems",
    "shift",
    "fraction",
)
"""Fields that mean nothing with strokes, as the network then learns a classifier's label."""

# what Luo et al. (2022) used, where it differs from our defaults
_PUBLISHED = {
    "start": "black",
    "loss": "dmi+iou",
    "ems": True,
    "channels": 64,
    "depth": 5,
    "epochs": 100,
    "batch_size": 32,
    "patch_size": 256,
    "learning_rate": 0.05,
    "time_limit": None,
}


class SegmentConfig(NetworkConfig):
    """Parameters of `segment`; with ``mode="paper"`` the defaults are the published ones."""

    mode: Literal["robust", "paper"] = Field(
        "robust",
        title="Mode",
        description="robust: a start mask from the image, then a network that learns from it. "
        "paper: iterative ground truth training as published (100 epochs, 64 channels).",
    )
    start: Literal[("auto", "black", "labels", *BANK)] = Field(  # type: ignore[valid-type]
        "auto",
        title="Start",
        description="Start mask. auto: the filter that fits the images best; black: none, as "
        "published; labels: your own; or a filter by its name. Not with strokes.",
    )
    start_channel: int | None = Field(
        None,
        ge=0,
        title="Start channel",
        description="The channel that start masks are made from, and whose edges the threshold "
        "follows, if there are several. Empty: the mean of all.",
    )
    polarity: Literal["auto", "bright", "dark"] = Field(
        "auto",
        title="Structures are",
        description="Brighter or darker than the background. auto: estimated from the images. "
        "Strokes tell it themselves.",
    )
    loss: Literal["bce", "dmi", "signed_dmi", "dmi+iou", "signed_dmi+iou"] = Field(
        "bce",
        title="Loss",
        description="bce: binary cross-entropy; dmi: determinant-based mutual information; "
        "dmi+iou: as published; signed_dmi: DMI that cannot invert the mask. Not with strokes.",
        json_schema_extra=words(
            {
                "bce": "binary cross-entropy",
                "dmi": "DMI",
                "signed_dmi": "signed DMI",
                "dmi+iou": "DMI + IoU",
                "signed_dmi+iou": "signed DMI + IoU",
            }
        ),
    )
    rounds: int = Field(
        1,
        ge=1,
        le=100,
        title="Rounds",
        description="How many times the network is trained, each time on its previous result. Not "
        "with strokes.",
    )
    augmentation: float = Field(
        0.5,
        ge=0,
        le=2,
        title="Augmentation",
        description="Strength of random rotation, scaling, deformation, blur, contrast, brightness "
        "and noise of the patches; 0: none. Without strokes, not used if the intensities "
        "separate objects clearly.",
    )
    num_thresholds: int | None = Field(
        30,
        ge=3,
        title="Thresholds",
        description="Number of thresholds tried per image, evenly spaced from its smallest to its "
        "largest probability, which are not used themselves. Empty: every value.",
    )
    ems: bool = Field(
        False,
        title="Extract meta-structure",
        description="Train on jittered points of the skeleton instead of the whole mask. The "
        "threshold is then the one of largest DMI.",
    )
    shift: int = Field(
        1, ge=0, le=100, title="Shift", description="Jitter of the skeleton's points, in pixels."
    )
    fraction: float = Field(
        0.1,
        gt=0,
        le=1,
        title="Fraction kept",
        description="Share of the skeleton's points that are kept.",
    )
    time_limit: float | None = Field(
        900,
        gt=0,
        title="Time limit [s]",
        description="Seconds after which the training ends early; a note says so. Empty: no limit.",
    )
    channels: int = Field(
        8, ge=2, le=256, title="Channels", description="Width of the first level of the network."
    )
    epochs: int = Field(
        12,
        ge=1,
        le=10_000,
        title="Epochs",
        description="How often each pixel is seen in a round on average; half as often if the "
        "intensities separate objects clearly.",
    )

    min_steps: int = Field(
        150,
        ge=1,
        le=100_000,
        title="Minimum steps",
        description="With a few small images, a round is lengthened to this many steps.",
    )

    @model_validator(mode="before")
    @classmethod
    def _published(cls, values):
        if values.get("mode") != "paper":
            return values
        volumes = VOLUMES if values.get("spatial_dims") == 3 else {}
        return {**_PUBLISHED, **volumes, **values}
