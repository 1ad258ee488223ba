"""A long training on noisy labels: first the structure is learnt, then the noise is memorised.

Run: python benchmarks/learning_curves.py FOLDER [--flip 0.4] [--crops 16] [--side 64]
     [--channels 16] [--steps 1000] [--out learning_curves]

FOLDER holds ``images/`` and ``masks/`` with TIFF files of the same names. A U-Net is trained on a
few crops, few enough to be memorised, with a share of their pixels flipped; every few epochs
it is scored against the clean masks of other images. Prints what early stopping would have kept,
by the rule of `train` (the loss falls below the entropy of the noise) and by the noisy validation
labels, and writes the curves as CSV and PNG.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from noisy_labels import read

import napari_metastructure as nms
from napari_metastructure.jobs.events import Step, Validated
from napari_metastructure.learning.losses import noise_floor

PER_EPOCH = 5  # steps


def main():
    options = parsed()
    torch.set_num_threads(options.threads)
    images, masks = read(options.folder)
    where = (slice(options.crops), slice(options.side), slice(options.side))
    clean, cut = masks[where], len(images) * 3 // 4
    spec = nms.NoiseSpec(kind="flip", ratio=options.flip, seed=options.seed)
    noisy = nms.corrupt(clean, spec)
    matrix = nms.transition.of(spec, 2)
    share = float((noisy > 0).mean())
    floor = noise_floor(matrix, [1 - share, share])
    print(f"{clean.size} pixels, {options.flip:.0%} flipped; entropy of the noise {floor:.4f}")
    rows, losses, stopped = [], [], None
    job = nms.train(
        images[where],
        noisy,
        noise=spec,
        validation_images=images[cut : cut + options.scored],
        validation_labels=masks[cut : cut + options.scored],
        channels=options.channels,
        patch_size=options.side,
        batch_size=options.crops,
        epochs=options.steps // PER_EPOCH,
        min_steps=options.steps,
        learning_rate=options.learning_rate,
        early_stopping=False,
        seed=options.seed,
    )
    for event in job:
        if isinstance(event, Step):
            losses.append(event.loss)
            ends = event.step % PER_EPOCH == 0
            if stopped is None and ends and np.mean(losses[-PER_EPOCH:]) < floor:
                stopped = event.step
        elif isinstance(event, Validated):
            rows.append((event.step, float(np.mean(losses[-PER_EPOCH:])), event.dice, event.auc))
    steps, fits, dice, _ = map(np.array, zip(*rows))
    write(options.out, rows, floor, stopped)
    best = dice.argmax()
    print(f"best Dice {dice[best]:.3f} after {steps[best]} steps; at the end {dice[-1]:.3f}")
    if stopped is None:
        print(f"the loss never fell below the entropy of the noise: it ended at {fits[-1]:.4f}")
    else:
        at = np.searchsorted(steps, stopped).clip(max=len(steps) - 1)
        print(f"the rule stops after {stopped} steps, at a Dice of {dice[at]:.3f}")


def write(out, rows, floor, stopped):
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out.with_suffix(".csv"), "w", newline="") as file:
        csv.writer(file).writerows([("step", "training loss", "clean Dice", "clean AUC"), *rows])
    steps, fits, dice, _ = zip(*rows)
    drawing = Figure(figsize=(6, 3.6), layout="constrained")
    left = drawing.subplots()
    right = left.twinx()
    left.plot(steps, fits, color="tab:red")
    left.axhline(floor, color="tab:red", linestyle=":")
    right.plot(steps, dice, color="tab:blue")
    if stopped is not None:
        left.axvline(stopped, color="0.5", linestyle="--")
    left.set_xlabel("steps")
    left.set_ylabel("loss on noisy labels (dotted: floor)", color="tab:red")
    right.set_ylabel("Dice on other images", color="tab:blue")
    drawing.savefig(out.with_suffix(".png"), dpi=120)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--flip", type=float, default=0.4)
    parser.add_argument("--crops", type=int, default=16)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--scored", type=int, default=4)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("learning_curves"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
