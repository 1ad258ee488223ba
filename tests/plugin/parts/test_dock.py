"""Where our docks stand in the window, and what they offer before there are layers."""

import numpy as np
import pytest
from qtpy.QtWidgets import QLabel, QScrollArea
from superqt import QCollapsible

from napari_metastructure.plugin.layers import RECORD
from napari_metastructure.plugin.parts.dock import section


def test_docks_of_ours_share_a_tab(qtbot, viewer, open_dock):
    viewer.window.resize(1280, 720)
    first, _ = open_dock("Compare labels")
    second, _ = open_dock("Noise sweep")
    window = first.parent()
    qtbot.waitUntil(lambda: second in window.tabifiedDockWidgets(first))
    qtbot.waitUntil(lambda: second.isVisible() and not second.visibleRegion().isEmpty())


DOCKS = [
    "Batch",
    "Compare labels",
    "Corrupt labels",
    "Density distributions",
    "Find wrong labels",
    "Noise sweep",
    "Objects and measurements",
    "Segment with few or no labels",
    "Train segmentation",
]


@pytest.mark.parametrize("name", DOCKS)
def test_nothing_is_cut_off_at_the_right(qtbot, viewer, placed_layers, open_dock, name):
    viewer.window.resize(1280, 720)
    open_dock("Compare labels" if name != "Compare labels" else "Corrupt labels")
    _, dock = open_dock(name)
    for group in dock.findChildren(QCollapsible):
        group.expand(animate=False)
    column = dock.findChild(QScrollArea)
    qtbot.waitUntil(lambda: not dock.visibleRegion().isEmpty())
    inner = column.widget()
    qtbot.waitUntil(lambda: column.viewport().width() >= inner.minimumSizeHint().width())


def test_an_empty_viewer_is_offered_a_sample(qtbot, viewer, open_dock):
    _, dock = open_dock("Train segmentation")
    qtbot.waitUntil(dock.sample_button.isVisible)
    dock.sample_button.click()
    assert [layer.name for layer in viewer.layers] == ["ER", "ER labels"]
    assert dock.sample_button.isHidden()
    assert dock.panel.run_button.isEnabled()  # the layers are chosen already


@pytest.mark.parametrize("name", [name for name in DOCKS if name != "Batch"])
def test_each_dock_offers_a_sample(qtbot, viewer, open_dock, name):
    _, dock = open_dock(name)
    assert not dock.sample_button.isHidden()
    viewer.add_image(np.zeros((8, 8)))
    assert dock.sample_button.isHidden()


def test_two_boxes_do_not_start_with_the_same_layer(viewer, open_dock):
    viewer.add_labels(np.ones((8, 8), int), name="clean")
    _, dock = open_dock("Compare labels")
    assert dock.other.value is dock.reference.value  # there is no other
    viewer.add_labels(np.ones((8, 8), int), name="noisy")
    assert (dock.reference.value.name, dock.other.value.name) == ("clean", "noisy")


def test_a_mask_that_opened_as_an_image_is_told_of(viewer, open_dock):
    _, dock = open_dock("Corrupt labels")
    assert "Convert to Labels" not in dock.problem()
    viewer.add_image(np.eye(16, dtype=bool))
    assert dock.problem().endswith("right-click its layer and choose Convert to Labels.")


def chosen(*boxes):
    return tuple(box.value and box.value.name for box in boxes)


def add_sets(viewer):
    """Two images with labels each, and noisy labels of the second."""
    for name in ("ER", "Nuclei"):
        viewer.add_image(np.zeros((8, 8)), name=name)
        viewer.add_labels(np.ones((8, 8), int), name=f"{name} labels")
    record = {"operation": "corrupt", "source": "Nuclei labels", "noise": []}
    noisy = viewer.add_labels(np.ones((8, 8), int), name="noisy", metadata={RECORD: record})
    viewer.layers.selection.active = viewer.layers["ER"]
    return noisy


def test_inputs_follow_the_active_layer_until_one_is_chosen(qtbot, viewer, open_dock):
    add_sets(viewer)
    viewer.layers.selection.active = viewer.layers["Nuclei"]
    _, dock = open_dock("Train segmentation")
    qtbot.waitUntil(lambda: dock._has_place)
    assert chosen(dock.image, dock.labels) == ("Nuclei", "Nuclei labels")
    viewer.layers.selection.active = viewer.layers["ER"]
    assert chosen(dock.image, dock.labels) == ("ER", "ER labels")
    viewer.layers.selection.active = viewer.layers["noisy"]
    assert chosen(dock.image, dock.labels) == ("ER", "noisy")
    dock.image.value = viewer.layers["Nuclei"]
    viewer.layers.selection.active = viewer.layers["ER"]
    assert chosen(dock.image)[0] == "Nuclei"
    del viewer.layers["Nuclei"]
    assert chosen(dock.image)[0] == "ER"
    viewer.add_image(np.zeros((8, 8)), name="new")  # becomes active
    assert chosen(dock.image) == ("new",)


