"""How the docks read images: what they say, what can be changed, and where results lie."""

import numpy as np
import pytest

LONG = 200_000


def read(dock):
    """The sentence of a dock, with plain hyphens."""
    return dock.reading.sentence.text().replace("\N{NON-BREAKING HYPHEN}", "-")


def rows(form):
    return {name for name in form._rows if form.is_shown(name)}


@pytest.fixture
def dock(open_dock):
    """A tiny network that trains in seconds."""
    dock = open_dock("Train segmentation")[1]
    dock.form["epochs"].value = 1
    dock.form["seed"].value = "0"
    values = {"channels": 4, "depth": 3, "patch_size": 32, "batch_size": 4, "min_steps": 12}
    dock.advanced.set_values(values)
    return dock


def train(qtbot, dock):
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: dock.models.model is not None, timeout=LONG)
    qtbot.waitUntil(lambda: dock.models.results is not None, timeout=LONG)
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)


def test_planes_or_volumes(viewer, dock, stack):
    image, mask = stack
    viewer.add_image(image, scale=(2, 0.5, 0.5))
    viewer.add_labels(mask, scale=(2, 0.5, 0.5))
    assert read(dock) == "4 planes of 64 x 64, trained as 2-D."
    assert rows(dock.reading.form) == {"spatial_dims", "channel_axis"}
    dock.reading.spatial_dims = 3
    assert "as one volume of 4 x 64 x 64, voxel z:y:x 4:1:1, trained as 3-D" in read(dock)
    assert dock.advanced["batch_size"].value == 2
    assert dock.advanced["patch_size"].value == 64
    config = dock.config()
    assert (config.spatial_dims, config.anisotropy, config.channel_axis) == (3, 4, None)
    dock.reading.form["anisotropy"].value = 3
    assert dock.config().anisotropy == 3
    dock.reset_choices()
    assert dock.config().anisotropy == 3  # what was chosen stays


def test_channels_from_the_shape_of_the_labels(qtbot, viewer, dock, stack):
    image, mask = stack
    both = np.stack([image[0], image[1]])
    layer = viewer.add_image(both, name="two", scale=(1, 0.5, 0.5), translate=(0, 3, 4))
    viewer.add_labels(mask[1], scale=(0.5, 0.5), translate=(3, 4))
    assert read(dock) == "1 plane of 64 x 64, 2 channels, trained as 2-D."
    dock.reading.form["channel"].value = 1
    assert "channel 1 of 0 to 1" in read(dock)
    assert dock.config().channel_axis is None
    dock.reading.form["channel"].value = "all"
    train(qtbot, dock)
    assert dock.models.model.in_channels == 2
    segmentation = viewer.layers[-1]
    assert segmentation.data.shape == (64, 64)
    expected = layer.data_to_world((0, 5, 6))[1:]
    np.testing.assert_allclose(segmentation.data_to_world((5, 6)), expected)
    assert dock.models.reading.form["channel"].value == "all"
    dock.reading.form["channel_axis"].value = -1
    assert "has shape (2, 64, 64)" in dock.panel.reason.text()


