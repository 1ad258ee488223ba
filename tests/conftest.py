"""What the tests that train networks share."""

import os
import threading
import time

import numpy as np
import pytest

# napari's settings are those of a new user, and are written to no file.
os.environ["NAPARI_CONFIG"] = ""


@pytest.fixture(scope="session")
def one_thread():
    """The networks of the tests are small: on a busy machine, threads wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread_again(request):
    """Other numbers of threads round in other ways, and a test before may have changed it:
    numba, by which napari draws labels, sets that of its own thread to all cores.
    """
    if "one_thread" in request.fixturenames:
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


class TakingLong:
    """Stands for a function that takes 5 s and cannot be stopped."""

    def __init__(self):
        self.begun = threading.Event()

    def __call__(self, *_, **__):
        self.begun.set()
        time.sleep(5)

    def end_of(self, job):
        """The last event of a job that is stopped in this function, and has to end within 1 s."""
        for _ in job:
            if self.begun.is_set():
                break
        job.stop()
        clock = time.perf_counter()
        last = list(job)[-1]
        assert time.perf_counter() - clock < 1
        assert last.stopped
        return last


@pytest.fixture
def taking_long():
    return TakingLong()
