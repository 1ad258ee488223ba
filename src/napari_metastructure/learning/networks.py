"""A registry of networks, MONAI's built from a name, a width and a depth.

Every network uses batch normalisation: in evaluation mode it acts on each pixel
by itself, so that tiled and whole-image predictions agree.
"""

import math
import threading
from importlib import import_module
from typing import Any

from napari_metastructure.arrays.axes import strides
from napari_metastructure.learning.smp_networks import build_smp, is_smp

__all__ = [
    "NETWORKS",
    "TITLES",
    "build",
    "initialise_bias",
    "load_networks",
    "monai_call",
    "raise_background",
]


_ONE_AT_A_TIME = threading.Lock()
_GLOBAL_GENERATOR = threading.Lock()  # MONAI draws first weights from it; one network at a time


def _unet(spatial_dims, in_channels, out_channels, widths, anisotropy=1.0):
    steps = [list(step) for step in strides(len(widths), spatial_dims, anisotropy)]
    # as in nnU-Net, no kernel spans an axis that is too coarse yet to be halved
    kernels = [[3 if step == 2 else 1 for step in level] for level in steps]
    return "DynUNet", {
        "spatial_dims": spatial_dims,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "kernel_size": [*kernels, 3],
        "strides": [1, *steps],
        "upsample_kernel_size": steps,
        "filters": widths,
        "norm_name": "BATCH",
    }


def _attention_unet(spatial_dims, in_channels, out_channels, widths, anisotropy=1.0):
    return "AttentionUnet", {
        "spatial_dims": spatial_dims,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "channels": widths,
        "strides": [2] * (len(widths) - 1),
    }


def _segresnet(spatial_dims, in_channels, out_channels, widths, anisotropy=1.0):
    return "SegResNet", {
        "spatial_dims": spatial_dims,
        "init_filters": widths[0],
        "in_channels": in_channels,
        "out_channels": out_channels,
        "norm": "BATCH",
        "blocks_down": [1] + [2] * (len(widths) - 1),
        "blocks_up": [1] * (len(widths) - 1),
    }


def _use_batch_normalisation(network):
    """In place of instance normalisation, which MONAI hard-codes in some layers."""
    from torch import nn

    batch = {nn.InstanceNorm2d: nn.BatchNorm2d, nn.InstanceNorm3d: nn.BatchNorm3d}
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) in batch:
                setattr(module, name, batch[type(child)](child.num_features))


NETWORKS = {"unet": _unet, "attention_unet": _attention_unet, "segresnet": _segresnet}
"""What each network is called in MONAI, and with which arguments; an entry here is all that a new
one needs."""

TITLES = {"unet": "U-Net", "attention_unet": "Attention U-Net", "segresnet": "SegResNet"}
"""What forms call them, where that differs from the name."""


def load_networks(optimisers: bool = False) -> Any:
    """MONAI's networks, imported: seconds, the first time.

    Two threads at it at once would each find the other's half-imported modules.

    Parameters
    ----------
    optimisers : bool
        Import, too, what the first optimiser would.
    """
    with _ONE_AT_A_TIME:
        if optimisers:
            import_module("torch._dynamo")
        return import_module("monai.networks.nets")


def build(
    network: Any,
    *,
    spatial_dims: int = 2,
    in_channels: int = 1,
    out_channels: int = 1,
    channels: int = 16,
    depth: int = 4,
    anisotropy: float = 1.0,
    pretrained: bool = False,
    seed: Any = None,
) -> Any:
    """Build a network that maps an image to one logit map per output channel.

    Parameters
    ----------
    network : str
        A name in `NETWORKS`, which are MONAI's, or one of segmentation-models-pytorch, see
        `smp_networks.build_smp`: 2-D, of a width and depth of their own.
    spatial_dims : {2, 3}
        Planes or volumes.
    in_channels, out_channels : int
        Image channels; logit maps (1 for two classes, else one per class).
    channels : int
        Width of the first level, at least 2; it doubles at each further level.
    depth : int
        Number of levels, at least 3. Image sides must be multiples of ``2 ** (depth - 1)``, or
        of `axes.multiples` with an anisotropy.
    anisotropy : float
        Size of a voxel along z over its size along y and x. The U-Net halves the finer axes
        first; the other networks take voxels for cubes.
    pretrained : bool
        Of those of segmentation-models-pytorch, the encoder begins with weights for ImageNet.
    seed : int, optional
        Seed of the random weights. The global random state is left alone.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ValueError
        If there is no network of that name, or it is for planes only.
    ImportError
        If its library is not installed.
    """
    import torch

    nets = load_networks()

    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        if is_smp(network):
            if spatial_dims != 2:
                raise ValueError(f"The network {network} is for planes (2-D) only.")
            return build_smp(
                network,
                in_channels=in_channels,
                out_channels=out_channels,
                pretrained=pretrained,
            )
        name, arguments = monai_call(
            network,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=channels,
            depth=depth,
            anisotropy=anisotropy,
        )
        built = getattr(nets, name)(**arguments)
        _use_batch_normalisation(built)
        return built


def monai_call(
    network: Any,
    *,
    spatial_dims: int = 2,
    in_channels: int = 1,
    out_channels: int = 1,
    channels: int = 16,
    depth: int = 4,
    anisotropy: float = 1.0,
) -> tuple[str, dict[str, Any]]:
    """The class in `monai.networks.nets` and its arguments, for the parameters of `build`.

    Returns
    -------
    name : str
    arguments : dict
        Only values that JSON can hold.

    Raises
    ------
    ValueError
        If there is no network of that name.
    """
    if network not in NETWORKS:
        raise ValueError(f"There is no network {network!r}; there are: {', '.join(NETWORKS)}.")
    widths = [channels * 2**level for level in range(depth)]
    return NETWORKS[network](spatial_dims, in_channels, out_channels, widths, anisotropy)


def initialise_bias(network: Any, shares: Any) -> None:
    """Set the last bias so that the first probabilities are the classes' shares.

    Without it, cross entropy spends its first steps on the shares, and probabilities near a
    small one, as sampled labels ask for, come out too high (Lin et al. 2017, arXiv 1708.02002,
    section 3.3).

    Parameters
    ----------
    network : torch.nn.Module
        From `build`; changed in place.
    shares : sequence of float
        Share of each class in the labels, background first.
    """
    import torch

    logits = [math.log(max(share, 1e-4)) for share in shares]
    if len(logits) == 2:
        logits = [logits[1] - logits[0]]
    with torch.no_grad():
        _last_bias(network).copy_(torch.tensor(logits))


def raise_background(network: Any, by: float) -> None:
    """Add to the logit of the background of a network of several classes; changed in place."""
    import torch

    with torch.no_grad():
        _last_bias(network)[0] += by


def _last_bias(network):
    import torch

    layers = [m for m in network.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Conv3d))]
    return layers[-1].bias
