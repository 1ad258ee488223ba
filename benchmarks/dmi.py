"""What the DMI choice among K thresholds costs, against building the K masks.

Run: python benchmarks/dmi.py. The bar: at least 50 times faster than K masks.
"""

import numpy as np
import torch
from _timing import milliseconds

from napari_metastructure.few_labels.dmi import best_threshold

SHAPE, THRESHOLDS = (8, 512, 512), 30


def with_masks(batch):
    """The largest determinant of [P; 1 - P] [S; 1 - S]^T / N over K masks S, written plainly."""
    chosen = []
    for p in batch.flatten(1):
        thresholds = torch.linspace(float(p.min()), float(p.max()), THRESHOLDS)[1:-1]
        determinants = []
        for threshold in thresholds:
            s = (p > threshold).float()
            q = torch.stack([p, 1 - p]) @ torch.stack([s, 1 - s]).T / p.numel()
            determinants.append(torch.linalg.det(q))
        chosen.append(thresholds[int(torch.stack(determinants).argmax())])
    return torch.stack(chosen)


rng = np.random.default_rng(0)
batch = torch.from_numpy(rng.beta(0.3, 0.9, SHAPE).astype(np.float32))
slow = milliseconds(lambda: with_masks(batch), repeats=3)
fast = milliseconds(lambda: best_threshold(batch, THRESHOLDS))
every = milliseconds(lambda: best_threshold(batch, None))
assert torch.allclose(with_masks(batch), best_threshold(batch, THRESHOLDS))
print(f"{SHAPE[0]} images of {SHAPE[1]} x {SHAPE[2]}, float32, {torch.get_num_threads()} threads")
print(f"{'':28s}{'ms':>8s}{'faster':>8s}")
print(f"{'30 masks':28s}{slow:8.1f}{1:8.1f}")
print(f"{'best_threshold, 30':28s}{fast:8.1f}{slow / fast:8.1f}")
print(f"{'best_threshold, every value':28s}{every:8.1f}{slow / every:8.1f}")
