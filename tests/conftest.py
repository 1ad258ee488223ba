"""What the tests that train networks share."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def one_thread():
    """The networks of the tests are small: on a busy machine, threads wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def blobs():
    """A simulated task, ``blobs(count, seed)``: blurred, noisy images and their exact masks."""
    from scipy.ndimage import gaussian_filter

    def make(count=8, seed=0, size=64):
        rng = np.random.default_rng(seed)
        field = gaussian_filter(rng.normal(size=(count, size, size)), (0, 3, 3))
        masks = (field > 0.5 * field.std()).astype(np.uint8)
        blurred = gaussian_filter(masks.astype(float), (0, 1, 1))
        images = rng.normal(1000 + 400 * blurred, 150).clip(0).astype(np.uint16)
        return images, masks

    return make
