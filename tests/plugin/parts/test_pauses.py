"""Garbage collections and imports that hold the window up as little as can be."""

import gc
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from napari_metastructure.plugin.parts import pauses
from napari_metastructure.plugin.parts.live import LiveLayer


@pytest.fixture(autouse=True)
def _they_alone():
    """Here objects are set aside and taken back, as outside of tests."""
    pauses.take_back()
    yield
    pauses.take_back()


def test_old_objects_are_aside_until_a_layer_of_the_user_goes(viewer, open_dock):
    open_dock("Train segmentation")
    image = viewer.add_image(np.zeros((8, 8)))
    live = LiveLayer(viewer, "labels", "preview")
    live.draw(np.zeros((8, 8), np.uint8), {"scale": (1, 1)})
    looked_at = len(gc.get_objects())
    assert gc.get_freeze_count() > 3 * looked_at
    live.remove()
    assert gc.get_freeze_count() > 0
    viewer.layers.remove(image)
    assert gc.get_freeze_count() == 0


def test_a_live_layer_that_was_set_aside_is_taken_back(viewer, open_dock):
    """napari counts on a collection that finds what the layer leaves behind."""
    open_dock("Train segmentation")
    viewer.add_image(np.zeros((8, 8)))
    live = LiveLayer(viewer, "labels", "preview")
    live.draw(np.zeros((8, 8), np.uint8), {"scale": (1, 1)})
    pauses.import_quietly("json")
    assert gc.get_freeze_count() > 0
    live.remove()
    assert gc.get_freeze_count() == 0


def test_a_closed_dock_takes_all_back(viewer, open_dock):
    frame, _ = open_dock("Train segmentation")
    pauses.set_aside()
    assert gc.get_freeze_count() > 0
    viewer.window.remove_dock_widget(frame)
    assert gc.get_freeze_count() == 0


def test_nothing_is_collected_while_modules_are_imported(monkeypatch):
    def imported(name):
        if name == "broken":
            raise ImportError(name)
        return [[] for _ in range(10**5)]

    collections, interval = [], sys.getswitchinterval()
    monkeypatch.setattr(pauses, "import_module", imported)
    monkeypatch.setattr(pauses, "load_networks", lambda **_: None)
    note = lambda phase, info: collections.append(info)  # noqa: E731
    gc.callbacks.append(note)
    try:
        kept = pauses.import_quietly("many")
        with pytest.raises(ImportError, match="broken"):
            pauses.import_quietly("broken")
        assert not collections
        assert len(kept) == 10**5
    finally:
        gc.callbacks.remove(note)
    assert gc.isenabled()
    assert sys.getswitchinterval() == interval


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_the_library_is_loaded_while_other_threads_go_on():
    code = """
        import sys, threading, time
        from napari_metastructure.plugin.parts.pauses import _load_library

        def tick():
            while not over:
                ticks.append(time.perf_counter())
                time.sleep(0.001)

        over, ticks = [], []
        thread = threading.Thread(target=tick)
        thread.start()
        begun = time.perf_counter()
        _load_library()
        taken = time.perf_counter() - begun
        over.append(True)
        thread.join()
        assert "libtorch_cpu" in open("/proc/self/maps").read()
        assert "torch" not in sys.modules
        gap = max(after - before for before, after in zip(ticks, ticks[1:]))
        assert gap < taken / 2, (gap, taken)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
