"""Optimisation steps, and the average of the weights that is kept."""

import numpy as np
import pytest
import torch
from torch import nn

from napari_metastructure.learning.losses import bce
from napari_metastructure.learning.trainer import Trainer, running_average

CPU = torch.device("cpu")


def small_network():
    return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))


def test_the_average_spans_about_the_last_tenth_of_the_steps():
    network = nn.Conv2d(1, 1, 1)
    average = running_average(network)
    for step in range(1, 1001):
        nn.init.constant_(network.weight, step)
        average.update_parameters(network)
    assert average.module.weight.item() == pytest.approx(1000 * 10 / 11, abs=1)


def test_weights_that_go_to_and_fro_average_out():
    network = nn.Conv2d(1, 1, 1)
    average = running_average(network)
    for step in range(1000):
        nn.init.constant_(network.weight, 3 + (-1) ** step)
        average.update_parameters(network)
    assert average.module.weight.item() == pytest.approx(3, abs=0.01)


def test_a_trainer_averages_weights_and_statistics():
    torch.manual_seed(0)
    network, rng = small_network(), np.random.default_rng(0)
    trainer = Trainer(network, bce, steps=30, learning_rate=0.1, device=CPU, averaging=True)
    expected = {}
    for step in range(1, 31):
        image = rng.normal(size=(2, 1, 8, 8)).astype(np.float32)
        trainer.step(image, (image[:, 0] > 0).astype(np.int64))
        share = 10 / (step + 9)
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                before = expected.get(name, 0)
                expected[name] = before + share * (value.numpy().copy() - before)
    found = trainer.average.module.state_dict()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-4, atol=1e-6)
    assert not torch.equal(found["0.weight"], network[0].weight)
    assert not trainer.average.module.training


def test_without_averaging_there_is_none():
    trainer = Trainer(small_network(), bce, steps=1, learning_rate=0.1, device=CPU)
    assert trainer.average is None


def test_a_batch_in_parts_is_not_compiled():
    """What a graph on a GPU returns lasts only until it runs again, for the next part."""
    trainer = Trainer(small_network(), bce, steps=1, learning_rate=0.1, device=CPU)
    trainer._compiled = trainer.network
    trainer._halve(4)
    assert trainer._compiled is None
    assert any("batches are split" in str(event) for event in trainer.pending_events())
