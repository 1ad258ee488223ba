"""Parameters of the jobs that train a network. No torch here, so that forms open at once."""

from typing import Literal

from pydantic import model_validator

from napari_metastructure.parameters import Field, Parameters

__all__ = ["IGTTConfig", "NetworkConfig", "TrainingConfig"]


class NetworkConfig(Parameters):
    """What every job that trains a network shares."""

    network: Literal["unet", "attention_unet", "segresnet"] = Field(
        "unet", title="Network", description="Architecture; U-Net is the quickest."
    )
    channels: int = Field(
        16, ge=2, le=256, title="Channels", description="Width of the first level of the network."
    )
    depth: int = Field(
        4, ge=3, le=7, title="Depth", description="Levels of the network; each halves the image."
    )
    spatial_dims: Literal[2, 3] = Field(
        2,
        title="Dimensions",
        description="2: every plane of a stack by itself. 3: whole volumes.",
    )
    epochs: int = Field(
        12, ge=1, le=10_000, title="Epochs", description="How often every pixel is seen on average."
    )
    min_steps: int = Field(
        100,
        ge=1,
        le=100_000,
        title="Fewest steps",
        description="A few small images make short epochs; they are lengthened to reach this "
        "many steps.",
    )
    batch_size: int = Field(
        8, ge=1, le=512, title="Batch size", description="Patches per optimisation step."
    )
    patch_size: int = Field(
        128,
        ge=16,
        le=2048,
        multiple_of=16,
        title="Patch size",
        description="Side of a training patch, in pixels.",
    )
    learning_rate: float = Field(
        1e-2,
        gt=0,
        le=1,
        title="Learning rate",
        description="Highest rate of the one-cycle schedule.",
    )
    device: str = Field(
        "auto", title="Device", description="auto, cpu, cuda:0 or mps; auto prefers a GPU."
    )
    seed: int | None = Field(
        None, ge=0, title="Seed", description="The same seed gives the same result on the CPU."
    )

    @property
    def multiple(self):
        """What patch sides are multiples of, in pixels."""
        return 2 ** (self.depth - 1)

    @model_validator(mode="after")
    def _patches_fit(self):
        if self.patch_size % (2 * self.multiple):
            raise ValueError(
                f"patch_size should be a multiple of {2 * self.multiple} for {self.depth} levels, "
                f"not {self.patch_size}"
            )
        return self


class TrainingConfig(NetworkConfig):
    """Parameters of `train`."""

    loss: Literal["bce", "dice", "iou", "bce+dice"] = Field(
        "bce",
        title="Loss",
        description="bce: cross entropy, the robust choice for noisy labels; dice and iou: "
        "overlap, for rare structures with clean labels.",
    )
    validation_fraction: float = Field(
        0.2,
        ge=0,
        le=0.9,
        title="Held back",
        description="Share of the images, the last ones, kept from training for validation.",
    )
    ignore_label: int | None = Field(
        None,
        title="Ignore label",
        description="Pixels with this label (and with -1) do not count.",
    )


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


class IGTTConfig(NetworkConfig):
    """Parameters of `segment`; with ``mode="paper"`` the defaults are the published ones."""

    mode: Literal["robust", "paper"] = Field(
        "robust",
        title="Mode",
        description="robust: a start from the image, then a network that learns it. "
        "paper: iterative ground truth training as published (100 epochs, 64 channels).",
    )
    start: Literal[
        "auto",
        "black",
        "otsu",
        "li",
        "triangle",
        "local",
        "sato",
        "scribbles",
        "labels",
    ] = Field(
        "auto",
        title="Start",
        description="First labels. auto: a vote of filters that fit the images; "
        "black: none, as published; scribbles and labels: yours.",
    )
    polarity: Literal["auto", "bright", "dark"] = Field(
        "auto",
        title="Structures are",
        description="Brighter or darker than their surroundings; auto decides by the images.",
    )
    loss: Literal["bce", "dmi", "signed_dmi", "dmi+iou", "signed_dmi+iou"] = Field(
        "bce",
        title="Loss",
        description="bce: cross entropy; dmi+iou: as published; "
        "signed_dmi: DMI that cannot turn the mask over.",
    )
    rounds: int = Field(
        1,
        ge=1,
        le=100,
        title="Rounds",
        description="How often the epochs are run, each time on labels that the network refined.",
    )
    augmentation: float = Field(
        0.5,
        ge=0,
        le=2,
        title="Disturbance",
        description="Random noise, contrast and brightness of the training patches, in deviations "
        "of the image; not used where intensity tells objects clearly.",
    )
    num_thresholds: int | None = Field(
        30, ge=1, title="Thresholds", description="Candidates per image; empty: every value."
    )
    ems: bool = Field(
        False,
        title="Extract meta-structure",
        description="Train on jittered points of the skeleton instead of the whole mask.",
    )
    shift: int = Field(
        1, ge=0, le=100, title="Shift", description="Jitter of the skeleton's points, in pixels."
    )
    fraction: float = Field(
        0.1, gt=0, le=1, title="Kept", description="Share of the skeleton's points that stay."
    )
    time_limit: float | None = Field(
        900,
        gt=0,
        title="Time limit",
        description="Seconds of training; the schedule is shortened to fit. Empty: no limit.",
    )
    channels: int = Field(
        8, ge=2, le=256, title="Channels", description="Width of the first level of the network."
    )
    epochs: int = Field(
        12,
        ge=1,
        le=10_000,
        title="Epochs",
        description="How often a round sees every pixel on average; half as often where intensity "
        "tells objects clearly.",
    )

    min_steps: int = Field(
        150,
        ge=1,
        le=100_000,
        title="Fewest steps",
        description="A round on a few small images is lengthened to this many steps.",
    )

    @model_validator(mode="before")
    @classmethod
    def _published(cls, values):
        return {**_PUBLISHED, **values} if values.get("mode") == "paper" else values
