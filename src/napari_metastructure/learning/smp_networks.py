"""Networks of segmentation-models-pytorch, an optional library: 2-D, with any of its encoders."""

from importlib.util import find_spec
from typing import Any

__all__ = ["LEVELS", "SMP", "SMP_TITLES", "build_smp", "is_smp", "missing_library"]

SMP = {"deeplabv3plus": ("deeplabv3plus", "resnet34"), "hrnet": ("fpn", "tu-hrnet_w18")}
"""Architecture and encoder of those that have a name; others are ``smp:ARCHITECTURE/ENCODER``."""

SMP_TITLES = {"deeplabv3plus": "DeepLabv3+", "hrnet": "HRNet"}
"""What forms call them."""

LEVELS = 6
"""Of each of them: image sides are halved five times."""

_PREFIX = "smp:"


def is_smp(network: str) -> bool:
    """Whether a network is one of that library, by its name."""
    return network in SMP or (network.startswith(_PREFIX) and network.count("/") == 1)


def missing_library(network: str) -> str | None:
    """One sentence where a network needs the library and it is not installed; else None."""
    if not is_smp(network) or find_spec("segmentation_models_pytorch") is not None:
        return None
    return (
        f"The network {network} needs segmentation-models-pytorch: "
        "pip install 'napari-metastructure[networks]'."
    )


def build_smp(
    network: str, *, in_channels: int = 1, out_channels: int = 1, pretrained: bool = False
) -> Any:
    """Build a network for planes, with one logit map per output channel.

    Parameters
    ----------
    network : str
        A name in `SMP`, or ``smp:ARCHITECTURE/ENCODER`` with names of that library, such as
        ``smp:unetplusplus/efficientnet-b0``; encoders of timm begin with ``tu-``.
    in_channels, out_channels : int
        Image channels; logit maps.
    pretrained : bool
        Start from the encoder's weights for ImageNet, which are downloaded.

    Returns
    -------
    torch.nn.Module
        For sides that are multiples of 32.

    Raises
    ------
    ImportError
        If the library is missing, or torchvision, which it needs, does not fit torch.
    ValueError
        If there is no such architecture or encoder.
    OSError
        If the weights cannot be downloaded.
    """
    sentence = missing_library(network)
    if sentence is not None:
        raise ImportError(sentence)
    try:
        import segmentation_models_pytorch as smp
    except (ImportError, RuntimeError, OSError) as error:  # torchvision's own errors differ
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ImportError(
            f"segmentation-models-pytorch cannot be used ({reason}): usually because the "
            "versions of torchvision and torch do not match. Install both from the same place."
        ) from None
    architecture, encoder = SMP.get(network) or network.removeprefix(_PREFIX).split("/")
    options: dict[str, Any] = {"decoder_merge_policy": "cat"} if network == "hrnet" else {}
    try:
        return smp.create_model(
            architecture,
            encoder,
            encoder_weights="imagenet" if pretrained else None,
            in_channels=in_channels,
            classes=out_channels,
            **options,
        )
    except OSError as error:
        raise OSError(f"The weights of {encoder} could not be downloaded ({error}).") from None
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ValueError(
            f"segmentation-models-pytorch cannot build {network} ({reason})."
        ) from None
