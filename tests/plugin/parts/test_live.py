import numpy as np
import pytest

from napari_metastructure.plugin.parts.live import LiveLayer


@pytest.fixture
def shown_viewer(make_napari_viewer):
    return make_napari_viewer(show=True, strict_qt=True)


@pytest.mark.parametrize("drawn", [True, False])
def test_the_canvas_is_drawn_before_a_layer_goes(shown_viewer, qtbot, drawn):
    """Else napari with Mesa crashes when it draws again after several, or after the user's own."""
    viewer = shown_viewer
    viewer.add_image(np.zeros((8, 8)))
    live = [LiveLayer(viewer, kind, kind) for kind in ("image", "labels", "labels")]
    for one in live[:2]:  # the third is not there
        one.draw(np.zeros((8, 8), np.uint8), {"scale": (1, 1)})
    qtbot.wait(200)
    drawings = []
    canvas = viewer.window._qt_viewer.canvas._scene_canvas
    canvas.events.draw.connect(lambda event: drawings.append(len(viewer.layers)))
    for one in live:
        one.remove(drawn=drawn)
    assert drawings == ([3, 2] if drawn else [])
    assert len(viewer.layers) == 1


def test_a_layer_goes_after_the_one_that_it_is_about_has_gone(shown_viewer, qtbot):
    viewer = shown_viewer
    image = viewer.add_image(np.zeros((8, 8)))
    labels = viewer.add_labels(np.zeros((8, 8), np.uint8))
    live = LiveLayer(viewer, "labels", "preview")
    live.draw(np.zeros((8, 8), np.uint8), {"scale": (1, 1)})
    preview, in_between = live.layer, []
    viewer.layers.events.removed.connect(lambda event: event.value is labels and live.remove())
    viewer.layers.events.removed.connect(lambda event: in_between.append(list(viewer.layers)))
    viewer.layers.selection = {labels}
    viewer.layers.remove_selected()
    assert in_between == [[image, preview]]
    assert not live.shown
    qtbot.waitUntil(lambda: list(viewer.layers) == [image])
