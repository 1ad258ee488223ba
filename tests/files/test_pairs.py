"""Which mask belongs to which image."""

import numpy as np
import pytest
import tifffile

from napari_metastructure.files.pairs import folder_layout
from napari_metastructure.files.read import (
    read_labels,
    read_matched,
    read_outcome,
    read_pair,
)
from napari_metastructure.files.write import write

NUMBERS = (1, 2, 10)


def fill(folder, image, mask):
    """Three images and masks under names made from these patterns; each holds its number."""
    for number in NUMBERS:
        for pattern, dtype in ((image, np.uint16), (mask, np.uint8)):
            path = folder / pattern.format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((4, 5), number, dtype)
            np.save(path, pixels) if path.suffix == ".npy" else tifffile.imwrite(path, pixels)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.tif", "masks/{}.tif"),
        ("Images/{}.tif", "Masks/{}.npy"),
        ("img/{}.tif", "gt/{}.tif"),
        ("image/{}.tif", "label/{}.tif"),
        ("raw/{}.ome.tif", "annotations/{}.tif"),
        ("images/{}.tif", "targets/{}.ome.tif"),
        ("images/{}.tif", "masks/{}_mask.tif"),
        ("images/{}_img.tif", "labels/{}_label.tif"),
        ("imagesTr/case_{}_0000.tif", "labelsTr/case_{}.tif"),
        ("train/images/{}.tif", "train/masks/{}.tif"),
        ("{}.tif", "{}_mask.tif"),
        ("{}.tif", "{}_masks.npy"),
        ("{}.tif", "{}_seg.npy"),
        ("{}.tif", "{}_cp_masks.tif"),
        ("{}.tif", "mask_{}.tif"),
        ("{}_img.tif", "{}_gt.tif"),
        ("train/{}.tif", "train/{}_labels.tif"),
    ],
)
def test_layouts_people_have(image, mask, tmp_path, recwarn):
    fill(tmp_path, image, mask)
    images, labels = read_pair(tmp_path)
    assert images.data[:, 0, 0].tolist() == labels.data[:, 0, 0].tolist() == list(NUMBERS)
    assert (images.data.dtype, labels.data.dtype) == (np.uint16, np.uint8)
    assert not recwarn.list


def test_other_folders_are_no_layout(tmp_path):
    fill(tmp_path, "images/{}.tif", "other/{}.tif")
    assert folder_layout(tmp_path) is None
    assert folder_layout(tmp_path / "images") is None
    assert folder_layout(tmp_path / "nowhere") is None
    with pytest.raises(ValueError, match="There are no labels"):
        read_pair(tmp_path)


def test_two_folders_are_paired_by_name_and_the_rest_is_listed(tmp_path):
    fill(tmp_path, "a/{}.tif", "b/{}_seg.tif")
    (tmp_path / "b" / "2_seg.tif").unlink()
    said = r"^2 images with masks \(a/1\.tif with b/1_seg\.tif\); 1 image without a mask is left"
    with pytest.warns(UserWarning, match=said):
        images, labels = read_pair(tmp_path / "a", tmp_path / "b")
    assert images.data[:, 0, 0].tolist() == labels.data[:, 0, 0].tolist() == [1, 10]


def test_names_that_do_not_fit_are_paired_in_order_with_a_note(tmp_path):
    fill(tmp_path, "a/cell{}.tif", "b/truth{}.tif")
    with pytest.warns(UserWarning, match=r"do not fit \(cell1\.tif, truth1\.tif\): .* in order"):
        images, labels = read_pair(tmp_path / "a", tmp_path / "b")
    assert images.data[:, 0, 0].tolist() == labels.data[:, 0, 0].tolist()


def test_two_images_of_one_name_are_refused(tmp_path):
    fill(tmp_path, "a/{}.tif", "b/{}_seg.tif")
    tifffile.imwrite(tmp_path / "a" / "1_img.tif", np.zeros((4, 5), np.uint8))
    with pytest.raises(
        ValueError, match=r"1\.tif and .*1_img\.tif have the same name, 1; give only one"
    ):
        read_pair(tmp_path / "a", tmp_path / "b")


def test_other_parts_of_a_data_set_are_said_to_be_left_out(tmp_path):
    for part in ("Train", "val", "test"):
        fill(tmp_path / "set", f"{part}/images/{{}}.tif", f"{part}/masks/{{}}.tif")
    said = []
    read_pair(tmp_path / "set", say=said.append)
    assert said[0] == "Of set, train is read, and test and val left out."
    with pytest.warns(UserWarning, match="test and val left out"):
        read_pair(tmp_path / "set")
    said.clear()
    read_pair(tmp_path / "set" / "val", say=said.append)
    read_pair(tmp_path / "set/val/images", tmp_path / "set/val/masks", say=said.append)
    assert not any("left out" in text for text in said)


@pytest.mark.parametrize("colours", [(), (3,)])
def test_a_folder_of_one_image_fits_a_file_of_one(tmp_path, colours):
    (tmp_path / "images").mkdir()
    pixels = np.arange(126, dtype=np.uint8).reshape(6, 7, 3)
    tifffile.imwrite(tmp_path / "images" / "a.tif", pixels if colours else pixels[..., 0])
    tifffile.imwrite(tmp_path / "masks.tif", np.ones((6, 7), np.uint8))
    images, labels = read_matched(tmp_path / "images", tmp_path / "masks.tif")
    assert images.data.shape == (1, 6, 7, *colours)
    assert labels.data.shape == (1, 6, 7)
    assert (labels.axes, len(labels.scale), len(labels.units)) == ("iyx", 3, 3)


def test_probabilities_of_one_image_fit_a_folder_of_one_mask(tmp_path):
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "a.tif", np.ones((6, 7), np.uint8))
    likely = np.full((2, 6, 7), 0.5, np.float32)
    tifffile.imwrite(tmp_path / "likely.ome.tif", likely, metadata={"axes": "CYX"})
    readers = (read_outcome, read_labels)
    found, _ = read_matched(tmp_path / "likely.ome.tif", tmp_path / "masks", readers=readers)
    assert (found.data.shape, found.axes) == ((2, 1, 6, 7), "ciyx")


def test_a_place_has_an_axis_more_with_its_image(tmp_path):
    (tmp_path / "masks").mkdir()
    tifffile.imwrite(tmp_path / "masks" / "a.tif", np.ones((6, 7), np.uint8))
    pixels = np.zeros((6, 7), np.uint16)
    write(tmp_path / "image.ome.zarr", pixels, axes="yx", translation=(2.0, 3.0))
    images, _ = read_matched(tmp_path / "image.ome.zarr", tmp_path / "masks")
    assert images.data.shape == (1, 6, 7)
    assert tuple(images.translation) == (0.0, 2.0, 3.0)
