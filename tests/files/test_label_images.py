"""Masks as people save them: palettes, colours, opacity, floats."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_metastructure.files.label_images import with_colours_of
from napari_metastructure.files.read import read, read_labels, read_outcome, read_pair
from tests.files.conftest import LABELS

PALETTE = [0, 0, 0, 200, 0, 0, 0, 90, 0] + [9] * 600


def test_numbers_of_a_palette_are_the_labels(tmp_path):
    picture = Image.fromarray(LABELS[0], mode="P")
    picture.putpalette(PALETTE)
    for ending in ("png", "gif", "bmp"):
        picture.save(tmp_path / f"a.{ending}")
        np.testing.assert_array_equal(read_labels(tmp_path / f"a.{ending}").data, LABELS[0])
    colours = np.zeros((3, 256), np.uint16)
    options = {"photometric": "palette", "colormap": colours}
    tifffile.imwrite(tmp_path / "a.tif", LABELS[0], **options)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").data, LABELS[0])


def test_each_colour_is_one_label_in_all_files(tmp_path):
    table = np.array([[0, 0, 0], [0, 0, 255], [255, 255, 255], [255, 0, 0]], np.uint8)
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[0, :2], masks[0, 4:], masks[1, :3] = 1, 3, 2  # the second file looks grey
    for number, mask in enumerate(masks):
        Image.fromarray(table[mask]).save(tmp_path / f"{number}.png")
    with pytest.warns(UserWarning, match=r"0\.png and 2 more: each colour .* 1 = #0000ff, 2 = "):
        found = read_labels(tmp_path)
    expected = np.array([0, 1, 3, 2], np.uint8)[masks]  # by the colour's number: ff0000 < ffffff
    np.testing.assert_array_equal(found.data, expected)
    assert found.axes == "iyx"


def test_without_black_the_most_frequent_colour_is_background(tmp_path):
    picture = np.full((8, 8, 3), (200, 10, 10), np.uint8)
    picture[:2] = 10, 10, 200
    Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="0 = #c80a0a, 1 = #0a0ac8"):
        found = read_labels(tmp_path / "a.png")
    assert found.data.sum() == 16
    assert found.data[:2].all()


def test_a_photograph_is_no_mask(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is a picture of \d+ colours, not labels"):
        read_labels(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_opacity_counts_where_there_is_one_colour(mode, tmp_path):
    samples = np.zeros((*LABELS[0].shape, len(mode)), np.uint8)
    samples[..., -1] = LABELS[0]
    Image.fromarray(samples, mode=mode).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"a\.png has one colour only; its opacity is read"):
        found = read_labels(tmp_path / "a.png")
    np.testing.assert_array_equal(found.data, LABELS[0])
    samples[..., :-1] = LABELS[0][..., None]  # grey, and opaque
    samples[..., -1] = 255
    Image.fromarray(samples, mode=mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").data, LABELS[0])


def test_floats_keep_their_values_or_are_refused_by_name(tmp_path):
    labels = np.array([[0, 255], [256, 300]], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", labels)
    found = read_labels(tmp_path / "a.tif").data
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, labels)
    np.save(tmp_path / "b.npy", labels / 2)
    with pytest.raises(TypeError, match=r"labels in .*b\.npy must be integers.* 127.5 is among"):
        read_labels(tmp_path / "b.npy")


def test_files_of_mixed_types_make_one_stack(tmp_path):
    np.save(tmp_path / "1.npy", np.array([[-1, 5]]))
    np.save(tmp_path / "2.npy", np.array([[0, 7]], np.uint64))
    np.save(tmp_path / "3.npy", np.array([[0.0, 300.0]]))
    found = read_labels(tmp_path).data
    np.testing.assert_array_equal(found, [[[-1, 5]], [[0, 7]], [[0, 300]]])


def test_colour_images_with_palette_masks(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number, mask in enumerate(LABELS):
        image = np.stack([mask * 9, mask * 50, mask * 3], -1)
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
        picture = Image.fromarray(mask, mode="P")
        picture.putpalette(PALETTE)
        picture.save(tmp_path / "masks" / f"{number}.png")
    images, labels = read_pair(tmp_path)
    assert (images.axes, labels.axes) == ("iyxs", "iyx")
    np.testing.assert_array_equal(labels.data, LABELS)


@pytest.mark.filterwarnings("ignore")
def test_masks_of_one_colour_each_are_the_same_mask(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[:2] = 1
    for name, colours in (("a", COLOURS[:2]), ("b", COLOURS[[0, 2]])):
        Image.fromarray(colours[mask]).save(tmp_path / f"{name}.png")
    first, second = (read_labels(tmp_path / f"{name}.png") for name in "ab")
    np.testing.assert_array_equal(with_colours_of(second, first).data, mask)


COLOURS = np.array([[0, 0, 0], [0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8)


def test_colours_have_the_same_numbers_in_other_files(tmp_path):
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[0, :2], masks[0, 4:] = 1, 2
    masks[1, :3], masks[1, 6:] = 2, 3  # a colour fewer, and one more
    for name, mask in zip("ab", masks):
        Image.fromarray(COLOURS[mask]).save(tmp_path / f"{name}.png")
    with pytest.warns(UserWarning, match="each colour"):
        first, second = (read_labels(tmp_path / f"{name}.png") for name in "ab")
    with pytest.warns(
        UserWarning, match="Both are numbered in the same way: 0 = #000000, 1 = #0000ff, 2 = "
    ):
        found = with_colours_of(second, first)
    np.testing.assert_array_equal(first.data, masks[0])
    np.testing.assert_array_equal(found.data, masks[1])
    assert with_colours_of(second, None) is second


def test_numbers_beside_colours_are_refused(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[:2], mask[4:6] = 1, 2
    Image.fromarray(COLOURS[mask]).save(tmp_path / "a.png")
    Image.fromarray(mask).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"b\.png holds numbers but .*a\.png colours"):
        read_labels(tmp_path)
    with pytest.warns(UserWarning, match="each colour"):
        coloured = read_labels(tmp_path / "a.png")
    with pytest.raises(ValueError, match="Some masks hold numbers and others colours"):
        with_colours_of(read_labels(tmp_path / "b.png"), coloured)
    more = replace(coloured, data=coloured.data + 1, colours=coloured.colours[::-1])
    with pytest.raises(ValueError, match="There are other labels than the 3 that were colours"):
        with_colours_of(more, coloured)


def test_what_nobody_sees_is_background(tmp_path):
    picture = np.zeros((8, 8, 4), np.uint8)
    picture[:2], picture[4:] = (0, 0, 255, 255), (255, 0, 0, 255)
    picture[2:4] = 90, 80, 70, 0  # invisible
    Image.fromarray(picture).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="each colour"):
        found = read_labels(tmp_path / "a.png").data
    assert not found[2:4].any()
    assert set(np.unique(found)) == {0, 1, 2}


def test_a_jpeg_mask_of_two_values_is_read_and_one_of_more_refused(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[10:40, 20:50] = 255
    Image.fromarray(mask).save(tmp_path / "a.jpg", quality=60)
    with pytest.warns(UserWarning, match=r"a\.jpg is a JPEG file.*read as 0 and 255"):
        np.testing.assert_array_equal(read_labels(tmp_path / "a.jpg").data, mask)
    mask[10:40, 20:50] = 130
    Image.fromarray(mask).save(tmp_path / "b.jpg", quality=60)
    with pytest.raises(ValueError, match=r"b\.jpg is a JPEG file.*save masks as PNG or TIFF"):
        read_labels(tmp_path / "b.jpg")


def test_an_outcome_is_probabilities_or_labels(tmp_path):
    p = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    tifffile.imwrite(tmp_path / "p.tif", p)
    np.testing.assert_array_equal(read_outcome(tmp_path / "p.tif").data, p)
    tifffile.imwrite(tmp_path / "l.tif", 3 * np.round(p))
    assert read_outcome(tmp_path / "l.tif").data.dtype.kind == "u"
    mask = (p > 0.5).astype(np.uint8)
    Image.fromarray(COLOURS[mask]).save(tmp_path / "c.png")
    with pytest.warns(UserWarning, match="each colour"):
        np.testing.assert_array_equal(read_outcome(tmp_path / "c.png").data, mask)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_three_planes_of_floats_are_no_colours(tmp_path, dtype):
    stack = np.random.default_rng(0).integers(0, 3, (3, 5, 6)).astype(dtype)
    guess = {"photometric": "rgb", "planarconfig": "separate"}  # of tifffile, from the shape
    tifffile.imwrite(tmp_path / "a.tif", stack, **guess)
    assert read(tmp_path / "a.tif").axes == "iyx"
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").data, stack)


def test_three_planes_of_labels_are_no_colours(tmp_path):
    stack = np.random.default_rng(0).integers(0, 2, (3, 5, 6)).astype(np.uint8)
    guess = {"photometric": "rgb", "planarconfig": "separate"}  # of tifffile, from the shape
    tifffile.imwrite(tmp_path / "a.tif", stack, **guess)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").data, stack)
    assert read(tmp_path / "a.tif").axes == "yxs"


def with_palette(path, mask, colours):
    picture = Image.fromarray(mask, mode="P")
    picture.putpalette(list(np.ravel(colours)) + [9] * 30)
    picture.save(path)


def test_numbers_of_a_palette_are_the_colours_that_it_shows(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[:2], mask[4:6], mask[6:] = 1, 2, 5  # 3 and 4 are not there
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [0, 0, 255], [9, 9, 9], [0, 255, 0]])
    with_palette(tmp_path / "a.png", mask, colours)
    Image.fromarray(colours.astype(np.uint8)[mask]).save(tmp_path / "b.png")
    numbers = read_labels(tmp_path / "a.png")
    np.testing.assert_array_equal(numbers.data, mask)
    assert numbers.colours == ()
    with pytest.warns(UserWarning, match="each colour"):
        coloured = read_labels(tmp_path / "b.png")  # blue, green, red
    with pytest.warns(
        UserWarning, match="in the same way: 0 = #000000, 1 = #ff0000, 2 = #0000ff, 5"
    ):
        np.testing.assert_array_equal(with_colours_of(coloured, numbers).data, mask)
    with pytest.warns(UserWarning, match="in the same way"):
        found = with_colours_of(numbers, coloured)
    np.testing.assert_array_equal(found.data, coloured.data)
    for others in ([[0, 0, 0], *[[200 + k, 0, 0] for k in range(5)]], [[0, 0, 0]] * 6):
        with_palette(tmp_path / "a.png", mask, others)  # shown in other colours, or in one
        with pytest.raises(ValueError, match="Some masks hold numbers and others colours"):
            with_colours_of(read_labels(tmp_path / "a.png"), coloured)
