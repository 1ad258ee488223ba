"""Unsupervised segmentation against the filters that need no training.

Run: python benchmarks/unsupervised.py DATA [--sets er mito] [--seeds 5] [--quick]. DATA holds
SET/images/*.tif and SET/masks/*.tif. Networks see the images of the first 75 % of the files, and
are scored on the last 25 %; masks serve for scoring alone. Dice is pooled over all pixels: "own"
at the threshold of the model or filter, "best" at the best one.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

import napari_metastructure as nms
from napari_metastructure.few_labels.filters import filter_mask
from napari_metastructure.labels.metrics import evaluate

# foreground value (None: any) and polarity
SETS = {
    "er": (None, "bright"),
    "mito": (None, "bright"),
    "nuclei_dsb2018": (None, "bright"),
    "em_vnc_multiclass": (1, "dark"),
}
FILTERS = ("otsu", "li", "triangle", "sato")
_REDUCED = {"mode": "paper", "channels": 8, "depth": 4, "epochs": 30, "batch_size": 8}
VARIANTS = {
    "robust": {},
    "robust, no augmentation": {"augmentation": 0},
    "robust, Otsu start": {"start": "otsu"},
    "robust, Li start": {"start": "li"},
    "robust, Sato start": {"start": "sato"},
    "robust, 2 rounds": {"rounds": 2},
    "robust, EMS": {"ems": True, "loss": "signed_dmi+iou"},
    "paper (reduced)": _REDUCED,
    "paper (reduced), no EMS": {**_REDUCED, "ems": False},
}


def load(folder, foreground):
    """Images, boolean masks, and how many belong to the part for training."""
    files = sorted((folder / "images").glob("*.tif"))
    images = [tifffile.imread(file) for file in files]
    masks = [tifffile.imread(folder / "masks" / file.name) for file in files]
    masks = [mask > 0 if foreground is None else mask == foreground for mask in masks]
    return images, masks, len(files) - round(0.25 * len(files))


def dice(masks, truths):
    both = sum(np.count_nonzero(mask & truth) for mask, truth in zip(masks, truths))
    return 2 * both / sum(mask.sum() + truth.sum() for mask, truth in zip(masks, truths))


def score(images, truths, cut, polarity, params, seed):
    """Own Dice, best Dice, AUC and seconds of one run."""
    start = time.perf_counter()
    *_, done = nms.segment(images[:cut], seed=seed, polarity=polarity, device="cpu", **params)
    seconds = time.perf_counter() - start
    probabilities = [done.model.predict(image) for image in images[cut:]]
    own = dice([p > done.model.threshold for p in probabilities], truths[cut:])
    scores = evaluate(np.stack(truths[cut:]).astype(int), np.stack(probabilities))
    return own, scores["dice"], scores["auc"], seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="every 8th file, 1 seed, 1 epoch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{'set':18s}{'method':26s}{'own':>7s}{'std':>7s}{'best':>7s}{'AUC':>7s}{'s':>6s}{'seeds':>6s}"
    )
    for name in options.sets:
        foreground, polarity = SETS[name]
        images, truths, cut = load(options.data / name, foreground)
        seeds = options.seeds
        if options.quick:
            images, truths, seeds = images[::8], truths[::8], 1
            cut = len(images) - max(1, round(0.25 * len(images)))
        for method in FILTERS:
            masks = [filter_mask(image, method, polarity) > 0 for image in images[cut:]]
            print(f"{name:18s}{method:26s}{dice(masks, truths[cut:]):7.3f}", flush=True)
        for method in options.variants:
            params = {**VARIANTS[method], **({"epochs": 1} if options.quick else {})}
            runs = np.array(
                [score(images, truths, cut, polarity, params, seed) for seed in range(seeds)]
            )
            own, best, auc, seconds = runs.mean(0)
            print(
                f"{name:18s}{method:26s}{own:7.3f}{runs[:, 0].std():7.3f}{best:7.3f}{auc:7.3f}"
                f"{seconds:6.0f}{seeds:6d}",
                flush=True,
            )


if __name__ == "__main__":
    main()
