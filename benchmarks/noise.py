"""What label corruption costs, against drawing as many float32 random numbers.

Run: python benchmarks/noise.py. The bar: flipping 45 % of a 2048 x 2048 uint8 mask takes at most 3
times as long as drawing the random numbers.
"""

import numpy as np
from _timing import milliseconds, table, tubes

from napari_metastructure.labels import noise, transition

mask = tubes()
five = mask * np.random.default_rng(1).integers(1, 5, mask.shape, dtype=np.uint8)
five_regions = np.kron(
    np.random.default_rng(2).integers(1, 5, (64, 64), dtype=np.uint8), np.ones((32, 32), np.uint8)
)
five_regions *= mask
matrix = transition.of("flip", 5)
rng = np.random.default_rng(0)

operations = {
    "flip 45 %": lambda: noise.flip(mask, 0.45, seed=1),
    "flip 45 %, 0 and 255": lambda: noise.flip(mask * np.uint8(255), 0.45, seed=1),
    "flip 45 %, 5 classes": lambda: noise.flip(five, 0.45, seed=1),
    "transition, 5 classes": lambda: noise.transition(five, matrix, seed=1),
    "sample 10 %": lambda: noise.sample(mask, 0.1, seed=1),
    "random labels": lambda: noise.random_labels(mask.shape, 0.3, seed=1),
    "shift 2 px": lambda: noise.shift(mask, 2, seed=1),
    "dilate 2 px": lambda: noise.dilate(mask, 2),
    "dilate 10 px": lambda: noise.dilate(mask, 10),
    "dilate 2 px, 5 classes": lambda: noise.dilate(five_regions, 2),
    "erode 2 px": lambda: noise.erode(mask, 2),
    "erode 2 px, 5 classes": lambda: noise.erode(five_regions, 2),
    "skeletonize": lambda: noise.skeletonize(mask),
    "skeletonize, 5 classes": lambda: noise.skeletonize(five_regions),
}


def draw():
    return rng.random(mask.shape, dtype=np.float32)


if __name__ == "__main__":
    base = milliseconds(draw)
    times = {name: milliseconds(function, 3) for name, function in operations.items()}
    base = min(base, milliseconds(draw))
    table("2048 x 2048, uint8", "draw random numbers", base, times)
