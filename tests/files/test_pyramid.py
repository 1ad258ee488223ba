"""Coarser levels, written while the image is."""

import numpy as np
import pytest

from napari_metastructure.files.pyramid import coarser_levels, halved

zarr = pytest.importorskip("zarr")

from napari_metastructure.files.ome_zarr import create_image, open_image  # noqa: E402
from napari_metastructure.files.write import write  # noqa: E402


@pytest.mark.parametrize(
    ("shape", "chunks", "count"),
    [
        ((3, 512, 512), (1, 512, 512), 0),
        ((3, 513, 100), (1, 513, 100), 1),
        ((3, 20_000, 20_000), (1, 1024, 1024), 3),  # chunks of 128
        ((2000, 2000), (1000, 1000), 2),
        ((2000, 2000), (999, 999), 0),
        ((5, 600, 700), (1, 10, 10), 0),
    ],
)
def test_levels(shape, chunks, count):
    levels = coarser_levels(shape, chunks)
    assert len(levels) == count
    for level, _ in levels:
        assert level[:-2] == shape[:-2]
    if count:
        assert levels[0][0][-2:] == tuple(-(-side // 2) for side in shape[-2:])


def test_halved():
    block = np.array([[0, 2, 8], [4, 6, 8], [1, 1, 1]], np.uint8)
    np.testing.assert_array_equal(halved(block, False), [[0, 8], [1, 1]])
    np.testing.assert_array_equal(halved(block, True), [[3, 8], [1, 1]])
    np.testing.assert_array_equal(halved(block.astype("f4"), True), [[3, 8], [1, 1]])
    assert halved(block, True).dtype == np.uint8


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("chunks", [(1, 1300, 901), (1, 512, 512)])
@pytest.mark.parametrize(
    "order",
    [
        [(0,), (1,)],
        [...],
        [(slice(None), slice(512, 1300)), (slice(None), slice(0, 512))],
        [(i, slice(a, a + 130)) for i in (1, 0) for a in range(0, 1300, 130)],
        [(i, slice(a, a + 77), slice(b, b + 333)) for i in (0, 1)
         for a in range(0, 1300, 77) for b in range(0, 901, 333)],
    ],
)  # fmt: skip
def test_levels_are_those_of_the_whole_however_it_is_written(tmp_path, dtype, chunks, order):
    pixels = np.random.default_rng(0).integers(0, 200, (2, 1300, 901)).astype(dtype)
    image = create_image(tmp_path / "x.ome.zarr", pixels.shape, dtype, chunks=chunks)
    for where in order:
        image[where] = pixels[where]
    image.finish()
    assert len(image.coarser) == 2
    expected = pixels
    for level in range(3):
        found = open_image(image.path, level)
        np.testing.assert_allclose(found[:], expected, rtol=1e-6)
        assert found.dtype == dtype
        expected = halved(expected, dtype == "float32")


def test_pixels_of_a_level_lie_in_the_middle_of_those_that_they_cover(tmp_path):
    image = create_image(
        tmp_path / "x.ome.zarr", (1, 600, 600), "uint8", scale=(2, 0.5, 0.5), translation=(0, 3, 4)
    )
    coarse = open_image(image.path, 1, missing="fill")
    assert coarse.scale == (2, 1, 1)
    assert coarse.translation == (0, 3.25, 4.25)


def test_a_number_fills_all_levels(tmp_path):
    image = create_image(tmp_path / "x.ome.zarr", (600, 600), "uint8")
    image[:, 100:300] = 7
    assert (open_image(image.path, 1, missing="fill")[:, 50:150] == 7).all()


def test_write_makes_levels(tmp_path):
    labels = np.zeros((700, 900), np.uint8)
    labels[100:300] = 2
    write(tmp_path / "x.ome.zarr", labels)
    np.testing.assert_array_equal(open_image(tmp_path / "x.ome.zarr", 1)[:], labels[::2, ::2])
