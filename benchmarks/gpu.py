"""All that only a GPU can tell, in one table; at most eight minutes.

    python benchmarks/gpu.py

Training step against the bare step with mixed precision (goal: at least 90 % of its speed),
memory formats, compiling, the largest batch, a real lack of memory, memory before and after,
prediction, the published settings, strokes to result, CPU against GPU. Without a GPU it says so
and ends with 0; ``--device cpu --small`` tries the script itself.
"""

import argparse
import time

import numpy as np
import torch
from _timing import milliseconds, tubes
from training_step import bare, images, labels, loop, medians

import napari_metastructure as nms
from napari_metastructure import TrainingConfig
from napari_metastructure.jobs.devices import PeakMemory, autocast, pick_device, release_memory
from napari_metastructure.jobs.events import Round, Step
from napari_metastructure.learning.losses import LOSSES
from napari_metastructure.learning.networks import build
from napari_metastructure.learning.trainer import Trainer

BUDGET = 8 * 60  # s
SETTINGS = {
    "U-Net, 8 channels": {"channels": 8},
    "U-Net, 64 channels": {"channels": 64},
    "SegResNet, 16 channels": {"network": "segresnet", "channels": 16},
    "U-Net 3-D, 8 channels": {"channels": 8, "spatial_dims": 3, "patch_size": 32},
}
QUICK = {"epochs": 1, "validation_fraction": 0, "seed": 0}


class Table:
    """Rows that are printed as they come, until the time is over."""

    def __init__(self):
        self.begun = time.perf_counter()

    def row(self, name, value, unit, remark=""):
        """Print one figure."""
        print(f"{name:44s}{value:12.4g} {unit:12s}{remark}", flush=True)

    def rows_of(self, section, *arguments):
        """Let a section print its rows; one that fails or comes too late is told, not fatal."""
        if time.perf_counter() - self.begun > BUDGET:
            print(f"{section.__name__}: left out, the time is over")
            return
        try:
            section(self, *arguments)
        except Exception as error:
            print(f"{section.__name__}: FAILED, {type(error).__name__}: {error}", flush=True)


def steps(table, device, small):
    """A step of `train` against the bare one, memory formats and the compiler."""
    for name, params in list(SETTINGS.items())[: 1 if small else None]:
        config = TrainingConfig(device=str(device), **params)
        last = torch.channels_last if config.spatial_dims == 2 else torch.channels_last_3d
        ours, plain, contiguous = medians(
            [loop(config), bare(config, last), bare(config, torch.contiguous_format)]
        )
        table.row(f"{name}: bare step", 1000 * plain, "ms")
        table.row("  train, speed against the bare step", 100 * plain / ours, "%", "goal: 90")
        table.row("  channels_last against contiguous", contiguous / plain, "times faster")
    config = TrainingConfig(device=str(device), compile=True, channels=8)
    plain, compiled = medians([loop(config.of(config, compile=False)), loop(config)])
    table.row("U-Net, 8 channels: compiled against not", plain / compiled, "times faster")


