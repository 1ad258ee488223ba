"""The gallery of start masks, clicked in a real napari window."""

import numpy as np
import pytest

from napari_metastructure.labels.metrics import evaluate
from napari_metastructure.plugin.layers import RECORD
from tests.few_labels.test_field_of_view import wells
from tests.plugin.conftest import assert_same_place

LONG = 60_000


@pytest.fixture
def dock(placed_layers, open_dock):
    dock = open_dock("Segment with few or no labels")[1]
    yield dock
    dock.gallery.clear()


def suggest(qtbot, dock):
    dock.gallery.button.click()
    qtbot.waitUntil(lambda: not dock.gallery.running, timeout=LONG)


def settle(qtbot, dock):
    """Wait for the pictures that follow the sliders."""
    gallery = dock.gallery
    qtbot.waitUntil(lambda: not (gallery._rest.isActive() or gallery.running), timeout=LONG)


def test_six_pictures_and_a_click_takes_one_as_the_start(qtbot, viewer, dock, placed_layers):
    image, labels = placed_layers
    suggest(qtbot, dock)
    tiles = [tile for tile in dock.gallery.tiles if tile.isVisible()]
    assert len(tiles) == 6
    assert all(not tile.icon().isNull() and tile.toolTip() for tile in tiles)
    tiles[0].click()
    start, mask = dock.gallery.pictures[0]
    assert dock.config().start == start.name
    assert dock.config().polarity == start.polarity == "bright"
    live = viewer.layers["live start mask"]
    plane = dock.reading.source().plane_index(viewer)[0]
    np.testing.assert_array_equal(live.data[0], mask)
    assert evaluate(labels.data[plane], live.data[0])["dice"] > 0.8
    np.testing.assert_allclose(live.scale, image.scale)
    np.testing.assert_allclose(live.data_to_world((0, 5, 5)), image.data_to_world((plane, 5, 5)))


def test_surroundings_that_all_planes_share_are_no_objects(qtbot, viewer, dock):
    stack, truth, _ = wells(planes=5)
    dock.images[0].value = viewer.add_image(stack, name="wells")
    viewer.dims.set_current_step(0, 3)
    suggest(qtbot, dock)
    scores = [evaluate(truth[3], mask)["dice"] for _, mask in dock.gallery.pictures]
    assert max(scores) > 0.8
    assert all(start.polarity == "dark" for start, _ in dock.gallery.pictures[:3])


def test_pictures_follow_the_sliders(qtbot, viewer, dock):
    viewer.dims.set_current_step(0, 0)
    suggest(qtbot, dock)
    before = dock.gallery.pictures[0][1]
    viewer.dims.set_current_step(0, 3)
    qtbot.waitUntil(lambda: not np.array_equal(dock.gallery.pictures[0][1], before), timeout=LONG)
    qtbot.waitUntil(lambda: not dock.gallery.running, timeout=LONG)


def test_a_plane_without_contrast_has_no_pictures_not_those_of_another(
    qtbot, viewer, dock, placed_layers
):
    suggest(qtbot, dock)
    image = placed_layers[0]
    image.data = np.full_like(image.data, 7)
    suggest(qtbot, dock)
    assert not dock.gallery.pictures
    assert all(tile.isHidden() for tile in dock.gallery.tiles)
    dock.gallery.tiles[0].click()
    assert "live start mask" not in viewer.layers


def test_a_picture_of_the_plane_before_is_drawn_on_that_plane(qtbot, viewer, dock):
    suggest(qtbot, dock)
    place = dock.gallery._shown_at[1]["translate"]
    viewer.dims.set_current_step(0, 0)
    dock.gallery.refresh()  # its pictures are not made yet
    dock.gallery.tiles[0].click()
    np.testing.assert_allclose(viewer.layers["live start mask"].translate, place)


def test_the_frame_follows_the_start_that_was_taken(qtbot, viewer, dock):
    suggest(qtbot, dock)
    dock.gallery.tiles[2].click()
    taken = dock.gallery.pictures[2][0]
    viewer.dims.set_current_step(0, 0)
    settle(qtbot, dock)
    framed = [t.isChecked() for t in dock.gallery.tiles[: len(dock.gallery.pictures)]]
    expected = [
        (s.name, s.polarity) == (taken.name, taken.polarity) for s, _ in dock.gallery.pictures
    ]
    assert framed == expected


def test_the_start_that_was_taken_is_what_is_trained_on(qtbot, viewer, dock, placed_layers):
    suggest(qtbot, dock)
    dock.gallery.tiles[1].click()
    chosen = dock.gallery.pictures[1][0]
    dock.advanced.set_values({"channels": 4, "depth": 3, "patch_size": 64, "min_steps": 20})
    dock.form["epochs"].value = 1
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)
    assert "live start mask" not in viewer.layers
    record = viewer.layers[-1].metadata[RECORD]
    assert record["start"] == [chosen.name]
    assert record["polarity"] == chosen.polarity
    assert_same_place(viewer.layers[-1], placed_layers[0])


def test_strokes_lead_the_pictures(qtbot, viewer, dock, placed_layers):
    _, labels = placed_layers
    strokes = np.where(labels.data == 1, 1, 2)  # the background is what is wanted
    dock.gallery._strokes = lambda index: strokes[index]
    suggest(qtbot, dock)
    start, mask = dock.gallery.pictures[0]
    assert start.polarity == "dark"
    plane = dock.reading.source().plane_index(viewer)[0]
    assert mask[labels.data[plane] == 1].mean() < 0.3


def test_volumes_show_the_section_in_view(qtbot, viewer, dock, placed_layers):
    dock.reading.form["spatial_dims"].value = 3
    suggest(qtbot, dock)
    dock.gallery.tiles[0].click()
    assert viewer.layers["live start mask"].data.shape == (1, 64, 64)
    assert dock.config().spatial_dims == 3


def test_colours_are_one_plane(qtbot, viewer, open_dock, stack):
    image, _ = stack
    viewer.add_image(np.stack([image[0] // 2, image[0], 255 - image[0] // 2], -1).astype("u1"))
    dock = open_dock("Segment with few or no labels")[1]
    suggest(qtbot, dock)
    assert len(dock.gallery.pictures) == 6
    dock.gallery.tiles[0].click()
    assert viewer.layers["live start mask"].data.shape == (64, 64)
    dock.gallery.clear()
    assert "live start mask" not in viewer.layers


def test_low_confidence_of_a_run_brings_the_pictures(qtbot, viewer, open_dock):
    rng = np.random.default_rng(0)
    checks = np.indices((64, 64)).sum(0) // 8 % 2 + rng.normal(0, 0.1, (64, 64))
    viewer.add_image(checks)
    dock = open_dock("Segment with few or no labels")[1]
    dock.advanced.set_values({"channels": 4, "depth": 3, "patch_size": 64, "min_steps": 20})
    dock.form["epochs"].value = 1
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)
    qtbot.waitUntil(lambda: not dock.gallery.running, timeout=LONG)
    assert "bright or dark" in dock.gallery.hint.text()
    assert "paint a few strokes" in dock.gallery.hint.text()
    assert {start.polarity for start, _ in dock.gallery.pictures} == {"bright", "dark"}
    dock.gallery.tiles[0].click()
    dock.gallery.clear()


def test_without_an_image_nothing_happens(viewer, open_dock):
    dock = open_dock("Segment with few or no labels")[1]
    dock.gallery.button.click()
    assert not dock.gallery.running
