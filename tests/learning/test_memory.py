"""What happens when a device runs out of memory, and what is told of memory."""

import numpy as np
import pytest
import torch

from napari_metastructure import train
from napari_metastructure.jobs.devices import is_out_of_memory
from napari_metastructure.jobs.events import Memory, Note, Step
from napari_metastructure.learning.losses import bce
from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.learning.prediction import predict
from napari_metastructure.learning.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

ARCHITECTURE = {"network": "unet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1}
ARCHITECTURE |= {"channels": 4, "depth": 3}
CPU = torch.device("cpu")


class Crowded(torch.nn.Module):
    """A network on a device that holds so many pixels and no more."""

    def __init__(self, network, pixels):
        super().__init__()
        self.network, self.pixels, self.seen = network, pixels, []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        if x.shape.numel() > self.pixels:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return self.network(x)


def batch(count=8, side=16):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, 1, side, side)).astype(np.float32)
    return images, (images[:, 0] > 0).astype(np.int64)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.84 GB)."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"
        ),
    ],
)
def test_devices_say_in_their_own_words_that_memory_is_short(error):
    assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("size mismatch"))


def test_training_goes_on_with_half_the_batch_and_says_so():
    model = SegmentationModel(ARCHITECTURE, [0, 1], seed=0)
    network = Crowded(model.network, pixels=2 * 16 * 16)
    trainer = Trainer(network, bce, steps=5, learning_rate=0.01, device=CPU)
    losses = [trainer.step(*batch()) for _ in range(5)]
    assert [shape[0] for shape in network.seen[:6]] == [8, 4, 2, 2, 2, 2]
    assert losses[-1] < losses[0]
    assert trainer.logits.shape[0] == 8
    events = list(trainer.pending_events())
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == trainer.notes
    assert notes[-1] == (
        "cpu ran out of memory: each batch of 8 patches is now split into 4 parts."
    )


def test_parts_of_a_batch_have_the_gradient_of_the_whole():
    """Without batch normalisation, which sees each part by itself."""
    gradients = []
    for pixels in (10**6, 2 * 16 * 16):
        torch.manual_seed(0)
        network = Crowded(torch.nn.Conv2d(1, 1, 3, padding=1), pixels)
        trainer = Trainer(network, bce, steps=2, learning_rate=0.01, device=CPU)
        trainer.step(*batch())
        gradients.append(network.network.weight.grad.clone())
    torch.testing.assert_close(*gradients)


def test_a_patch_that_never_fits_is_one_sentence():
    network = Crowded(torch.nn.Conv2d(1, 1, 3, padding=1), pixels=10)
    trainer = Trainer(network, bce, steps=5, learning_rate=0.01, device=CPU)
    with pytest.raises(
        RuntimeError, match=r"^Even one patch does not fit in the memory of cpu.*\.$"
    ):
        trainer.step(*batch())


@pytest.mark.parametrize(
    ("pixels", "said"),
    [(2 * 64 * 64, "2 tiles are now predicted at once"), (40 * 40, "tiles are 32 x 32 pixels now")],
)
def test_prediction_goes_on_with_less_at_a_time_and_says_so(pixels, said):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 96, 96)).astype(np.float32)
    model = SegmentationModel(ARCHITECTURE, [0, 1], seed=0)
    tiling = {"tile": 64, "overlap": 0.8, "batch_size": 4}
    expected = model.predict(image, **tiling)
    model.network = network = Crowded(model.network, pixels)
    *events, result = predict(model, image, **tiling)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert said in notes[-1]
    tolerance = 1e-5 if "once" in said else 0.2  # smaller tiles see less around them
    np.testing.assert_allclose(result.value, expected, atol=tolerance)
    second = network.seen[len(network.seen) // 2 :]
    assert all(np.prod(shape) <= pixels for shape in second)  # it is remembered


def test_an_image_that_never_fits_is_one_sentence():
    model = SegmentationModel(ARCHITECTURE, [0, 1], seed=0)
    model.network = Crowded(model.network, 10)
    with pytest.raises(RuntimeError, match=r"^Even a single tile of 32 x 32 .* memory of cpu.*\.$"):
        list(predict(model, np.zeros((64, 64), np.float32)))


def test_training_tells_its_memory(blobs):
    images, masks = blobs(4, seed=0, size=32)
    config = {"channels": 4, "depth": 3, "patch_size": 32, "epochs": 1, "min_steps": 1}
    *events, done = train(images, masks, device="cpu", **config)
    told = [event for event in events if isinstance(event, Memory)]
    assert told[0].device == "cpu"
    assert 2**26 < told[0].peak <= done.record["peak_memory"] < 2**36


def test_network_that_cannot_be_compiled_is_trained_as_it_is(blobs, monkeypatch):
    def fail(network, **_):
        def compiled(x):
            raise RuntimeError("no compiler\nand more")

        return compiled

    monkeypatch.setattr(torch, "compile", fail)
    images, masks = blobs(4, seed=0, size=32)
    config = {"channels": 4, "depth": 3, "patch_size": 32, "epochs": 2, "min_steps": 1, "seed": 0}
    *events, done = train(images, masks, device="cpu", compile=True, **config)
    text = "The network could not be compiled (no compiler); the training continues without it."
    assert done.record["notes"].count(text) == 1
    *others, _plain = train(images, masks, device="cpu", **config)
    losses = [event.loss for event in events if isinstance(event, Step)]
    assert losses == [event.loss for event in others if isinstance(event, Step)]
