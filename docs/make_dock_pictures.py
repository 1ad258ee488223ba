"""Draws the pictures of docs/docks.md from the real window: python docs/make_dock_pictures.py

Needs a display; without one, put before it: xvfb-run -a -s "-screen 0 1600x1400x24"
It runs a batch and a search for wrong labels, some minutes in all.
"""

import os
import tempfile
import time
from pathlib import Path

import napari
import numpy as np
from qtpy.QtWidgets import QApplication, QScrollArea

import napari_metastructure as nms
from napari_metastructure.labels.simulation import simulate_fields, simulate_nuclei

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
SETTINGS = {"epochs": 2, "channels": 4, "seed": 0, "device": "cpu"}


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        os.environ["XDG_DATA_HOME"] = home  # no unfinished trainings of one's own
        os.chdir(home)
        viewer = napari.Viewer()
        viewer.open_sample(PLUGIN, "er")
        for name, file in DOCKS.items():
            window, dock = viewer.window.add_plugin_dock_widget(PLUGIN, name)
            window.setFloating(True)
            window.resize(WIDTH, 900)
            settle()
            if file in EXAMPLES:
                EXAMPLES[file](dock, viewer)
                settle()
            column = dock.findChild(QScrollArea).widget()
            window.resize(WIDTH, min(column.sizeHint().height() + 60, HEIGHT))
            settle()
            window.grab().save(str(FOLDER / f"{file}.png"))
            viewer.window.remove_dock_widget(window)
        viewer.close()


def batch(dock, viewer):
    """A model applied to six files of two groups."""
    images, labels = viewer.layers["ER"].data[:6], viewer.layers["ER labels"].data[:6]
    model = nms.train(images, labels, SETTINGS).run().model
    model.save("er.safetensors")
    for number, plane in enumerate(images):
        folder = Path("plates", ("control", "treated")[number // 3])
        folder.mkdir(parents=True, exist_ok=True)
        nms.write(folder / f"cell{number % 3 + 1}.ome.tif", plane, scale=(0.1, 0.1))
    dock.images.value, dock.steps.value, dock.results.value = (
        "plates",
        ["er.safetensors"],
        "results",
    )
    run(dock)


def suspects(dock, viewer):
    """What is found in labels of nuclei, some of which were removed."""
    images, masks = simulate_fields(simulate_nuclei, 8, seed=0)
    numbers = nms.objects.split(masks, method="watershed", min_size=20)
    labels = np.where(numbers % 12 == 1, 0, masks)
    dock.image.value = viewer.add_image(images, name="nuclei")
    dock.labels.value = viewer.add_labels(labels, name="nuclei labels")
    dock.form["epochs"].value, dock.form["seed"].value = "5", "0"
    dock.form["channels"].value = 8
    run(dock)
    dock.table.selectRow(0)


EXAMPLES = {"batch": batch, "suspects": suspects}


def run(dock):
    dock.panel.run_button.click()
    while dock.panel.running:
        settle(0.05)
    settle()


def settle(seconds=0.8):
    """Let the window draw itself."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()


if __name__ == "__main__":
    main()
