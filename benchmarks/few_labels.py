"""What a few strokes reach, beside no labels at all and full labels.

Run: python benchmarks/few_labels.py DATA [--sets vessels er] [--images 4] [--draws 1]
DATA holds SET/images/*.tif and SET/masks/*.tif. Strokes are simulated: 8 short random walks inside
objects and 8 on background on each of so many images. Methods: the forest at one half, as ilastik
decides; the classifier with its own threshold; a network on the strokes alone; the product's result
(a network taught by the classifier, or the classifier, as strokes held out decide); no labels; no
labels but a click on the best of the six starts that the gallery shows for one image; all labels of
one half of the set, scored on the other. Dice over all pixels at each method's own
threshold, of the whole set except for the large ones (images after the first 75 %). Cells are
kept in the cache, so that the table can be made in parts.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

import napari_metastructure as nms
from napari_metastructure.arrays.axes import channels_first
from napari_metastructure.few_labels.gallery import gallery
from napari_metastructure.few_labels.stroke_threshold import threshold_of_classifier
from napari_metastructure.labels.strokes import simulate_strokes
from napari_metastructure.learning.stroke_classifier import StrokeClassifier

# axis of the channels, foreground value (None: any), and whether the last quarter is scored
SETS = {
    "vessels": (None, None, False),
    "leukocytes": (-1, None, False),
    "neurons": (None, None, False),
    "myelin": (None, None, False),
    "er": (None, None, True),
    "mito": (None, None, True),
    "nuclei_dsb2018": (None, None, True),
    "em_vnc_multiclass": (None, 1, True),
}
METHODS = (
    "forest at .5",
    "classifier",
    "strokes alone",
    "result",
    "no labels",
    "gallery",
    "supervised",
)
WITHOUT_STROKES = ("no labels", "gallery", "supervised")
_MOST_SCORED = 20


def load(folder, foreground, last_quarter):
    """Images and masks to learn from and to score on."""
    files = sorted((folder / "images").glob("*.tif"))
    images = [tifffile.imread(file) for file in files]
    masks = [tifffile.imread(folder / "masks" / file.name) for file in files]
    masks = [(m > 0 if foreground is None else m == foreground).astype(np.uint8) for m in masks]
    cut = len(files) - len(files) // 4 if last_quarter else 0
    scored = np.arange(cut, len(files))
    scored = scored[np.linspace(0, len(scored) - 1, min(len(scored), _MOST_SCORED)).astype(int)]
    learnt = list(range(cut or len(files)))
    return images, masks, learnt, scored.tolist()


def draw(masks, learnt, number, seed):
    """Strokes on so many evenly spread images; zeros on the others."""
    chosen = [learnt[k] for k in np.linspace(0, len(learnt) - 1, number).round().astype(int)]
    rng = np.random.default_rng(seed)
    found = {k: simulate_strokes(masks[k], 8, 14, seed=rng) for k in chosen}
    return [found.get(k, np.zeros_like(masks[k])) for k in learnt]


def dice(masks, truths):
    both = sum(np.count_nonzero((m > 0) & (t > 0)) for m, t in zip(masks, truths))
    return (
        2
        * both
        / max(sum(np.count_nonzero(m) + np.count_nonzero(t) for m, t in zip(masks, truths)), 1)
    )


def run(method, data, strokes, axis, seed):
    """Masks of the scored images, and what else to keep."""
    images, masks, learnt, scored = data
    config = {"channel_axis": axis, "device": "cpu", "seed": seed}
    if method in ("forest at .5", "classifier"):
        classifier = StrokeClassifier(channel_axis=axis, seed=seed)
        classifier.fit([images[k] for k in learnt], strokes)
        found = [classifier.predict(images[k]) for k in scored]
        if method == "forest at .5":
            return [p[-1] > 0.5 for p in found], {}
        pictures = [_grey(images[k], axis) for k in scored]
        objects = [p[-1] for p in found]
        threshold, share = threshold_of_classifier(classifier, objects, pictures)
        return [p > threshold for p in objects], {"threshold": threshold, "share": share}
    pictures = [images[k] for k in learnt]
    if method == "result":
        done = nms.segment(pictures, strokes=strokes, **config).run(hidden=True)
        kept = {name: done.record.get(name) for name in ("result", "threshold_source")}
    elif method in ("no labels", "gallery"):
        start = {} if method == "no labels" else click(pictures[0], masks[learnt[0]], axis)
        done = nms.segment(pictures, **start, **config).run(hidden=True)
        kept = {name: done.record.get(name) for name in ("start", "polarity", "threshold_source")}
    else:
        if method == "strokes alone":
            labels = [s.astype(int) - 1 for s in strokes]  # -1: not annotated
        else:
            half = learnt if scored[0] >= len(learnt) else learnt[::2]
            pictures, labels = [images[k] for k in half], [masks[k] for k in half]
            scored = [k for k in scored if k not in set(half)]
        done = nms.train(pictures, labels, channels=8, **config).run(hidden=True)
        kept = {"steps": done.record["steps"], "threshold_source": done.record["threshold_source"]}
    return [done.model.segment(images[k]) for k in scored], {**kept, "scored": scored}


def click(image, truth, axis):
    """What a user takes who knows the truth of one image."""
    *_, shown = gallery(_grey(image, axis))
    start, _ = max(shown, key=lambda pair: dice([pair[1]], [truth]))
    return {"start": start.name, "polarity": start.polarity}


def _grey(image, axis):
    return image if axis is None else channels_first(np.asarray(image), axis, 2).mean(axis=0)


def cell(options, name, method, number, seed):
    """The Dice of one cell of the table, from the cache if it is there."""
    number = 0 if method in WITHOUT_STROKES else number
    path = options.cache / f"{name}-{method}-{number}-{seed}.json".replace(" ", "_")
    if path.exists():
        return json.loads(path.read_text())
    axis, foreground, last_quarter = SETS[name]
    data = load(options.data / name, foreground, last_quarter)
    strokes = None if method in WITHOUT_STROKES else draw(data[1], data[2], number, seed)
    begin = time.perf_counter()
    masks, kept = run(method, data, strokes, axis, seed)
    scored = kept.pop("scored", data[3])
    found = {"dice": dice(masks, [data[1][k] for k in scored]), **kept}
    found["seconds"] = round(time.perf_counter() - begin, 1)
    path.write_text(json.dumps(found, default=str))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--images", type=int, nargs="+", default=[4], help="with strokes on them")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("benchmarks/results/few_labels"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.cache.mkdir(parents=True, exist_ok=True)
    for number in options.images:
        print(f"strokes on {number} images: " + " | ".join(("set", *options.methods)))
        for name in options.sets:
            cells = []
            for method in options.methods:
                found = [cell(options, name, method, number, seed) for seed in range(options.draws)]
                cells.append(f"{np.mean([one['dice'] for one in found]):.3f}")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
