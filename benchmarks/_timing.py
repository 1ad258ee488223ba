"""What the speed benchmarks share: a clock and a mask that looks like a network of tubes."""

import time

import numpy as np


def milliseconds(function, repeats=7):
    """The shortest of several runs."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return 1000 * best


def tubes(shape=(2048, 2048), seed=0):
    """A binary mask, uint8 0/1, with about a third foreground."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return (np.abs(field) < 0.4 * field.std()).astype(np.uint8)


def table(title, base_name, base, times):
    """Print milliseconds, and how many times the base each takes."""
    print(f"{title}\n{'':28s}{'ms':>8s}{'ratio':>8s}")
    print(f"{base_name:28s}{base:8.1f}{1:8.2f}")
    for name, value in times.items():
        print(f"{name:28s}{value:8.1f}{value / base:8.2f}")
