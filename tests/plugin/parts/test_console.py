"""The whole job typed into napari's own console."""

import pytest
from napari_console import QtConsole


@pytest.fixture
def console(viewer, qtbot):
    """napari's console on the viewer; the viewer fixture itself comes with an empty stand-in."""
    console = QtConsole(viewer)
    qtbot.addWidget(console)
    return console


def test_train_from_the_console(viewer, console, stack):
    image, mask = stack
    viewer.add_image(image, name="discs")
    viewer.add_labels(mask, name="mask")
    shell = console.shell
    shell.run_cell(
        """
import napari_metastructure as nms
noisy = nms.corrupt(viewer.layers["mask"].data, "sample", fraction=0.5, seed=0)
spec = nms.NoiseSpec(kind="sample", fraction=0.5)
done = nms.train(viewer.layers["discs"].data, noisy, noise=spec,
                 epochs=80, channels=4, depth=3, patch_size=64, batch_size=2, seed=0).run()
result = viewer.add_labels(done.model.segment(viewer.layers["discs"].data), name="result")
scores = nms.metrics.evaluate(viewer.layers["mask"].data, result.data)
"""
    ).raise_error()
    assert viewer.layers["result"].data.shape == image.shape
    assert shell.user_ns["scores"]["dice"] > 0.7
    assert 0.3 < shell.user_ns["done"].model.threshold < 0.7  # the loss undoes the noise
