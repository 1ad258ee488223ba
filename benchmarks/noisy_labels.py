"""What label noise costs: one U-Net trained on clean, sampled, flipped, dilated and random labels.

Run: python benchmarks/noisy_labels.py FOLDER [--epochs 12] [--channels 8] [--seeds 1]

FOLDER holds ``images/`` and ``masks/`` with TIFF files of the same names. The last quarter of the
files, in order of their names, is never trained on and is scored against the clean masks; the
training itself sees noisy labels only. Dice is pooled over all pixels, at the model's own
threshold and at the best one.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import tifffile

import napari_metastructure as nms

CORRUPTIONS = {
    "clean": None,
    "10 % sampled": {"kind": "sample", "fraction": 0.1},
    "45 % flipped": {"kind": "flip", "ratio": 0.45},
    "dilated by 2 px": {"kind": "dilate", "radius": 2},
    "random": {"kind": "random"},
}


def read(folder):
    """Images and masks as stacks."""
    files = sorted(Path(folder, "images").glob("*.tif"))
    masks = [tifffile.imread(Path(folder, "masks", file.name)) for file in files]
    return np.stack([tifffile.imread(file) for file in files]), np.stack(masks)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    images, masks = read(options.folder)
    cut = len(images) * 3 // 4
    begun = time.perf_counter()
    print(f"{cut} images to train on, {len(images) - cut} to score")
    print("| labels | Dice | best Dice | AUC | threshold | from | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, corruption in CORRUPTIONS.items():
        rows = [
            score(images, masks, cut, corruption, seed, options) for seed in range(options.seeds)
        ]
        figures = np.array([row[:4] for row in rows])
        mean, spread = figures.mean(0), figures.std(0)
        cells = [
            f"{m:.3f}" + (f" ± {s:.3f}" if options.seeds > 1 else "") for m, s in zip(mean, spread)
        ]
        print(f"| {name} | {' | '.join(cells)} | {rows[0][4]} | {rows[0][5]:.0f} |", flush=True)
    print(f"{time.perf_counter() - begun:.0f} s in all")


def score(images, masks, cut, corruption, seed, options):
    """Dice at the model's threshold, best Dice, AUC, threshold, its source and the seconds."""
    spec = corruption and nms.NoiseSpec(**corruption, seed=seed)
    labels = masks[:cut] if spec is None else nms.corrupt(masks[:cut], spec)
    started = time.perf_counter()
    *_, done = nms.train(
        images[:cut],
        labels,
        noise=spec,
        epochs=options.epochs,
        channels=options.channels,
        validation_fraction=0.1,
        seed=seed,
    )
    seconds = time.perf_counter() - started
    probability = done.model.predict(images[cut:])
    own = nms.metrics.evaluate(masks[cut:], done.model.decide(probability))
    best = nms.metrics.evaluate(masks[cut:], probability)
    source = done.model.threshold_source.split(" (")[0]
    return own["dice"], best["dice"], best["auc"], done.model.threshold, source, seconds


if __name__ == "__main__":
    main()
