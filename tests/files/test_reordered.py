"""OME-Zarr images whose axes are stored in another order than they are written in."""

import numpy as np
import pytest

from napari_metastructure.files.pixels import Pixels
from napari_metastructure.files.read import read
from napari_metastructure.files.write import create_zarr

MAPS = np.random.default_rng(0).random((2, 5, 3, 12, 10)).astype(np.float32)  # class, t, z, y, x


@pytest.fixture
def image(tmp_path):
    like = Pixels(MAPS[0], "tzyx", (5.0, 2.0, 0.5, 0.5), ("second", *["micrometer"] * 3))
    return create_zarr(tmp_path / "maps.ome.zarr", MAPS.shape, np.float32, like=like)


def test_maps_of_classes_are_stored_behind_time(image):
    assert (image.shape, image.ndim, image.chunks) == (MAPS.shape, 5, (1, 1, 1, 12, 10))
    for t in range(5):
        image[:, t, 0] = MAPS[:, t, 0]
        image[0, t, 1:] = MAPS[0, t, 1:]
        image[1, t, 1:3, 4:] = MAPS[1, t, 1:, 4:]
    image[1, ..., 1:, :4, :] = MAPS[1, :, 1:, :4]
    image.finish({"operation": "predict"})
    found = read(image.path)
    assert (found.axes, found.complete) == ("tczyx", True)
    assert found.scale == (5.0, 1.0, 2.0, 0.5, 0.5)
    np.testing.assert_array_equal(found.data, MAPS.swapaxes(0, 1))
    for where in (0, (slice(None), 2), (..., 3), (1, slice(1, 4), 0), ...):
        np.testing.assert_array_equal(image[where], MAPS[where])
    np.testing.assert_array_equal(image.lazy, MAPS)


def test_one_value_for_all(image):
    image[1] = 2
    assert not image[0].any()
    assert (image[1] == 2).all()


def test_planes_before_channels_as_imagej_has_them(tmp_path):
    like = Pixels(MAPS[0], "zcyx", (2.0, 1.0, 0.5, 0.5), ("pixel",) * 4)
    image = create_zarr(tmp_path / "labels.ome.zarr", MAPS[0].shape, np.float32, like=like)
    image[...] = MAPS[0]
    assert image.axes == "czyx"
    np.testing.assert_array_equal(image.array, MAPS[0].swapaxes(0, 1))
