"""Draws the pictures of docs/docks.md from the real window: python docs/make_dock_pictures.py

Needs a display; without one, put before it: xvfb-run -a -s "-screen 0 1600x1400x24"
"""

import os
import tempfile
import time
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication, QScrollArea

PLUGIN = "napari-metastructure"
FOLDER = Path(__file__).parent / "images" / "docks"
WIDTH, HEIGHT = 460, 1350
DOCKS = {
    "Segment with few or no labels": "segment",
    "Train segmentation": "train",
    "Corrupt labels": "corrupt",
    "Compare labels": "compare",
    "Density distributions": "density",
    "Objects and measurements": "objects",
    "Noise sweep": "sweep",
    "Batch": "batch",
    "Find wrong labels": "suspects",
}


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp()  # no unfinished trainings of one's own
    viewer = napari.Viewer()
    viewer.open_sample(PLUGIN, "er")
    for name, file in DOCKS.items():
        window, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        window.setFloating(True)
        window.resize(WIDTH, 900)
        settle()
        column = dock.findChild(QScrollArea).widget()
        window.resize(WIDTH, min(column.sizeHint().height() + 60, HEIGHT))
        settle()
        window.grab().save(str(FOLDER / f"{file}.png"))
        viewer.window.remove_dock_widget(window)
    viewer.close()


def settle(seconds=0.8):
    """Let the window draw itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()


if __name__ == "__main__":
    main()
