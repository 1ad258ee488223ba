"""Does `density.kept` predict what a network learns? Trained on 14 corruptions of one data set.

Run: python benchmarks/figure_of_merit.py FOLDER [--epochs 8] [--channels 8] [--seeds 1] [--quick]

FOLDER holds ``images/`` and ``masks/`` with TIFF files of the same names; the last quarter of the
files is never trained on. Dice is the best over all thresholds, upright or inverted, so that it
tells what the network has learnt and not how well a threshold was chosen. Prints a table and
Spearman's correlation of the figure of merit with the Dice, for each seed. ``--quick`` is a smoke
run on a few simulated images.
"""

import argparse
from pathlib import Path

import numpy as np
from noisy_labels import read

import napari_metastructure as nms
from napari_metastructure.labels import density
from napari_metastructure.labels.noise import NoiseSpec
from napari_metastructure.plugin import samples

CORRUPTIONS = [
    {"kind": "sample", "fraction": 1.0},
    {"kind": "sample", "fraction": 0.1},
    {"kind": "flip", "ratio": 0.4},
    {"kind": "flip", "ratio": 0.7},
    {"kind": "shift", "radius": 1},
    {"kind": "shift", "radius": 3},
    *({"kind": "dilate", "radius": radius} for radius in (1, 2, 3, 5)),
    *({"kind": "erode", "radius": radius} for radius in (1, 2)),
    {"kind": "skeletonize"},
    {"kind": "random"},
]


def main():
    from scipy.stats import spearmanr

    options = parsed()
    if options.quick:
        images, masks = samples.simulate_fields(samples.simulate_er, 12, (128, 128))
    else:
        images, masks = read(options.folder)
    cut = len(images) * 3 // 4
    print(f"{cut} images to train on, {len(images) - cut} to score")
    print("| labels | kept | best Dice |")
    print("|---|---|---|")
    seeds, rows = range(options.seeds), []
    for corruption in CORRUPTIONS:
        runs = np.array([score(images, masks, cut, corruption, seed, options) for seed in seeds])
        rows.append(runs)
        name = NoiseSpec(**corruption).summary()
        spread = f" ± {runs[:, 1].std():.3f}" if options.seeds > 1 else ""
        kept, dice = runs.mean(0)
        print(f"| {name} | {kept:.3f} | {dice:.3f}{spread} |", flush=True)
    for seed, (kept, dice) in enumerate(np.moveaxis(rows, 0, -1)):
        print(f"Spearman's correlation, seed {seed}: {spearmanr(kept, dice).statistic:.3f}")


def parsed():
    shared = Path(__file__).parents[2] / "shared" / "data" / "er"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=shared)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.epochs, options.channels = 8, 4
    return options


def score(images, masks, cut, corruption, seed, options):
    """The figure of merit of the labels, and the Dice of a network trained on them."""
    spec = NoiseSpec(**corruption, seed=seed)
    labels = nms.corrupt(masks[:cut], spec)
    *_, done = nms.train(
        images[:cut],
        labels,
        noise=spec,
        epochs=options.epochs,
        channels=options.channels,
        patch_size=64 if options.quick else 128,
        validation_fraction=0.1,
        seed=seed,
    )
    probability = done.model.predict(images[cut:])
    upright, inverted = probability, 1 - probability
    dice = max(nms.metrics.evaluate(masks[cut:], p)["dice"] for p in (upright, inverted))
    return density.kept(masks[:cut], labels), dice


if __name__ == "__main__":
    main()
