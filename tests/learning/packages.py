"""Models whose packages are tested, without training."""

import numpy as np
import torch

from napari_metastructure.learning.model import SegmentationModel


def new_model(network="unet", spatial_dims=2, classes=(0, 1), channel_axis=None, **architecture):
    """A small model of random weights, of which the batch normalisation has seen something."""
    model = SegmentationModel(
        {
            "network": network,
            "spatial_dims": spatial_dims,
            "in_channels": 1 if channel_axis is None else 3,
            "out_channels": 1 if len(classes) == 2 else len(classes),
            "channels": 4,
            "depth": 3,
            **architecture,
        },
        classes,
        channel_axis=channel_axis,
        seed=0,
    )
    generator = torch.Generator().manual_seed(0)
    for module in model.network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model


def changed(model, **attributes):
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def image(*shape):
    return np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)


NOISE = (0.5 * np.eye(3) + 0.5 / 3).tolist()

CASES = {
    "unet": lambda: (new_model(), image(2, 60, 61)),
    "volumes": lambda: (new_model(spatial_dims=3, anisotropy=3.0), image(11, 24, 30)),
    "classes": lambda: (new_model("segresnet", classes=(0, 1, 7)), image(60, 50)),
    "colours": lambda: (new_model(channel_axis=-1), image(40, 50, 3)),
    "inverted": lambda: (changed(new_model("attention_unet"), inverted=True), image(40, 50)),
    "mirrors": lambda: (changed(new_model(), flips=True, inverted=True), image(40, 50)),
    "noise": lambda: (changed(new_model(classes=(0, 1, 2)), transition=NOISE), image(40, 50)),
}
