import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from napari_metastructure import load_model, train

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = {"channels": 4, "depth": 3, "patch_size": 32, "epochs": 3, "min_steps": 1, "seed": 7}


@pytest.fixture
def folder(tmp_path, blobs):
    images, masks = blobs(8, seed=0, size=48)
    masks[0, :20] = 255  # ignored: the processes' shares of the batch hold unequal many pixels
    for name, stack in (("images", images), ("masks", masks)):
        (tmp_path / name).mkdir()
        for number, plane in enumerate(stack):
            tifffile.imwrite(tmp_path / name / f"{number}.tif", plane)
    return tmp_path, images, masks


@pytest.mark.parametrize("loss", ["bce+dice"])  # a sum over pixels, and one that is none
def test_two_processes_train_as_one_with_twice_the_batch(folder, loss):
    path, images, masks = folder
    options = {**CONFIG, "loss": loss, "ignore_label": 255, "device": "cpu"}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = ["-m", "napari_metastructure", "train", str(path), "-o", str(path / "m.safetensors")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *command, "--batch-size=4", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Wrote ") == 1  # only the first process writes and says so
    record = json.loads((path / "m.safetensors.record.json").read_text())
    assert record["processes"] == 2

    *_, alone = train(images, masks, batch_size=8, **options)
    assert len(record["loss"]) == len(alone.history["loss"]) == record["steps"]
    np.testing.assert_allclose(record["loss"], alone.history["loss"], rtol=2e-3)
    for name, value in alone.record["validation"].items():
        assert record["validation"][name] == pytest.approx(value, abs=5e-3)
    together = load_model(path / "m.safetensors", "cpu")
    gap = np.abs(together.predict(images[-1]) - alone.model.predict(images[-1]))
    assert gap.max() < 0.02
