"""What centre lines alone teach: masks of full width from labels one pixel thin.

Run: python benchmarks/centre_lines.py DATA [--sets vessels mito] [--seeds 1] [--cache FILE]

DATA holds SET/images/*.tif and SET/masks/*.tif. The lines are the skeletons of the masks, as one
would draw them. A network of 8 channels learns, at default settings otherwise, the masks or
their lines; Dice over all pixels of images that it did not see: vessels the second half, mito the
last quarter (20 images of it). Finished runs are kept in the cache.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import tifffile
import torch

import napari_metastructure as nms

SHARE = {"vessels": 0.5, "mito": 0.75, "er": 0.75}  # trained on; the rest is scored
_MOST_SCORED = 20


def main():
    options = parsed()
    torch.set_num_threads(options.threads)
    known = json.loads(options.cache.read_text()) if options.cache.exists() else {}
    print("| set | labels | labels themselves | above 0.5 | own threshold | best | seed |")
    print("|---|---|---|---|---|---|---|")
    for name in options.sets:
        for seed in range(options.seeds):
            for kind in ("masks", "lines"):
                key = f"{name} {kind} {seed}"
                if key not in known:
                    known[key] = run(options.data / name, SHARE[name], kind, seed)
                    options.cache.write_text(json.dumps(known, indent=1))
                cells = [f"{known[key][c]:.3f}" for c in ("labels", "half", "own", "best")]
                print(f"| {name} | {kind} | {' | '.join(cells)} | {seed} |", flush=True)


def run(folder, share, kind, seed):
    """Dice of the labels with the masks, and of the network at three thresholds."""
    files = sorted((folder / "images").glob("*.tif"))
    images = np.stack([tifffile.imread(file) for file in files])
    masks = np.stack([tifffile.imread(folder / "masks" / file.name) > 0 for file in files])
    masks = masks.astype(np.uint8)
    cut, labels, noise = round(share * len(files)), masks, None
    if kind == "lines":
        noise = nms.NoiseSpec(kind="skeletonize")
        labels = nms.corrupt(masks, noise)
    config = {"channels": 8, "seed": seed, "device": "cpu"}
    done = nms.train(images[:cut], labels[:cut], config, noise=noise).run(hidden=True)
    scored = np.linspace(cut, len(files) - 1, min(len(files) - cut, _MOST_SCORED)).astype(int)
    probability, truth = done.model.predict(images[scored]), masks[scored]
    best = nms.metrics.evaluate(truth, probability)
    return {
        "labels": dice(truth, labels[scored]),
        "half": dice(truth, probability > 0.5),
        "own": dice(truth, done.model.decide(probability)),
        "best": best["dice"],
        "threshold": done.model.threshold,
        "source": done.model.threshold_source,
        "steps": done.record["steps"],
        "notes": done.record["notes"],
    }


def dice(truth, found):
    return float(2 * np.sum((truth > 0) & (found > 0)) / (np.sum(truth > 0) + np.sum(found > 0)))


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=["vessels", "mito"], choices=list(SHARE))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cache", type=Path, default=Path("centre_lines.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