def test_a_renamed_layer_stays_chosen(qtbot, viewer, open_dock):
    images = [viewer.add_image(np.eye(32) * k, name=f"image {k}") for k in (1, 2, 3)]
    _, dock = open_dock("Segment with few or no labels")
    dock.add_image()
    dock.images[0].value, dock.images[1].value = images[0], images[1]
    images[1].name, images[0].name = "second", "first"
    assert [box.value for box in dock.images] == images[:2]
    assert [box.current_choice for box in dock.images] == ["first", "second"]


def test_results_and_previews_are_not_followed_into_training(qtbot, viewer, open_dock):
    add_sets(viewer)
    _, dock = open_dock("Train segmentation")
    qtbot.waitUntil(lambda: dock._has_place)
    before = chosen(dock.image, dock.labels)
    for operation in ("train", "compare", "live"):
        metadata = {RECORD: {"operation": operation}}
        viewer.add_labels(np.ones((8, 8), int), name=operation, metadata=metadata)
        viewer.add_image(np.ones((8, 8)), name=f"{operation} image", metadata=metadata)
        assert chosen(dock.image, dock.labels) == before
    assert "live" not in [layer.name for layer in dock.labels.choices]


@pytest.mark.parametrize("active", ["noisy", "Nuclei labels", "prediction"])
def test_compare_suggests_what_belongs_together(qtbot, viewer, open_dock, active):
    add_sets(viewer)
    viewer.add_labels(
        np.ones((8, 8), int),
        name="prediction",
        metadata={RECORD: {"operation": "train", "applied_to": "Nuclei", "model": "noisy"}},
    )
    viewer.layers.selection.active = viewer.layers["ER"]
    _, dock = open_dock("Compare labels")
    qtbot.waitUntil(lambda: dock._has_place)
    assert dock.reference.value is not dock.other.value
    viewer.layers.selection.active = viewer.layers[active]
    other = "prediction" if active == "Nuclei labels" else active
    assert chosen(dock.reference, dock.other) == ("Nuclei labels", other)
    dock.other.value = viewer.layers["ER labels"]
    assert dock.reference.value is not dock.other.value
    dock.other.value = viewer.layers["noisy"]
    assert chosen(dock.reference, dock.other) == ("Nuclei labels", "noisy")


def test_density_suggests_the_clean_labels(qtbot, viewer, open_dock):
    noisy = add_sets(viewer)
    _, dock = open_dock("Density distributions")
    qtbot.waitUntil(lambda: dock._has_place)
    assert dock.clean.value is not dock.labels.value
    viewer.layers.selection.active = noisy
    assert chosen(dock.labels, dock.clean) == ("noisy", "Nuclei labels")


def test_an_arrow_tells_whether_a_section_is_open():
    group = section("More", QLabel("a setting"))
    assert group.text() == "▸ More"
    group.toggleButton().click()
    assert group.text() == "▾ More"


def test_the_forms_of_a_dock_line_up(qtbot, viewer, placed_layers, open_dock):
    _, dock = open_dock("Train segmentation")
    boxes = [dock.image, dock.reading.form["spatial_dims"], dock.form["network"]]

    def spread():
        lefts = [box.native.mapTo(dock, box.native.rect().topLeft()).x() for box in boxes]
        return max(lefts) - min(lefts)

    qtbot.waitUntil(lambda: not dock.visibleRegion().isEmpty() and spread() < 4)


def test_a_tab_at_the_back_draws_no_preview(qtbot, viewer, placed_layers, open_dock):
    _, dock = open_dock("Objects and measurements")
    qtbot.waitUntil(lambda: dock.in_front)
    dock.form["min_size"].value = 1
    qtbot.waitUntil(lambda: "objects preview" in viewer.layers)
    open_dock("Compare labels")
    qtbot.waitUntil(lambda: "objects preview" not in viewer.layers)
    dock.form["min_size"].value = 2
    qtbot.wait(500)
    assert "objects preview" not in viewer.layers


@pytest.mark.parametrize(
    "name", ["Objects and measurements", "Density distributions", "Compare labels"]
)
def test_multiscale_labels_that_are_not_offered_are_told(viewer, open_dock, name):
    labels = np.ones((32, 32), np.uint8)
    viewer.add_labels([labels, labels[::2, ::2]], multiscale=True)
    dock = open_dock(name)[1]
    assert "Multiscale labels cannot be used" in dock.panel.reason.text()
    viewer.layers.clear()
    dock.reset_choices()
    assert "Multiscale" not in dock.panel.reason.text()
