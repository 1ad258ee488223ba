"""Parameters of the jobs that train a network. No torch here, so that forms open at once."""

from typing import Literal

from pydantic import model_validator

from napari_metastructure.parameters import Field, Parameters

__all__ = ["NetworkConfig", "TrainingConfig"]


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
        5e-3,
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
