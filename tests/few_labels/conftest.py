import numpy as np


def discs(bright=True, seed=0):
    """A noisy image of three discs, and where they are."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((96, 96), bool)
    y, x = np.mgrid[:96, :96]
    for cy, cx in ((20, 25), (60, 30), (45, 70)):
        truth |= (y - cy) ** 2 + (x - cx) ** 2 < 100
    image = 10 * truth + rng.normal(size=truth.shape)
    return (image if bright else -image), truth
