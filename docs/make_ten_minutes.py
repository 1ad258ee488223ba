"""Draws the pictures of docs/ten-minutes.md from the real window: python docs/make_ten_minutes.py

Needs a display; without one, put before it: xvfb-run -a -s "-screen 0 1600x1000x24"
"""

import tempfile
import time
from pathlib import Path

import napari
import numpy as np
import platformdirs
from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QScrollArea

from napari_metastructure.labels.strokes import simulate_strokes

PLUGIN = "napari-metastructure"
FOLDER = Path(__file__).parent / "images" / "ten-minutes"
PLANES = (10, 3)  # the ones that strokes are painted on


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept = tempfile.TemporaryDirectory()
    platformdirs.user_data_path = lambda *_: Path(kept.name)  # no strokes of earlier sessions
    viewer = napari.Viewer()
    viewer.window.resize(1280, 800)
    viewer.open_sample(PLUGIN, "nuclei")
    truth = viewer.layers["nuclei labels"].data
    viewer.layers.remove("nuclei labels")
    viewer.dims.set_current_step(0, PLANES[0])
    save(viewer, "1-stack")

    frame, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment with few or no labels")
    window = frame.parent()
    window.resizeDocks([frame], [450], Qt.Orientation.Horizontal)
    dock.strokes.paint_button.click()
    settle()
    viewer.reset_view()
    for plane in PLANES:
        viewer.dims.set_current_step(0, plane)
        paint(dock.strokes.layer, plane, simulate_strokes(truth[plane], 4, 12, seed=plane))
        wait(lambda: "live segmentation" in viewer.layers and dock.strokes.worker is None)
    settle(3)
    scroll_to(dock, dock.strokes)
    save(viewer, "2-strokes")

    dock.form["seed"].value = "0"
    started = time.monotonic()
    dock.panel.run_button.click()
    wait(lambda: not dock.panel.running)
    print(f"Segmentation: {time.monotonic() - started:.0f} s")
    mask = next(layer for layer in viewer.layers if layer.name.startswith("nuclei segmentation"))
    dice = 2 * (mask.data * truth).sum() / (mask.data.sum() + truth.sum())
    print(f"Dice against the exact masks: {dice:.3f}")
    settle(2)
    scroll_to(dock, dock.panel)
    save(viewer, "3-segmentation")

    viewer.window.remove_dock_widget(frame)
    for layer in list(viewer.layers):
        layer.visible = layer.name == "nuclei" or layer is mask
    frame, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Objects and measurements")
    window.resizeDocks([frame], [450], Qt.Orientation.Horizontal)
    dock.mask.value, dock.image.value = mask, viewer.layers["nuclei"]
    dock.form["method"].value = "watershed"
    dock.form["min_size"].value = 5
    dock.panel.run_button.click()
    wait(lambda: not dock.panel.running)
    print(dock.found.text())
    viewer.layers.selection.active = viewer.layers[-1]
    table, _ = viewer.window.add_plugin_dock_widget("napari", "Features table widget")
    window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, table)
    window.resizeDocks([table], [230], Qt.Orientation.Vertical)
    settle(2)
    viewer.reset_view()
    scroll_to(dock, dock.mask.native)
    save(viewer, "4-objects")
    settle()
    viewer.close()


def paint(layer, plane, strokes):
    """Paint with the layer's own brush, as a hand would."""
    layer.brush_size = 5
    for value in np.unique(strokes[strokes > 0]):
        for place in np.argwhere(strokes == value):
            layer.paint((plane, *place), value)


def scroll_to(dock, widget):
    area = dock.findChild(QScrollArea)
    area.ensureWidgetVisible(widget)
    settle()


def save(viewer, name):
    """The window as a small PNG of 256 colours."""
    settle()
    shot = viewer.screenshot(canvas_only=False, flash=False)[..., :3]
    picture = Image.fromarray(shot).quantize(256, dither=Image.Dither.NONE)
    picture.save(FOLDER / f"{name}.png", optimize=True)


def wait(done, seconds=1200):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        QApplication.processEvents()
        time.sleep(0.01)
    settle()


def settle(seconds=0.8):
    """Let the window draw itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()


if __name__ == "__main__":
    main()
