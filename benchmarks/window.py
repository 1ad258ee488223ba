"""How long napari's window stands still while our docks work, in a real window.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/window.py --stack 20 2048 2048

A timer of 5 ms on the main thread measures the gaps between events, from the click on Run to the
last layer, first in an idle window and then during each job. Goal: 99.9 % below 20 ms, the worst
below 50 ms, on a machine that does nothing else; and the click itself returns within 50 ms.
"""

import argparse
import os
import time
from contextlib import contextmanager

import numpy as np
from _timing import tubes

PLUGIN = "napari-metastructure"


class Gaps:
    """Seconds between the ticks of a timer on the main thread."""

    def __init__(self):
        from qtpy.QtCore import Qt, QTimer

        self._timer = QTimer(interval=5, timerType=Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self.clear()
        self._timer.start()

    def clear(self):
        """Begin anew."""
        self.seconds, self._last = [], time.perf_counter()

    def _tick(self):
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now

    def line(self, name, click=None):
        """Print what was measured."""
        ms = 1000 * np.array(self.seconds)
        clicked = "" if click is None else f"{1000 * click:9.0f}"
        print(
            f"{name:24s}{ms.sum() / 1000:7.1f}{np.median(ms):8.1f}{np.percentile(ms, 99):8.1f}"
            f"{np.percentile(ms, 99.9):8.1f}{ms.max():8.0f}{clicked}",
            flush=True,
        )


def wait(condition, seconds):
    """Let the window live until the condition holds or the time is over."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():
        QApplication.processEvents()
        time.sleep(0.001)


class Bench:
    """A window with a stack, and the docks one after the other."""

    def __init__(self, stack, seconds):
        import napari

        self.viewer, self.seconds, self.gaps = napari.Viewer(), seconds, Gaps()
        few = [tubes(stack[1:], seed) for seed in range(min(stack[0], 4))]
        masks = np.resize(np.stack(few), stack)
        rng, images = np.random.default_rng(0), np.empty(stack, np.uint8)
        for image, mask in zip(images, masks):
            image[:] = np.clip(60 + 80.0 * mask + rng.normal(0, 30, mask.shape), 0, 255)
        self.image = self.viewer.add_image(images, name="stack")
        self.labels = self.viewer.add_labels(masks, name="masks")
        wait(lambda: False, 2)

    @contextmanager
    def dock(self, name):
        """One of our docks, closed afterwards."""
        frame, dock = self.viewer.window.add_plugin_dock_widget(PLUGIN, name)
        wait(lambda: False, 1)
        yield dock
        dock.panel.abandon()
        wait(lambda: not dock.panel.running, 60)
        self.viewer.window.remove_dock_widget(frame)
        wait(lambda: False, 0.5)

    def idle(self):
        """Nothing of ours."""
        self.gaps.clear()
        wait(lambda: False, min(self.seconds, 10))
        self.gaps.line("idle")

    def alone(self):
        """What napari itself takes, without us: one layer more or less, five times."""
        mask, added = self.labels.data, []
        self.gaps.clear()
        for number in range(5):
            added.append(self.viewer.add_labels(mask, name=f"added {number}"))
            wait(lambda: False, 0.5)
        self.gaps.line("napari: a layer added")
        self.gaps.clear()
        while added:
            self.viewer.layers.remove(added.pop())
            wait(lambda: False, 0.5)
        self.gaps.line("napari: a layer removed")

    def run(self, name, dock):
        """Click Run, and Stop after a while; until the last layer is there."""
        self.gaps.clear()
        begun = time.perf_counter()
        dock.panel.run_button.click()
        click = time.perf_counter() - begun
        wait(lambda: not dock.panel.running, self.seconds)
        dock.panel.stop()
        wait(lambda: not dock.panel.running, 120)
        wait(lambda: False, 1)
        self.gaps.line(name, click)

    def density(self):
        """Density of the masks."""
        with self.dock("Density distributions") as dock:
            dock.labels.value = self.labels
            self.run("density", dock)

    def train(self):
        """A training, and a prediction with its model."""
        with self.dock("Train segmentation") as dock:
            dock.image.value, dock.labels.value = self.image, self.labels
            dock.form["seed"].value = "0"
            dock.models.predict_after.value = False
            self.run("train", dock)
            if dock.models.predict_button.isEnabled():
                begun = time.perf_counter()
                self.gaps.clear()
                dock.models.predict_button.click()
                click = time.perf_counter() - begun
                wait(lambda: not dock.panel.running, self.seconds)
                dock.panel.stop()
                wait(lambda: not dock.panel.running, 120)
                self.gaps.line("predict", click)

    def segment(self):
        """Without labels."""
        with self.dock("Segment with few or no labels") as dock:
            dock.images[0].value = self.image
            self.run("segment, no labels", dock)

    def strokes(self):
        """Live segmentation after strokes on the visible plane, then all planes."""
        with self.dock("Segment with few or no labels") as dock:
            dock.images[0].value = self.image
            dock.strokes.paint_button.click()
            wait(lambda: False, 1)
            layer, mask = dock.strokes.layer, self.labels.data[0]
            self.gaps.clear()
            for row in range(20, 100, 20):
                where = (np.zeros(60, int), np.full(60, row), np.arange(20, 80))
                for value in (1, 2):
                    chosen = mask[where[1:]] == value - 1
                    layer.data_setitem(tuple(axis[chosen] for axis in where), value)
                wait(lambda: dock.strokes.worker is None, 20)
                wait(lambda: False, 0.5)
            self.gaps.line("live strokes")
            self.run("segment, strokes", dock)

    def sweep(self):
        """Two runs."""
        with self.dock("Noise sweep") as dock:
            dock.image.value, dock.labels.value = self.image, self.labels
            self.run("sweep", dock)


def main():
    """Print a line for each job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", type=int, nargs=3, default=(134, 256, 256))
    parser.add_argument("--seconds", type=float, default=30, help="until Stop is clicked")
    names = ("density", "train", "segment", "strokes", "sweep")
    parser.add_argument("--jobs", nargs="+", choices=names, default=names)
    asked = parser.parse_args()
    bench = Bench(tuple(asked.stack), asked.seconds)
    print(f"{tuple(asked.stack)}, load {os.getloadavg()[0]:.1f}; milliseconds between events")
    print(f"{'':24s}{'s':>7s}{'median':>8s}{'99 %':>8s}{'99.9 %':>8s}{'worst':>8s}{'click':>9s}")
    bench.idle()
    bench.alone()
    for name in asked.jobs:
        getattr(bench, name)()
    bench.alone()
    bench.idle()
    bench.viewer.close()


if __name__ == "__main__":
    main()
