"""Layers and helpers for tests in real napari windows."""

import gc

import numpy as np
import pytest
from npe2 import PluginManifest
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QApplication

PLUGIN = "napari-metastructure"


@pytest.fixture(scope="session", autouse=True)
def _plugins_are_found_once():
    """napari reads the manifests of all plugins again for each window."""
    found = list(PluginManifest.discover())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PluginManifest, "discover", lambda *_, **__: iter(found))
        yield


@pytest.fixture(autouse=True)
def _libraries_are_no_garbage():
    """Around each window napari's fixture looks for garbage several times, which takes a second
    among all that libraries hold.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _they_alone(monkeypatch):
    """Docks set nothing aside and take nothing back: the windows of tests must be found."""
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(gc, "unfreeze", lambda: None)


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    """A folder for what the docks keep: not the user's."""
    folder = tmp_path / "user data"
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_: folder)
    return folder


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    return make_napari_viewer_proxy(show=True, strict_qt=True)


@pytest.fixture
def stack():
    """Bright discs on a noisy background, and their exact mask: (4, 64, 64)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    mask = np.zeros((4, 64, 64), np.uint8)
    for plane in mask:
        for cy, cx in rng.integers(8, 56, (3, 2)):
            plane[(y - cy) ** 2 + (x - cx) ** 2 < 64] = 1
    image = (100 * mask + rng.normal(100, 20, mask.shape)).clip(0).astype(np.uint16)
    return image, mask


PLACED = {
    "scale": (2, 0.5, 0.5),
    "translate": (10, -3, 4),
    "rotate": 20,
    "shear": (0.1, 0, 0.2),
    "units": ("micrometer",) * 3,
    "axis_labels": ("z", "y", "x"),
}


@pytest.fixture
def placed_layers(viewer, stack):
    """Image and labels of the stack, away from the origin, in micrometres."""
    image, mask = stack
    affine = np.eye(4)
    affine[:3, 3] = 1, 2, 3
    return (
        viewer.add_image(image, name="discs", affine=affine, **PLACED),
        viewer.add_labels(mask, name="mask", affine=affine, **PLACED),
    )


def assert_same_place(layer, other):
    """Both layers lie at the same place in the world, with the same units and axis labels."""
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(layer, name), getattr(other, name), err_msg=name)
    np.testing.assert_allclose(layer.affine.affine_matrix, other.affine.affine_matrix)
    assert layer.units == other.units
    assert layer.axis_labels == other.axis_labels


@pytest.fixture
def open_dock(viewer, qtbot):
    """Open one of our dock widgets by its name in the plugin menu."""

    def open_(name):
        window, widget = viewer.window.add_plugin_dock_widget(PLUGIN, name)
        docks.append(widget)
        return window, widget

    docks = []
    yield open_
    for widget in docks:
        widget.panel.abandon()
    qtbot.waitUntil(lambda: not any(widget.panel.running for widget in docks), timeout=20_000)
    for widget in docks:
        widget.setParent(None)
        widget.deleteLater()
    del widget, docks[:]
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    gc.collect()  # pyqtgraph's menus belong to Python


@pytest.fixture
def turns(viewer):
    """In which turn of the event loop each layer was added: a list of (name, number)."""
    added, count = [], [0]
    timer = QTimer(interval=1)
    timer.timeout.connect(lambda: count.__setitem__(0, count[0] + 1))
    viewer.layers.events.inserted.connect(lambda e: added.append((e.value.name, count[0])))
    timer.start()
    yield added
    timer.stop()
