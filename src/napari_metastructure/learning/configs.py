"""Parameters of the jobs that train a network. No torch here, so that forms open at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator

from napari_metastructure.arrays.axes import multiples
from napari_metastructure.learning.networks import NETWORKS, TITLES
from napari_metastructure.learning.smp_networks import LEVELS, SMP, SMP_TITLES, is_smp
from napari_metastructure.parameters import Field, Parameters, words

__all__ = ["NetworkConfig", "TrainingConfig"]


def _known_network(name):
    if name not in NETWORKS and not is_smp(name):
        known = ", ".join([*NETWORKS, *SMP])
        raise ValueError(f"network should be {known} or smp:ARCHITECTURE/ENCODER, not {name!r}")
    return name


if TYPE_CHECKING:
    Network = str
else:  # a form offers those that have a name
    Network = Annotated[Literal[(*NETWORKS, *SMP)] | str, AfterValidator(_known_network)]

VOLUMES = {"patch_size": 64, "batch_size": 2}  # defaults in 3-D: the memory of 128 and 8 in 2-D


class NetworkConfig(Parameters):
    """What every job that trains a network shares."""

    network: Network = Field(
        "unet",
        title="Network",
        description="Architecture; U-Net is the quickest. DeepLabv3+, HRNet and any "
        "smp:ARCHITECTURE/ENCODER are those of segmentation-models-pytorch, 2-D, with a width and "
        "depth of their own.",
        json_schema_extra=words({**TITLES, **SMP_TITLES}),
    )
    channels: int = Field(
        16, ge=2, le=256, title="Channels", description="Width of the first level of the network."
    )
    depth: int = Field(
        4,
        ge=3,
        le=7,
        title="Depth",
        description="Levels of the network; each halves the resolution.",
    )
    spatial_dims: Literal[2, 3] = Field(
        2,
        title="Dimensions",
        json_schema_extra=words({2: "2-D", 3: "3-D"}),
        description="2: each plane of a stack separately. 3: whole volumes.",
    )
    channel_axis: int | None = Field(
        None,
        title="Channel axis",
        description="Axis of the images that holds channels, counted from 0, or from -1 at the "
        "end; the network sees all of them, labels do not have it. Empty: none.",
    )
    anisotropy: float = Field(
        1.0,
        ge=0.1,
        le=100,
        title="Z anisotropy",
        description="3-D: size of a voxel along z over its size along y and x. Patches follow "
        "it, and so does the U-Net; other networks treat voxels as cubes.",
    )
    min_steps: int = Field(
        100,
        ge=1,
        le=100_000,
        title="Minimum steps",
        description="With a few small images epochs are short; they are lengthened until the "
        "training has this many steps.",
    )
    batch_size: int = Field(
        8, ge=1, le=512, title="Batch size", description="Patches per training step."
    )
    patch_size: int = Field(
        128,
        ge=16,
        le=2048,
        multiple_of=16,
        title="Patch size",
        description="Side of a training patch, in pixels; in 3-D along y and x.",
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
    compile: bool = Field(
        False,
        title="Compile",
        description="Compile the network with torch.compile: takes a minute at the start, and "
        "makes steps faster on some GPUs.",
    )
    seed: int | None = Field(
        None, ge=0, title="Seed", description="The same seed gives the same result on the CPU."
    )

    @property
    def multiple(self) -> tuple[int, ...]:
        """What patch sides are multiples of, in pixels, per axis."""
        return multiples(self.levels, self.spatial_dims, self._pooled_anisotropy)

    @property
    def levels(self) -> int:
        """Levels of the network: its depth, if that can be chosen."""
        return LEVELS if is_smp(self.network) else self.depth

    @property
    def patch_shape(self) -> tuple[int, ...]:
        """Sides of a patch, in pixels, per axis: in 3-D about as long along z in the world."""
        if self.spatial_dims == 2:
            return (self.patch_size, self.patch_size)
        step = self.multiple[0]
        planes = max(1, round(self.patch_size / self.anisotropy / step)) * step
        return (planes, self.patch_size, self.patch_size)

    def architecture(self, plane_shape: Sequence[int], num_classes: int = 2) -> Any:
        """Arguments of `networks.build` for planes (or volumes) of a shape, channels first."""
        return {
            "network": self.network,
            "spatial_dims": self.spatial_dims,
            "in_channels": 1 if self.channel_axis is None else plane_shape[0],
            "out_channels": 1 if num_classes == 2 else num_classes,
            "channels": self.channels,
            "depth": self.levels,
            "anisotropy": self._pooled_anisotropy,
        }

    @property
    def _pooled_anisotropy(self):
        """What the network knows of the voxels."""
        return self.anisotropy if self.network == "unet" and self.spatial_dims == 3 else 1.0

    @model_validator(mode="before")
    @classmethod
    def _smaller_in_3d(cls, values):
        return {**VOLUMES, **values} if values.get("spatial_dims") == 3 else values

    @model_validator(mode="after")
    def _patches_fit(self):
        if is_smp(self.network) and self.spatial_dims == 3:
            raise ValueError(f"{self.network} is for planes (2-D) only; choose another network")
        multiple = 2 ** (self.levels - 1)
        if self.patch_size % (2 * multiple):
            raise ValueError(
                f"patch_size should be a multiple of {2 * multiple} for {self.levels} levels, "
                f"not {self.patch_size}"
            )
        return self


def _none_if_auto(value):
    return None if value == "auto" else value


class TrainingConfig(NetworkConfig):
    """Parameters of `train`."""

    loss: Literal["bce", "dice", "iou", "bce+dice"] = Field(
        "bce",
        title="Loss",
        description="bce: binary cross-entropy, the robust choice for noisy labels; dice and iou: "
        "overlap, for rare structures with clean labels.",
        json_schema_extra=words(
            {
                "bce": "binary cross-entropy",
                "dice": "Dice",
                "iou": "IoU",
                "bce+dice": "binary cross-entropy + Dice",
            }
        ),
    )
    epochs: Annotated[int | None, BeforeValidator(_none_if_auto)] = Field(
        None,
        ge=1,
        le=10_000,
        title="Epochs",
        description="How often each pixel is seen on average. Empty (or auto): until the "
        "validation score has stopped rising.",
        json_schema_extra={"empty": "auto"},
    )
    time_limit: float | None = Field(
        1800,
        gt=0,
        title="Time limit",
        description="Seconds of training, if the number of epochs is left empty; the learning rate "
        "falls in time. Empty: no limit.",
    )
    validation_fraction: float = Field(
        0.2,
        ge=0,
        le=0.9,
        title="Validation fraction",
        description="Share of the labels used for validation only: the last images; with fewer "
        "than 10, the end of each image; of strokes, whole strokes.",
    )
    as_mask: bool = Field(
        False,
        title="Train on the mask",
        description="Treat every label except 0 as the same class; for labels that number each "
        "object.",
    )
    unannotated: bool = Field(
        False,
        title="0 is not annotated",
        description="For strokes: 0 is not annotated, 1 is background, 2 and more are objects. The "
        "result holds these values minus 1.",
    )
    ignore_label: int | None = Field(
        None,
        title="Ignore label",
        description="Pixels with this label (and with -1) do not count.",
    )
    augmentation: Annotated[float | None, BeforeValidator(_none_if_auto)] = Field(
        None,
        ge=0,
        le=2,
        title="Augmentation",
        description="Strength of random rotation, scaling, deformation, blur, contrast, brightness "
        "and noise of the patches; 0: off. Empty (or auto): 0.5 for fewer than a million "
        "annotated pixels, else 0.",
        json_schema_extra={"empty": "auto"},
    )
    class_weights: bool = Field(
        False,
        title="Weigh rare classes",
        description="Give rare classes more weight in the cross-entropy, by the inverse square "
        "root of their share. Not with stated noise, whose correction it would bias.",
    )
    pretrained: bool = Field(
        False,
        title="Pretrained encoder",
        description="DeepLabv3+, HRNet and smp networks: start with weights learnt on photographs "
        "(ImageNet), which are downloaded.",
    )
    mirror_averaging: bool = Field(
        False,
        title="Mirror averaging",
        description="Average predictions over mirror images of each tile: slightly better, but "
        "takes four times as long.",
    )
    early_stopping: bool = Field(
        True,
        title="Stop early",
        description="If the label noise is known, stop when the loss falls below what the true "
        "labels would give: from then on the network memorises the noise.",
    )

    @model_validator(mode="after")
    def _pretrained_fits(self):
        if self.pretrained and not is_smp(self.network):
            raise ValueError(f"there are no pretrained weights for {self.network}")
        return self

    @model_validator(mode="after")
    def _weights_fit(self):
        if self.class_weights and self.loss != "bce":
            raise ValueError(
                "class_weights need loss='bce'; overlap losses give every class the same "
                "weight anyway."
            )
        return self
