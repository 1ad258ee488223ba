"""What it costs that a stack is larger than memory: time, against arrays in memory, and memory.

Run: python benchmarks/larger_than_memory.py [--gigabytes 10] [--percent 3] [--folder FOLDER]. It
makes a synthetic stack of planes of 2048 x 2048 uint16 with labels, as Zarr in chunks of
512 x 512, and deletes it after. Bars: resident memory at its peak less than 2 GB above that of the
idle process; prediction at most 1.15 times the time of the bare network on the same tiles;
training at most 1.2 times that from memory. What is compared takes turns, plane by plane and step
by step.
"""

import argparse
import gc
import shutil
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import torch
from _timing import tubes

from napari_metastructure import TrainingConfig, train
from napari_metastructure.files.ome_zarr import create_image, open_image
from napari_metastructure.jobs.events import Progress, Step
from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.learning.prediction import predict

warnings.filterwarnings("ignore")
SIDE, CHUNK, DISTINCT, TILE, TILES = 2048, 512, 4, 512, 25


class Peak:
    """Most memory that the process holds, in bytes above what it held before."""

    def __enter__(self):
        gc.collect()
        self.process = psutil.Process()
        self.idle = self.most = self.process.memory_info().rss
        self.running = True
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while self.running:
            self.most = max(self.most, self.process.memory_info().rss)
            time.sleep(0.02)

    def __exit__(self, *_):
        self.running = False
        self.thread.join()
        print(f"  memory at its peak, above idle: {(self.most - self.idle) / 2**20:.0f} MB")


def planes_in_memory():
    """A few different planes and their labels."""
    rng = np.random.default_rng(0)
    labels = [tubes((SIDE, SIDE), seed) for seed in range(DISTINCT)]
    images = [(rng.normal(1000 + 400.0 * label, 150) / 16).astype(np.uint16) for label in labels]
    return images, labels


def write_stack(path, planes, count):
    """A Zarr stack that repeats some planes; their chunks are encoded once, and all are written."""
    stack = create_image(path, (count, SIDE, SIDE), planes[0].dtype, chunks=(1, CHUNK, CHUNK))
    for number, plane in enumerate(planes):
        stack[number] = plane
    folder = Path(path) / "0" / "c"
    for number in range(len(planes), count):
        shutil.copytree(folder / str(number % len(planes)), folder / str(number))
    stack.finish()
    return open_image(path).array


def prediction(stack, folder, percent):
    """Planes of the whole stack, against the bare network on as many tiles."""
    model = SegmentationModel(
        {
            "network": "unet",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 1,
            "channels": 4,
            "depth": 3,
        },
        [0, 1],
        seed=0,
    )
    network = model.network.eval().to(memory_format=torch.channels_last)
    count = max(2, round(stack.shape[0] * percent / 100))
    tile = torch.randn(1, 1, TILE, TILE).contiguous(memory_format=torch.channels_last)

    def bare():
        with torch.inference_mode():
            for _ in range(TILES):
                network(tile)

    bare()
    times, bare_times = [], []
    with Peak():
        out = create_image(folder / "out.ome.zarr", stack.shape, "float32")
        start = time.perf_counter()
        job = predict(model, stack, out=out, tile=TILE)
        for event in job:
            if not isinstance(event, Progress) or event.done % TILES:
                continue
            assert event.total == TILES * stack.shape[0]
            # the plane is read, predicted and written by now
            times.append(time.perf_counter() - start)
            start = time.perf_counter()
            bare()
            bare_times.append(time.perf_counter() - start)
            if len(times) == count + 1:
                break
            start = time.perf_counter()
        job.close()
    seconds, bare_seconds = sum(times[1:]), sum(bare_times[1:])
    print(
        f"  {count} of {stack.shape[0]} planes, streamed to Zarr: {seconds / count:.2f} s per "
        f"plane, bare network {bare_seconds / count:.2f} s, ratio {seconds / bare_seconds:.3f}"
    )


def steps_of(images, labels):
    """The steps of a training, one per call; the first brings the start with it."""
    config = TrainingConfig(epochs=1, validation_fraction=0, seed=0)
    job = train(images, labels, config)

    def step():
        while not isinstance(next(job), Step):
            pass

    return step


def training(image_stack, label_stack, images, labels, steps):
    """From Zarr, against from memory: the planes of which the stack is made."""
    numbers = [number % DISTINCT for number in range(image_stack.shape[0])]
    memory = steps_of([images[n] for n in numbers], [labels[n] for n in numbers])
    with Peak():
        both = {"Zarr": steps_of(image_stack, label_stack), "memory": memory}
        times = {name: [] for name in both}
        for number in range(1 + steps):
            for name in sorted(both, reverse=number % 2):
                start = time.perf_counter()
                both[name]()
                times[name].append(time.perf_counter() - start)
    for name, seconds in times.items():
        print(
            f"  {name:7s}start and first step {seconds[0]:6.1f} s, then {steps} steps "
            f"of {np.mean(seconds[1:]):.3f} s (median {np.median(seconds[1:]):.3f} s)"
        )
    ratio = sum(times["Zarr"][1:]) / sum(times["memory"][1:])
    whole = sum(times["Zarr"]) / sum(times["memory"])
    print(f"  ratio of the steps {ratio:.3f}, with the start {whole:.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--percent", type=float, default=3)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args()
    count = round(options.gigabytes * 1e9 / (2 * SIDE**2))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        folder = Path(folder)
        images, labels = planes_in_memory()
        image_stack = write_stack(folder / "images.ome.zarr", images, count)
        label_stack = write_stack(folder / "labels.ome.zarr", labels, count)
        print(
            f"{count} planes of {SIDE} x {SIDE} uint16, {image_stack.nbytes / 1e9:.1f} GB, made in "
            f"{time.perf_counter() - began:.0f} s; {torch.get_num_threads()} threads"
        )
        print("prediction")
        prediction(image_stack, folder, options.percent)
        print("training")
        training(image_stack, label_stack, images, labels, options.steps)
    print(f"all of it took {time.perf_counter() - began:.0f} s")
