"""Planes against volumes on two anisotropic stacks: trained with labels, and without.

Run: python benchmarks/three_dimensions.py DATA [--sets ...] [--seeds 1] [--steps 150]. DATA
holds nuclei3d_mouse_embryo and em3d_vnc_multiclass, each with images/000.tif and masks/000.tif. The
left half of each stack is trained on, the right half is scored: Dice over all its pixels, at the
model's own threshold; of the classes of the EM stack their mean (membrane, glia; mitochondria
and synapses hardly occur). All networks take as many steps, each on as many pixels. Without labels
("no labels") the masks serve for scoring alone.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

import napari_metastructure as nms
from napari_metastructure.few_labels.filters import filter_mask

# size of a voxel along z over that along y and x; classes to score; what networks without labels
# look for; patch size; patches per step in each way
SETS = {
    "nuclei3d_mouse_embryo": (2.18, (1,), "bright", 32, (64, 2, 4)),
    "em3d_vnc_multiclass": (10.9, (1, 4), "dark", 64, (24, 1, 4)),
}
WAYS = ("2-D", "3-D, cubes", "3-D, voxels")


def halves(stack):
    middle = stack.shape[-1] // 2
    return stack[..., :middle], stack[..., middle:]


def dice(truth, found):
    both = 2 * np.count_nonzero(truth & found)
    return both / max(np.count_nonzero(truth) + np.count_nonzero(found), 1)


def parameters(way, name, options, seed):
    ratio, _, _, patch_size, batch_sizes = SETS[name]
    return {
        "spatial_dims": 2 if way == "2-D" else 3,
        "anisotropy": ratio if way == "3-D, voxels" else 1,
        "patch_size": patch_size,
        "batch_size": batch_sizes[WAYS.index(way)],
        "channels": options.channels,
        "epochs": 1,
        "min_steps": options.steps,
        "device": "cpu",
        "seed": seed,
    }


def run(job, image):
    """The model's labels of the image, and seconds of training and of prediction."""
    started = time.perf_counter()
    *_, done = job
    trained = time.perf_counter()
    found = done.model.segment(image)
    return found, trained - started, time.perf_counter() - trained


def report(name, way, scores, seconds=(0, 0)):
    scores = np.atleast_2d(scores)
    each = "  ".join(f"{score:.3f}" for score in scores.mean(0))
    spread = f"+-{scores.mean(1).std():.3f}" if len(scores) > 1 else ""
    print(
        f"{name:24s}{way:26s}{scores.mean():6.3f} {spread:8s}{seconds[0]:6.0f} s"
        f"{seconds[1]:6.1f} s   {each}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--labels", nargs="+", default=("with", "without"))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'set':24s}{'way':26s}{'Dice':>6s}{'train':>17s}{'predict':>8s}   per class")
    for name in options.sets:
        _, classes, polarity, *_ = SETS[name]
        image, labels = (
            tifffile.imread(options.data / name / part / "000.tif") for part in ("images", "masks")
        )
        (left, right), (known, truth) = halves(image), halves(labels)
        for method in ("otsu", "li"):
            planes = np.stack([filter_mask(plane, method, polarity) for plane in right])
            volume = filter_mask(right, method, polarity)
            for view, found in (("plane by plane", planes), ("whole volume", volume)):
                report(name, f"{method}, {view}", [dice(truth == classes[0], found == 1)])
        for way in options.ways if "with" in options.labels else ():
            scores, seconds = [], []
            for seed in range(options.seeds):
                params = parameters(way, name, options, seed)
                found, *took = run(nms.train(left, known, **params), right)
                scores.append([dice(truth == value, found == value) for value in classes])
                seconds.append(took)
            report(name, way, scores, np.mean(seconds, 0))
        for way in options.ways if "without" in options.labels else ():
            scores, seconds = [], []
            for seed in range(options.seeds):
                params = {**parameters(way, name, options, seed), "polarity": polarity}
                params["time_limit"] = None
                found, *took = run(nms.segment(left, **params), right)
                scores.append([dice(truth == classes[0], found == 1)])
                seconds.append(took)
            report(name, f"{way}, no labels", scores, np.mean(seconds, 0))


if __name__ == "__main__":
    main()