def test_colours(qtbot, viewer, dock, stack):
    image, mask = stack
    viewer.add_image(np.stack(image[:3] // 2, axis=-1).astype(np.uint8), rgb=True, name="colours")
    viewer.add_labels(mask[0])
    assert read(dock) == "1 plane of 64 x 64, 3 colours, trained as 2-D."
    assert rows(dock.reading.form) == {"channel"}
    train(qtbot, dock)
    assert viewer.layers[-1].data.shape == (64, 64)
    assert dock.models.model.record["config"]["channel_axis"] == 2


def test_a_region_of_a_coarse_level(qtbot, viewer, dock):
    rng = np.random.default_rng(0)
    truth = np.kron(rng.integers(0, 2, (16, 16)), np.ones((8, 8), np.uint8)).astype(np.uint8)
    image = 100.0 * truth + rng.normal(0, 10, truth.shape)
    levels = [image, image[::2, ::2], image[::4, ::4]]
    layer = viewer.add_image(levels, name="pyramid", multiscale=True, translate=(9, 8), rotate=20)
    viewer.add_labels(truth, translate=(9, 8), rotate=20)
    square = np.array([[9.5, 9.5], [9.5, 99.5], [79.5, 99.5], [79.5, 9.5]])
    shapes = viewer.add_shapes([square], name="part", translate=(9, 8), rotate=20)
    assert rows(dock.reading.form) == {"level", "region"}
    dock.reading.form["level"].value = 1
    dock.reading.form["region"].value = shapes
    dock.models.reading.form["region"].value = shapes
    assert read(dock) == "1 plane of 64 x 64, trained as 2-D, inside part."
    train(qtbot, dock)
    probability = viewer.layers[-2]
    assert probability.data.shape == (64, 64)
    np.testing.assert_allclose(
        probability.data_to_world((5, 6)), layer.data_to_world((10.5, 12.5)), atol=1e-9
    )
    inside = np.zeros((64, 64), bool)
    inside[5:40, 5:50] = True
    np.testing.assert_array_equal(probability.data > 0, inside)
    viewer.layers.remove(shapes)
    assert "inside" not in read(dock)


def test_segment_inside_a_region(qtbot, viewer, open_dock, stack):
    image, _ = stack
    layer = viewer.add_image(image, name="discs", scale=(2, 0.5, 0.5))
    corners = np.array([[7, 5], [7, 27], [29, 27], [29, 5]]) / 2
    shapes = viewer.add_shapes([corners], name="part")
    dock = open_dock("Segment with few or no labels")[1]
    dock.form["polarity"].value = "bright"
    dock.form["epochs"].value = 1
    values = {"channels": 4, "depth": 3, "patch_size": 16, "batch_size": 4, "min_steps": 30}
    dock.advanced.set_values(values)
    dock.reading.form["region"].value = shapes
    assert "segmented as 2-D, inside part on every plane" in read(dock)
    dock.panel.run_button.click()
    qtbot.waitUntil(lambda: not dock.panel.running, timeout=LONG)
    found = viewer.layers[-1]
    assert found.data.shape == image.shape
    np.testing.assert_allclose(found.data_to_world((1, 2, 3)), layer.data_to_world((1, 2, 3)))
    where = np.argwhere(viewer.layers[-2].data > 0)
    assert where[:, 1].min() >= 7
    assert where[:, 1].max() <= 29
    assert found.data.any()


def test_the_channels_of_an_image_are_not_those_of_the_next(qtbot, viewer, open_dock):
    colours = np.zeros((40, 50, 3), np.uint8)
    image = viewer.add_image(colours, rgb=True, name="stained")
    window, dock = open_dock("Segment with few or no labels")
    dock.reading.form["channel"].value = 1
    viewer.window.remove_dock_widget(window)
    window, dock = open_dock("Segment with few or no labels")
    assert dock.reading.form["channel"].value == 1
    qtbot.waitUntil(lambda: dock._has_place)
    viewer.layers.selection.active = viewer.add_image(colours, rgb=True, name="other colours")
    assert dock.images[0].value == image  # it was there when the dock was closed
    viewer.layers.remove("other colours")
    viewer.window.remove_dock_widget(window)
    viewer.layers.remove(image)
    viewer.add_image(np.zeros((20, 40, 50)), name="volume", axis_labels=("z", "y", "x"))
    dock = open_dock("Segment with few or no labels")[1]
    assert dock.config().channel_axis is None
    assert dock.reading.source().shape == (20, 40, 50)
    qtbot.waitUntil(lambda: dock._has_place)
    other = viewer.add_image(np.zeros((20, 40, 50)), name="other")
    assert dock.images[0].value == other  # chosen by nobody: it follows the selected layer
