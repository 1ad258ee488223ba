"""Masks saved with smooth edges become two values; labels are never touched."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFilter
from scipy import ndimage
from skimage.draw import disk
from skimage.measure import label
from skimage.segmentation import find_boundaries

from napari_metastructure.files.read import read_labels, read_outcome, read_pair
from tests.cli.test_main import run

SIDE = 96


def discs(seed, side=SIDE, number=14):
    """A mask of 0 and 255."""
    rng, mask = np.random.default_rng(seed), np.zeros((side, side), np.uint8)
    for _ in range(number):
        mask[disk(rng.uniform(0, side, 2), rng.uniform(4, 11), shape=mask.shape)] = 255
    return mask


def picture(change, seed=0):
    return np.array(change(Image.fromarray(discs(seed))))


SMOOTH = {
    "halved": lambda image: image.resize((SIDE // 2, SIDE // 2), Image.Resampling.BOX),
    "a third": lambda image: image.resize((SIDE // 3, SIDE // 3), Image.Resampling.BOX),
    "shrunk": lambda image: image.resize((60, 60), Image.Resampling.LANCZOS),
    "enlarged": lambda image: image.resize((3 * SIDE, 3 * SIDE), Image.Resampling.BICUBIC),
    "turned": lambda image: image.rotate(7, Image.Resampling.BICUBIC),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(0.7)),
}


@pytest.mark.parametrize("ending", ["png", "tif", "npy"])
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_edges_are_divided_at_half_height(name, ending, tmp_path):
    grey = picture(SMOOTH[name])
    assert len(np.unique(grey)) > 4
    save(tmp_path / f"a.{ending}", grey)
    with pytest.warns(UserWarning, match=rf"a\.{ending} is a mask with smooth edges, divided at"):
        found = read_labels(tmp_path / f"a.{ending}").data
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.where(grey > 127, 255, 0))
    with pytest.warns(UserWarning, match="smooth edges"):
        np.testing.assert_array_equal(read_outcome(tmp_path / f"a.{ending}").data, found)


def save(path, pixels):
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, pixels)
    else:
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_what_a_lossy_file_left_behind(quality, tmp_path):
    Image.fromarray(discs(0)).save(tmp_path / "a.jpg", quality=quality)
    save(tmp_path / "a.png", np.array(Image.open(tmp_path / "a.jpg")))
    with pytest.warns(UserWarning, match=r"a\.png is a mask with smooth edges"):
        np.testing.assert_array_equal(read_labels(tmp_path / "a.png").data, discs(0))


def test_a_jpeg_file_with_smooth_edges(tmp_path):
    grey = picture(SMOOTH["enlarged"])
    Image.fromarray(grey).save(tmp_path / "a.jpg", quality=90)
    with pytest.warns(UserWarning, match=r"a\.jpg is a mask with smooth edges"):
        found = read_labels(tmp_path / "a.jpg").data
    assert np.mean(found == np.where(grey > 127, 255, 0)) > 0.99


def test_sixteen_bits_and_colours_that_are_grey(tmp_path):
    grey = picture(SMOOTH["turned"])
    save(tmp_path / "a.tif", grey.astype(np.uint16) * 257)
    with pytest.warns(UserWarning, match="into 0 and 65535"):
        found = read_labels(tmp_path / "a.tif").data
    np.testing.assert_array_equal(found, np.where(grey > 127, 65535, 0).astype(np.uint16))
    save(tmp_path / "b.png", np.stack([grey] * 3, -1))
    with pytest.warns(UserWarning, match="into 0 and 255"):
        np.testing.assert_array_equal(read_labels(tmp_path / "b.png").data > 0, found > 0)


def test_files_of_a_folder_are_one_mask(tmp_path):
    grey = [picture(SMOOTH["turned"], seed) for seed in range(3)]
    grey[1] = np.zeros_like(grey[1])  # nothing in it
    grey[2] = np.where(grey[2] > 127, 255, 0).astype(np.uint8)
    grey[2][5, 5] = 90  # too little to tell on its own
    for number, pixels in enumerate(grey):
        save(tmp_path / f"{number}.png", pixels)
    with pytest.warns(UserWarning, match=r"0\.png and 1 more are masks with smooth edges"):
        found = read_labels(tmp_path).data
    np.testing.assert_array_equal(found, np.where(np.stack(grey) > 127, 255, 0))


def test_labels_beside_smooth_masks_are_refused(tmp_path):
    for number in range(20):
        save(tmp_path / f"{number}.png", picture(SMOOTH["turned"], number))
    classes = discs(30)
    classes[20:40, 20:40] = 100
    save(tmp_path / "20.png", classes)
    with pytest.raises(ValueError, match=r"20\.png holds labels, but other files masks with"):
        read_labels(tmp_path)


def discs_in_the_dark():
    """A noisy picture of discs on a black background, and their numbers."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :128]
    centres = (np.stack(np.mgrid[:4, :4], -1).reshape(-1, 2) * 32 + 16).tolist()
    numbers = sum((n + 1) * ((y - a) ** 2 + (x - b) ** 2 < 169) for n, (a, b) in enumerate(centres))
    bright = sum(np.hypot(13, 3) - np.hypot(np.hypot(y - a, x - b).clip(0, 13), 3)
                 for a, b in centres)  # fmt: skip
    shown = 12 * bright + rng.normal(0, 6, numbers.shape) * (numbers > 0)
    return np.where(numbers > 0, shown, 0).clip(0, 255).astype(np.uint8), numbers


def test_a_picture_with_a_dark_background_is_no_labels(tmp_path):
    shown, _ = discs_in_the_dark()
    assert np.bincount(shown.ravel()).argmax() == 0
    save(tmp_path / "a.png", shown)
    with pytest.raises(ValueError, match=r"a\.png is a grey picture, not labels"):
        read_labels(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["clean", "flip", "touching"])
