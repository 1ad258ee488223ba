"""The paper's claim on its own data: clean, randomised, perturbed and random labels.

Run: python benchmarks/paper_claim.py DATA [--sets er mito em_vnc_multiclass] [--seeds 3]

DATA holds SET/images/*.tif and SET/masks/*.tif. For each set one U-Net is trained on the first
three quarters of the files with clean labels (CL), randomised ones (RCL: sampled, flipped),
perturbed ones (PCL: dilated, eroded, skeletons) and random ones (RL), and scored against the clean
masks of the last quarter. Finished runs are kept in the folder --out, so that a second call goes on
where the first one stopped; seeds can be added later.
"""

import argparse
from pathlib import Path

import torch
from noisy_labels import read

from napari_metastructure.sweep import report
from napari_metastructure.sweep.plan import AMOUNTS, SweepRun
from napari_metastructure.sweep.sweep import sweep

BINARY = {"sample": (0.5, 0.3, 0.1), "flip": (0.2, 0.4, 0.45, 0.6)}
# five classes are told apart after about 1000 steps, however few the images
FIVE = {"sample": (0.5, 0.3, 0.1), "flip": (0.3, 0.6, 0.75, 0.8), "epochs": 12, "min_steps": 1000}
SETS = {"er": BINARY, "mito": BINARY, "em_vnc_multiclass": FIVE}
FAMILY = {"clean": "CL", "sample": "RCL", "flip": "RCL", "random": "RL"}


def main():
    options = parsed()
    torch.set_num_threads(options.threads)
    for name in options.sets:
        images, masks = read(options.data / name)
        settings = {"channels": options.channels, "epochs": 6, **SETS[name]}
        settings |= {
            k: tuple(v) for k, v in (("sample", options.sample), ("flip", options.flip)) if v
        }
        if options.epochs:
            settings["epochs"] = options.epochs
        job = sweep(images, masks, settings, seeds=options.seeds, folder=options.out / name)
        for event in job:
            if hasattr(event, "row"):
                row = event.row
                title = SweepRun(row["kind"], row["amount"], 0).title
                print(
                    f"{name} {event.done}/{event.total} {title} "
                    f"seed {row['seed']}: Dice {row['dice']}, {row['seconds']} s {row['error']}",
                    flush=True,
                )
        event.value.save(options.out / name / "report")
        print(f"\n{name}\n{markdown(event.value.table)}\n{event.value.summary}\n", flush=True)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="instead of 6, or 12 for the smaller EM set")
    parser.add_argument("--sample", nargs="+", type=float, help="shares, instead of all")
    parser.add_argument("--flip", nargs="+", type=float, help="shares, instead of all")
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("paper_claim"))
    return parser.parse_args()


def markdown(table):
    """One row per kind and amount: means over the seeds."""
    scores = ("dice", "best_dice", "auc")
    found = {score: report.curves(table, score) for score in scores}
    clean = {score: report.clean_level(table, score) for score in scores}
    lines = [
        "| labels | | Dice | best Dice | AUC | rank | figure of merit |",
        "|---|---|---|---|---|---|---|",
        line("clean", None, [clean[score] for score in scores], table),
    ]
    for kind, points in found["dice"].items():
        for index, (amount, *_) in enumerate(points):
            means = [found[score][kind][index][1:3] for score in scores]
            lines.append(line(kind, amount, means, table))
    return "\n".join(lines)


def line(kind, amount, means, table):
    row = next(r for r in table if (r["kind"], r["amount"]) == (kind, amount))
    title = SweepRun(kind, amount, 0).title if kind in AMOUNTS else kind
    cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in means]
    merit = f"{row['figure_of_merit']:.2f}"
    return (
        f"| {title} | {FAMILY.get(kind, 'PCL')} | {' | '.join(cells)} | {row['rank']} | {merit} |"
    )


if __name__ == "__main__":
    main()
