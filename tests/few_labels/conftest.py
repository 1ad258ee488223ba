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


def relief(seed=0, side=192):
    """Discs as in differential interference contrast, lit from one side, and where they are."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    truth = (y % 64 - 32) ** 2 + (x % 64 - 32) ** 2 < 14**2
    grain = gaussian_filter(rng.normal(size=truth.shape), 2)
    height = gaussian_filter(truth * (1 + 2 * grain / grain.std()), 1.5)
    return np.gradient(height, axis=1) + rng.normal(0, 0.03, truth.shape), truth


def halos(strength=1.5, seed=0, side=192):
    """Dark discs in bright halos, as in phase contrast, and where the discs are."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    far = np.hypot(y % 64 - 32, x % 64 - 32)
    truth = far < 9
    image = gaussian_filter(strength * ((far < 13) & ~truth) - truth, 1)
    return image + rng.normal(0, 0.1, truth.shape), truth