def test_many_numbers_are_labels_also_at_random(tmp_path, kind):
    _, numbers = discs_in_the_dark()
    labels = (numbers * 7).astype(np.uint16)
    if kind == "flip":
        other = np.random.default_rng(1).integers(0, 113, labels.shape)
        labels = np.where(other % 2, labels, other).astype(np.uint16)
    if kind == "touching":
        y, x = np.mgrid[:128, :128]
        labels = (y // 3 * 43 + x // 3).astype(np.uint16)  # 3 x 3 pixels each
    save(tmp_path / "a.tif", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").data, labels)


def test_grey_pictures_are_no_labels(tmp_path):
    noise = np.random.default_rng(0).normal(size=(SIDE, SIDE))
    smooth = ndimage.gaussian_filter(noise, 2)
    photograph = np.clip(128 + 900 * smooth, 0, 255).astype(np.uint8)
    save(tmp_path / "a.png", photograph)
    with pytest.raises(ValueError, match=r"a\.png is a grey picture, not labels"):
        read_labels(tmp_path / "a.png")
    save(tmp_path / "c.tif", photograph.astype(np.uint16) * 11 + 90)  # of a camera of 12 bits
    with pytest.raises(ValueError, match=r"c\.tif is a grey picture, not labels"):
        read_labels(tmp_path / "c.tif")
    thin = picture(lambda image: image.filter(ImageFilter.GaussianBlur(5)))
    save(
        tmp_path / "b.png", np.clip(thin.astype(float) / thin.max() * 255, 0, 255).astype(np.uint8)
    )
    with pytest.raises(ValueError, match=r"b\.png is a grey picture, not labels"):
        read_labels(tmp_path / "b.png")


def labels_of_any_kind():
    """Labels whose values fill 0 to 255, by name."""
    rng = np.random.default_rng(0)
    dust = label(rng.random((SIDE, SIDE)) < 0.25, connectivity=1)
    cells = label(ndimage.gaussian_filter(rng.random((SIDE, SIDE)), 1) > 0.53)
    points = rng.random(dust.shape) < 0.02
    mask = discs(0)
    rim = find_boundaries(mask, mode="outer")
    classes = np.select([mask > 0, ndimage.binary_dilation(mask, iterations=3)], [255, 128], 0)
    voc = np.where(mask > 0, discs(1) // 40 + 8, 0)
    yield "dust", spread(dust)
    yield "dust of any numbers", spread(dust, rng)
    yield "cells", spread(cells)
    yield "cells of any numbers", spread(cells, rng)
    yield "borders of cells", spread(cells * find_boundaries(cells, mode="inner"), rng)
    yield "points", spread(np.cumsum(points).reshape(dust.shape) * points)
    yield "a thin class around another", np.where(rim, 128, mask)
    yield "a class around another", classes
    yield "classes with a border that does not count", np.where(rim, 255, voc)
    yield "a rim of any numbers", np.where(rim, rng.integers(1, 255, rim.shape), mask)
    yield "dust beside an object", np.where(mask, 255, spread(dust) * 254 // 255)
    yield "drawn at random", rng.integers(0, 256, (SIDE, SIDE))
    some = rng.random((SIDE, SIDE)) < 0.3
    yield "some drawn at random", np.where(some, rng.integers(0, 256, some.shape), spread(cells))


def spread(labels, rng=None):
    """The labels with numbers from 1 to 255, the highest among them."""
    ids = np.unique(labels[labels > 0])
    values = np.linspace(1, 255, len(ids)).astype(int)
    table = np.zeros(labels.max() + 1, int)
    table[ids] = values if rng is None else rng.permutation(values)
    return table[labels]


@pytest.mark.parametrize(
    "labels", [pytest.param(a, id=name.replace(" ", "-")) for name, a in labels_of_any_kind()]
)
def test_labels_stay_as_they_are(labels, tmp_path, recwarn):
    assert labels.max() == 255
    save(tmp_path / "a.png", labels.astype(np.uint8))
    save(tmp_path / "b.tif", np.where(labels == 255, 65535, labels).astype(np.uint16))
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png").data, labels)
    found = read_labels(tmp_path / "b.tif").data
    np.testing.assert_array_equal(np.where(found == 65535, 255, found), labels)
    tripled = labels.astype(np.uint16) * 3
    save(tmp_path / "c.tif", tripled)
    np.testing.assert_array_equal(read_labels(tmp_path / "c.tif").data, tripled)
    assert not recwarn.list


def test_what_is_larger_than_memory(tmp_path, monkeypatch):
    stack = np.stack([picture(SMOOTH["turned"], seed) for seed in range(4)])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    monkeypatch.setattr("napari_metastructure.files.pixels.LAZY", 100)
    with pytest.warns(UserWarning, match="smooth edges"):
        found = read_labels(tmp_path / "a.tif").data
    assert hasattr(found, "dask")
    np.testing.assert_array_equal(found.compute(), np.where(stack > 127, 255, 0))


def test_folders_and_the_command_line(tmp_path):
    for number in range(3):
        for name, pixels in (("images", discs(number)), ("masks", picture(SMOOTH["turned"]))):
            (tmp_path / name).mkdir(exist_ok=True)
            save(tmp_path / name / f"{number}.png", pixels)
    with pytest.warns(UserWarning, match="smooth edges"):
        _, labels = read_pair(tmp_path)
    assert set(np.unique(labels.data)) == {0, 255}
    text = run("compare", tmp_path / "masks", tmp_path / "masks")
    assert "are masks with smooth edges, divided at half height" in text