def largest_batch(table, device, small):
    """Patches of 256 x 256 in one go before a batch is done in parts."""
    network = build("unet", spatial_dims=2, channels=8, depth=4, seed=0)
    trainer = Trainer(network, LOSSES["bce"], steps=1000, learning_rate=1e-3, device=device)
    size = 4
    while trainer.parts == 1 and size < (8 if small else 2**14):
        size *= 2
        trainer.step(
            np.zeros((size, 1, 256, 256), np.float32), np.zeros((size, 256, 256), np.int64)
        )
    remark = "" if trainer.parts > 1 else "all that was tried"
    table.row("largest batch, U-Net, 8 channels", size // trainer.parts, "patches", remark)


def no_memory(table, device, _):
    """A training on a hundredth of the GPU's memory ends, with a note on the parts."""
    if device.type != "cuda":
        print("lack of memory: only on a CUDA GPU")
        return
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        done = nms.train(images, labels, device=str(device), batch_size=128, channels=64, **QUICK)
        last = done.run(hidden=True)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    notes = [note for note in last.record.get("notes", []) if "out of memory" in note]
    table.row("halvings of the batch on 1 % of the memory", len(notes), "times", *notes[-1:])


def memory_after(table, device, _):
    """Memory that trainings and predictions leave behind."""

    def work():
        done = nms.train(images, labels, device=str(device), channels=4, **QUICK).run(hidden=True)
        done.model.predict(images[0])

    work()
    release_memory(device)
    before = PeakMemory(device).look()
    for _ in range(3):
        work()
    release_memory(device)
    table.row(
        "memory after 3 more trainings", (PeakMemory(device).look() - before) / 1e6, "MB more"
    )


def prediction(table, device, small):
    """Megapixels per second, on the device and on the CPU."""
    side = 512 if small else 2048
    image = np.random.default_rng(0).integers(0, 4096, (4, side, side)).astype(np.uint16)
    done = nms.train(images, labels, device=str(device), channels=8, **QUICK).run(hidden=True)
    speeds = {}
    for where in dict.fromkeys((str(device), "cpu")):
        model, planes = done.model.to(where), image if where != "cpu" else image[:1]
        model.predict(planes[:1])
        begun = time.perf_counter()
        model.predict(planes, labels=True)
        speeds[where] = planes.size / 1e6 / (time.perf_counter() - begun)
        table.row(f"prediction on {where}", speeds[where], "Mpx/s")


def cpu_against(table, device, _):
    """One bare step on the CPU over one on the device."""
    config = TrainingConfig(channels=8)
    where = config.of(config, device=str(device)), config.of(config, device="cpu")
    fast, slow = medians([bare(each, torch.channels_last) for each in where])
    table.row("GPU against CPU, bare step", slow / fast, "times faster")


def bare_forward(table, device, small):
    """Prediction with nothing around it."""
    side = 512 if small else 2048
    network = build("unet", spatial_dims=2, channels=8, depth=4, seed=0).to(device).eval()
    x = torch.zeros(1, 1, side, side, device=device)

    def forward():
        with torch.inference_mode(), autocast(device):
            network(x).sum().item()

    forward()
    speed = side * side / 1e3 / milliseconds(forward, repeats=3)
    table.row("bare network, one plane at a time", speed, "Mpx/s")


def published(table, device, small):
    """Iterative ground truth training with the published settings, a few epochs."""
    given = {"channels": 4, "depth": 3, "batch_size": 2, "patch_size": 64} if small else {}
    begun, count = None, 0
    job = nms.segment(images, mode="paper", epochs=2, seed=0, device=str(device), **given)
    for event in job:
        if isinstance(event, Step):
            begun, count = begun or time.perf_counter(), count + 1
        if isinstance(event, Round) and small:
            job.stop()
    if count > 1:
        table.row(
            "paper mode, steps with all around them", (time.perf_counter() - begun) / count, "s"
        )


def strokes(table, device, small):
    """From 20 strokes on one of ten planes to the masks of all."""
    side = 128 if small else 512
    masks = np.stack([tubes((side, side), seed) for seed in range(10)])
    planes = np.random.default_rng(0).normal(1000 + 400.0 * masks, 150).astype(np.uint16)
    painted = np.zeros_like(masks)
    for row in np.linspace(8, side - 8, 20).astype(int):
        painted[0, row : row + 2, 10:60] = masks[0, row : row + 2, 10:60] + 1
    begun = time.perf_counter()
    given = {"time_limit": 5} if small else {}
    done = nms.segment(planes, strokes=painted, seed=0, device=str(device), **given)
    done.run(hidden=True)
    table.row("20 strokes to all masks, 10 planes", time.perf_counter() - begun, "s")


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="try the script in a minute")
    asked = parser.parse_args()
    device = pick_device(asked.device)
    if device.type == "cpu" and asked.device == "auto":
        print("no GPU")
        return
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    print(f"{named}; torch {torch.__version__}; {torch.get_num_threads()} threads")
    table = Table()
    for section in (
        steps,
        prediction,
        bare_forward,
        cpu_against,
        largest_batch,
        no_memory,
        memory_after,
        strokes,
        published,
    ):
        table.rows_of(section, device, asked.small)


if __name__ == "__main__":
    main()
