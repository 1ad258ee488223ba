"""Segmentation without labels against the filters that need no training.

Run: python benchmarks/unsupervised.py DATA [--sets er mito] [--seeds 5] [--quick] [--starts]. DATA
holds SET/images/*.tif and SET/masks/*.tif. Of the large sets networks see the images of the first
75 % of the files and are scored on the last 25 %; the small ones are scored as a whole. Masks
serve for scoring alone, and polarity is "auto"; filters are given the right one. Dice is pooled
over all pixels: "own" at the threshold of the model or filter, "best" at the best one. --starts
trains nothing: it prints the start that is chosen, the best of a gallery of six, and the best
of the bank.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import tifffile
import torch

import napari_metastructure as nms
from napari_metastructure.few_labels.filters import PLAIN, filter_mask
from napari_metastructure.few_labels.optics import is_stained
from napari_metastructure.few_labels.ranking import Judge, evenly_spread
from napari_metastructure.labels.metrics import evaluate
from napari_metastructure.learning.items import Items

# foreground value (None: any), polarity, axis of the channels, and whether it is scored as a whole
SETS = {
    "er": (None, "bright", None, False),
    "mito": (None, "bright", None, False),
    "nuclei_dsb2018": (None, "bright", None, False),
    "em_vnc_multiclass": (1, "dark", None, False),
    "vessels": (None, "dark", None, True),
    "leukocytes": (None, "dark", -1, True),
    "neurons": (None, "dark", None, True),
    "myelin": (None, "bright", None, True),
}
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


def load(folder, foreground, whole):
    """Images, boolean masks, how many are trained on, and the first that is scored."""
    files = sorted((folder / "images").glob("*.tif"))
    images = [tifffile.imread(file) for file in files]
    masks = [tifffile.imread(folder / "masks" / file.name) for file in files]
    masks = [mask > 0 if foreground is None else mask == foreground for mask in masks]
    cut = len(files) - round(0.25 * len(files))
    return images, masks, *((len(files), 0) if whole else (cut, cut))


def dice(masks, truths):
    both = sum(np.count_nonzero(mask & truth) for mask, truth in zip(masks, truths))
    return 2 * both / sum(mask.sum() + truth.sum() for mask, truth in zip(masks, truths))


def score(images, truths, cut, first, params, seed):
    """Own Dice, best Dice, AUC and seconds of one run, and its record."""
    start = time.perf_counter()
    *_, done = nms.segment(images[:cut], seed=seed, device="cpu", time_limit=None, **params)
    seconds = time.perf_counter() - start
    probabilities = [done.model.predict(image) for image in images[first:]]
    own = dice([p > done.model.threshold for p in probabilities], truths[first:])
    scores = evaluate(np.stack(truths[first:]).astype(int), np.stack(probabilities))
    return (own, scores["dice"], scores["auc"], seconds), done.record


def report_starts(name, images, truths, channel_axis):
    """The chosen start, the best of six that differ, and the best of the bank."""
    items = Items.of(images, channel_axis=channel_axis)
    pictures = items.pictures()
    stained = channel_axis is not None and is_stained(items.images)
    places = evenly_spread(pictures)
    parts = [pictures[index][where] for index, where in places]
    judge = Judge(parts, keep=True, stained=stained)
    for _ in judge.work():
        pass
    truths = [truths[index][where] for index, where in places]

    def of(start):
        return dice([judge.mask(start, number) for number in range(len(truths))], truths)

    ranking = judge.ranking()
    six = judge.suggested(ranking, 6)
    confidence = judge.confidence(ranking)
    print(
        f"{name:18s}{of(ranking[0]):7.3f}{max(map(of, six)):7.3f}{max(map(of, ranking)):7.3f}  "
        f"{ranking[0].name}, {ranking[0].polarity}, confidence {confidence.level}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--variants", nargs="+", default=["robust"], choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="every 8th file, 1 seed, 1 epoch")
    parser.add_argument("--starts", action="store_true", help="only the start masks")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    head = "chosen  of 6  best" if options.starts else "   own    std   best    AUC     s seeds"
    print(f"{'set':18s}{'' if options.starts else 'method'.ljust(26)}{head}")
    for name in options.sets:
        foreground, polarity, channel_axis, whole = SETS[name]
        images, truths, cut, first = load(options.data / name, foreground, whole)
        if options.starts:
            report_starts(name, images[:cut], truths[:cut], channel_axis)
            continue
        seeds = options.seeds
        if options.quick:
            images, truths, seeds = images[::8], truths[::8], 1
            cut, first = (len(images), 0) if whole else (len(images) - 1,) * 2
        pictures = Items.of(images[first:], channel_axis=channel_axis).pictures()
        for method in PLAIN:
            masks = [filter_mask(image, method, polarity) > 0 for image in pictures]
            print(f"{name:18s}{method:26s}{dice(masks, truths[first:]):7.3f}", flush=True)
        for method in options.variants:
            params = {"channel_axis": channel_axis, **VARIANTS[method]}
            params |= {"epochs": 1} if options.quick else {}
            runs = [score(images, truths, cut, first, params, seed) for seed in range(seeds)]
            table, record = np.array([run[0] for run in runs]), runs[0][1]
            own, best, auc, seconds = table.mean(0)
            start = "+".join(record.get("start", []))
            level = record.get("confidence", {}).get("level", "not judged")
            print(
                f"{name:18s}{method:26s}{own:7.3f}{table[:, 0].std():7.3f}{best:7.3f}{auc:7.3f}"
                f"{seconds:6.0f}{seeds:6d}  {start}, {record['polarity']}, confidence {level}",
                flush=True,
            )


if __name__ == "__main__":
    main()
