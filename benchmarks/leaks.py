"""What is left of docks that were opened and closed, and of runs that ended.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/leaks.py --openings 200 --runs 50

In a real window each dock is opened and closed so many times, then small trainings and
segmentations run so many times. Printed are the threads, the open files, the timers, the callbacks
of the viewer and its layers, and the resident memory, after the first three and at the end; ends
with 1 if any of the first four has grown, or the memory by more than 50 MB.
"""

import argparse
import gc
import sys
import threading
import time

import numpy as np
import psutil
from _timing import tubes

PLUGIN = "napari-metastructure"
DOCKS = (
    "Corrupt labels",
    "Density distributions",
    "Compare labels",
    "Objects and measurements",
    "Segment with few or no labels",
    "Train segmentation",
    "Find wrong labels",
    "Noise sweep",
    "Batch",
)
SMALL = {"channels": 4, "depth": 3, "patch_size": 32, "batch_size": 4, "device": "cpu", "seed": 0}
WARM = 3  # openings or runs, after which things are as they should stay
MOST_BYTES = 50e6


def settle(seconds=0.2):
    """Let the window work, and what is no longer used be collected."""
    from qtpy.QtCore import QEvent
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        time.sleep(0.005)
    gc.collect()


def callbacks(viewer):
    """How many living functions are called when the viewer or one of its layers changes."""
    groups = [viewer.events, viewer.layers.events, viewer.dims.events]
    groups += [viewer.layers.selection.events, *(layer.events for layer in viewer.layers)]
    called = [
        one for group in groups for emitter in group.emitters.values() for one in emitter.callbacks
    ]
    return sum(not isinstance(one, tuple) or one[0]() is not None for one in called)


def state(viewer):
    """What is counted."""
    from qtpy.QtCore import QTimer

    process = psutil.Process()
    return {
        "threads": threading.active_count(),
        "files": process.num_fds(),
        "timers": sum(issubclass(type(one), QTimer) for one in gc.get_objects()),
        "callbacks": callbacks(viewer),
        "bytes": process.memory_info().rss,
    }


def compare(name, first, last):
    """Print both; returns whether anything has grown."""
    grown = [key for key in first if key != "bytes" and last[key] > first[key]]
    grown += ["bytes"] * (last["bytes"] - first["bytes"] > MOST_BYTES)
    counts = ", ".join(f"{key} {first[key]} to {last[key]}" for key in first if key != "bytes")
    growth = (last["bytes"] - first["bytes"]) / 1e6
    print(f"{name:32s}{counts}, memory {growth:+.0f} MB{'   GROWN' * bool(grown)}", flush=True)
    return bool(grown)


def repeat(name, viewer, times, function):
    """Call a function so many times; returns whether anything has grown since the third."""
    first = None
    for number in range(times):
        function()
        if number == min(WARM, times - 1) - 1:
            settle()
            first = state(viewer)
    settle()
    return compare(name, first or state(viewer), state(viewer))


def opening(viewer, name):
    """Open a dock, let it look at the layers, and close it."""
    frame, _ = viewer.window.add_plugin_dock_widget(PLUGIN, name)
    settle(0.05)
    viewer.window.remove_dock_widget(frame)
    settle(0.05)


def runs(images, masks):
    """Functions that train and segment, by name."""
    import napari_metastructure as nms
    from napari_metastructure.labels.strokes import simulate_strokes

    strokes = np.zeros_like(masks)
    strokes[0] = simulate_strokes(masks[0], 8, 8, seed=0)
    segmenting = {"epochs": 1, "min_steps": 20, **SMALL}
    return {
        "train": lambda: nms.train(images, masks, epochs=1, **SMALL).run(hidden=True),
        "segment, no labels": lambda: nms.segment(images, **segmenting).run(hidden=True),
        "segment, strokes": lambda: nms.segment(images, strokes=strokes, **segmenting).run(
            hidden=True
        ),
    }


def main():
    """Print a line for each dock and each kind of run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--openings", type=int, default=200)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--docks", nargs="*", default=DOCKS, choices=DOCKS)
    options = parser.parse_args()
    import napari

    viewer = napari.Viewer()
    masks = np.stack([tubes((96, 96), seed) for seed in range(4)])
    images = np.random.default_rng(0).normal(100 + 50 * masks, 10).astype(np.float32)
    viewer.add_image(images, name="cells")
    viewer.add_labels(masks, name="masks")
    settle(1)
    grown = [
        repeat(name, viewer, options.openings, lambda name=name: opening(viewer, name))
        for name in options.docks
    ]
    if options.runs:
        jobs = runs(images, masks)
        grown += [repeat(name, viewer, options.runs, job) for name, job in jobs.items()]
    viewer.close()
    sys.exit(any(grown))


if __name__ == "__main__":
    main()
