"""What a step of `train` costs, against the bare forward, backward and optimiser step.

Run: python benchmarks/training_step.py. The bar: a step of the loop, with its patches cut from the
images, its schedule and its events, takes at most 1.05 times as long as the bare step of the same
network, loss, optimiser and batch size in the same run. Both take turns, and the medians count.
"""

import statistics
import time

import numpy as np
import torch
from _timing import tubes

from napari_metastructure import TrainingConfig, train
from napari_metastructure.jobs.devices import autocast, pick_device
from napari_metastructure.jobs.events import Step
from napari_metastructure.learning.losses import LOSSES
from napari_metastructure.learning.networks import build

ROUNDS = 21
SETTINGS = {
    "unet, 16 channels": {},
    "unet, 8 channels": {"channels": 8},
    "attention_unet, 8 channels": {"network": "attention_unet", "channels": 8},
    "segresnet, 8 channels": {"network": "segresnet", "channels": 8},
    "unet, 8 channels, dice": {"channels": 8, "loss": "dice"},
    "unet, 8 channels, 3-D": {"channels": 8, "spatial_dims": 3, "patch_size": 32},
}

labels = np.stack([tubes((256, 256), seed) for seed in range(16)])
images = np.random.default_rng(0).normal(1000 + 400.0 * labels, 150).astype(np.uint16)


def loop(config):
    """The steps of `train`, one per call."""
    job = train(images, labels, config, validation_fraction=0, epochs=10_000)

    def step():
        while not isinstance(next(job), Step):
            pass

    return step


def bare(config, memory_format):
    """Nothing but the step itself, on one batch that is there already."""
    device = pick_device(config.device)
    side = (min(config.patch_size, 16), *[config.patch_size] * 2)[-config.spatial_dims :]
    x = torch.randn(config.batch_size, 1, *side).to(device, memory_format=memory_format)
    y = (torch.rand(config.batch_size, *side) < 0.3).long().to(device)
    network = build(
        config.network,
        spatial_dims=config.spatial_dims,
        channels=config.channels,
        depth=config.depth,
    ).to(device, memory_format=memory_format)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def step():
        with autocast(device):
            loss = LOSSES[config.loss](network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def medians(functions):
    """Seconds that each takes; they take turns, in an order drawn anew for each round."""
    rng, times = np.random.default_rng(0), [[] for _ in functions]
    for _ in range(2 + ROUNDS):
        for index in rng.permutation(len(functions)):
            start = time.perf_counter()
            functions[index]()
            times[index].append(time.perf_counter() - start)
    return [statistics.median(t[2:]) for t in times]


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads, {torch.__version__}; medians of {ROUNDS} steps each")
    print(f"{'':28s}{'bare ms':>9s}{'train ms':>9s}{'ratio':>7s}   contiguous bare ms")
    for name, params in SETTINGS.items():
        config = TrainingConfig(**params)
        last = torch.channels_last if config.spatial_dims == 2 else torch.channels_last_3d
        steps = loop(config), bare(config, last), bare(config, torch.contiguous_format)
        train_ms, bare_ms, other_ms = (1000 * median for median in medians(steps))
        print(f"{name:28s}{bare_ms:9.1f}{train_ms:9.1f}{train_ms / bare_ms:7.3f}{other_ms:12.1f}")
