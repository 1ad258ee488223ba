"""The whole job typed into napari's own console."""

import numpy as np


def test_train_from_the_console(make_napari_viewer, stack):
    viewer = make_napari_viewer()
    image, mask = stack
    viewer.add_image(image, name="discs")
    viewer.add_labels(mask, name="mask")
    console = viewer.window._qt_viewer.console
    console.execute(
        """
import napari_metastructure as nms
noisy = nms.corrupt(viewer.layers["mask"].data, "sample", fraction=0.5, seed=0)
done = nms.fit(viewer.layers["discs"].data, noisy, noise=nms.NoiseSpec(kind="sample", fraction=0.5),
               epochs=20, channels=4, depth=3, patch_size=64, batch_size=2, seed=0)
result = viewer.add_labels(done.model.segment(viewer.layers["discs"].data), name="result")
scores = nms.metrics.evaluate(mask_data := viewer.layers["mask"].data, result.data)
""",
        hidden=True,
    )
    assert "scores" in console.shell.user_ns, "the console stopped early"
    assert viewer.layers["result"].data.shape == image.shape
    assert console.shell.user_ns["scores"]["dice"] > 0.7
    assert np.isclose(console.shell.user_ns["done"].model.threshold, 0.25)
