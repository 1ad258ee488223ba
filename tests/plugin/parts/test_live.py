import numpy as np

from napari_metastructure.plugin.parts.live import LiveLayer, remove_all


def test_the_canvas_is_drawn_after_each_of_several_layers_that_go(make_napari_viewer, monkeypatch):
    """Without, napari with Mesa crashes at its next pictures, as when a dock changes its size."""
    viewer = make_napari_viewer()
    image = viewer.add_image(np.zeros((8, 8)))
    live = [LiveLayer(viewer, kind, kind) for kind in ("image", "labels", "labels")]
    for one in live[:2]:  # the third is not there
        one.draw(np.zeros((8, 8), np.uint8), {"scale": (1, 1)})
    drawn = []
    monkeypatch.setattr(
        type(viewer), "screenshot", lambda *_, **__: drawn.append(len(viewer.layers))
    )
    remove_all(live)
    assert drawn == [2, 1]
    assert list(viewer.layers) == [image]
