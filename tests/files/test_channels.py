"""Files that are the channels of one image."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_metastructure.files.channels import masks_beside
from napari_metastructure.files.fingerprint import fingerprint
from napari_metastructure.files.read import read, read_labels, read_pair

CASES = ("liver_1", "liver_2", "liver_10")


def fill(folder, pattern, numbers=(0, 1), shape=(6, 7), cases=CASES):
    """Images of value 10 x case + channel, and their masks of value case."""
    for case, name in enumerate(cases, 1):
        for number in numbers:
            save(folder / pattern.format(f"{name}_{number:04}"), 10 * case + number, shape)


def save(path, value, shape=(6, 7)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(shape, value, np.uint8)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels, photometric="minisblack")


def fill_masks(folder, pattern, shape=(6, 7), cases=CASES):
    for case, name in enumerate(cases, 1):
        save(folder / pattern.format(name), case, shape)


@pytest.mark.parametrize("ending", ["tif", "png"])
@pytest.mark.parametrize("folders", [("imagesTr", "labelsTr"), ("images", "masks"), ("raw", "gt")])
def test_channels_of_images_with_masks(tmp_path, folders, ending):
    fill(tmp_path, f"{folders[0]}/{{}}.{ending}")
    fill_masks(tmp_path, f"{folders[1]}/{{}}.{ending}")
    said = []
    images, labels = read_pair(tmp_path, say=said.append)
    assert (images.axes, images.data.shape, images.channel_axis) == ("icyx", (3, 2, 6, 7), 1)
    assert images.data[..., 0, 0].tolist() == [[10, 11], [20, 21], [30, 31]]
    assert labels.data[:, 0, 0].tolist() == [1, 2, 3]
    assert images.names == labels.names == CASES
    example = f"{folders[0]}/liver_1_0000.{ending} to liver_1_0001.{ending}"
    example += f" with {folders[1]}/liver_1.{ending}"
    assert said == [f"3 images of 2 channels with masks ({example})."]
    alone = read(tmp_path / folders[0])  # as for predict and segment
    assert (alone.axes, alone.names) == ("icyx", CASES)
    assert (alone.data == images.data).all()


@pytest.mark.parametrize("name", ["imagesTs", "imagesVal"])
def test_images_of_nnunet_without_masks(tmp_path, name):
    fill(tmp_path, f"{name}/{{}}.tif", shape=(3, 6, 7))
    found = read(tmp_path / name)
    assert (found.axes, found.data.shape, found.names) == ("iciyx", (3, 2, 3, 6, 7), CASES)
    some = read([tmp_path / name / f"liver_2_{number:04}.tif" for number in (0, 1)])
    assert (some.axes, some.names) == ("iciyx", ("liver_2",))
    one = read(tmp_path / name / "liver_2_0000.tif")  # a file is a file
    assert one.data.shape == (3, 6, 7)


def test_one_channel_is_no_axis_but_the_name_is_that_of_the_case(tmp_path):
    fill(tmp_path, "imagesTs/{}.tif", numbers=(0,))
    found = read(tmp_path / "imagesTs")
    assert (found.axes, found.names) == ("iyx", CASES)


def test_images_of_several_sizes(tmp_path):
    fill(tmp_path, "imagesTr/{}.tif")
    fill(tmp_path, "imagesTr/{}.tif", shape=(8, 9), cases=("other",))
    fill_masks(tmp_path, "labelsTr/{}.tif")
    fill_masks(tmp_path, "labelsTr/{}.tif", shape=(8, 9), cases=("other",))
    images, labels = read_pair(tmp_path)
    assert [image.shape for image in images.data] == [(2, 6, 7)] * 3 + [(2, 8, 9)]
    assert [label.shape for label in labels.data] == [(6, 7)] * 3 + [(8, 9)]
    assert images.channel_axis == 0


def test_channels_that_lack_or_differ_are_told(tmp_path):
    fill(tmp_path, "imagesTr/{}.tif")
    (tmp_path / "imagesTr" / "liver_2_0001.tif").unlink()
    with pytest.raises(
        ValueError, match=r"liver_2 lacks the channel 0001 that other images have\.$"
    ):
        read(tmp_path / "imagesTr")
    save(tmp_path / "imagesTr" / "liver_2_0001.tif", 1, (3, 3))
    with pytest.raises(ValueError, match=r"liver_2_0001\.tif should be one channel, of the shape"):
        read(tmp_path / "imagesTr")


def test_a_mask_less_leaves_out_an_image_with_all_its_channels(tmp_path):
    fill(tmp_path, "imagesTr/{}.tif")
    fill_masks(tmp_path, "labelsTr/{}.tif", cases=("liver_1", "liver_10"))
    with pytest.warns(
        UserWarning, match=r"2 images of 2 .*; 1 image without a mask is left out: li"
    ):
        images, labels = read_pair(tmp_path)
    assert images.names == labels.names == ("liver_1", "liver_10")
    assert images.data.shape == (2, 2, 6, 7)


@pytest.mark.parametrize("images", ["imagesTr", "images"])
def test_time_series_stay_as_they_are(tmp_path, images):
    labels = {"imagesTr": "labelsTr", "images": "masks"}[images]
    fill(tmp_path, f"{images}/{{}}.tif", numbers=range(4), cases=("movie",))
    fill(tmp_path, f"{labels}/{{}}.tif", numbers=range(4), cases=("movie",))
    frames, masks = read_pair(tmp_path)
    assert (frames.axes, frames.data.shape) == ("iyx", (4, 6, 7))
    assert masks.data.shape == (4, 6, 7)
    assert read(tmp_path / images).data.shape == (4, 6, 7)


def test_frames_with_one_stack_of_masks_are_no_channels(tmp_path):
    fill(tmp_path, "images/{}.tif", numbers=range(4), cases=("movie",))
    fill_masks(tmp_path, "masks/{}.tif", shape=(4, 6, 7), cases=("movie",))
    frames = read(tmp_path / "images")
    assert (frames.axes, frames.data.shape) == ("iyx", (4, 6, 7))


def test_numbers_without_masks_are_no_channels(tmp_path):
    fill(tmp_path, "images/{}.tif")
    assert read(tmp_path / "images").data.shape == (6, 6, 7)


@pytest.mark.parametrize("number", [0, 2])
def test_the_name_of_an_image_stands_for_its_channels(tmp_path, number):
    fill(tmp_path, "any/{}.ome.tif", numbers=range(3))
    found = read(tmp_path / "any" / f"{CASES[number]}.ome.tif")
    assert (found.axes, found.data.shape) == ("cyx", (3, 6, 7))
    assert found.data[:, 0, 0].tolist() == [10 * number + value for value in (10, 11, 12)]
    source = str(tmp_path / "any" / f"{CASES[number]}.ome.tif")
    assert fingerprint(source)["files"] == 3
    with pytest.raises(FileNotFoundError, match="There is no file or folder"):
        read_labels(source)
    with pytest.raises(FileNotFoundError, match="There is no file or folder"):
        read(tmp_path / "any" / "liver_3.ome.tif")


def write_dataset(folder, **parts):
    (folder / "dataset.json").write_text(json.dumps(parts))


@pytest.mark.parametrize("key", ["channel_names", "modality"])
def test_dataset_json_names_the_channels_and_labels(tmp_path, key):
    fill(tmp_path, "imagesTr/{}.tif")
    fill_masks(tmp_path, "labelsTr/{}.tif")
    names = {"background": 0, "liver": [1, 2, 3], "tumour": 2}
    labels = {"0": "background", "1": "liver", "2": "tumour", "3": "vessel"}
    known = names if key == "channel_names" else labels
    write_dataset(tmp_path, **{key: {"0": "CT", "1": "PET"}}, labels=known)
    said = []
    read_pair(tmp_path, say=said.append)
    text = "background, liver, tumour" + ", vessel" * (key == "modality")
    assert said[1:] == [f"dataset.json names the channels: CT, PET, the labels: {text}."]
    write_dataset(tmp_path, **{key: {"0": "CT", "1": "PET"}}, labels={"background": 0, "liver": 1})
    with pytest.warns(UserWarning, match=r"hold labels that .*dataset\.json does not name: 2, 3\."):
        read_pair(tmp_path)


def test_channels_that_disagree_with_dataset_json_are_refused(tmp_path):
    fill(tmp_path, "imagesTs/{}.tif")
    write_dataset(tmp_path, channel_names={"0": "CT", "1": "PET", "2": "MR"})
    with pytest.raises(ValueError, match=r"liver_1 lacks the channel 0002 that dataset\.json nam"):
        read(tmp_path / "imagesTs")
    fill(tmp_path, "imagesTs/{}.tif", numbers=range(4))
    with pytest.raises(ValueError, match=r"liver_1 has a channel 0003, but .* names 3 only"):
        read(tmp_path / "imagesTs")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(ValueError, match=r"dataset\.json cannot be read as the dataset\.json of"):
        read(tmp_path / "imagesTs")
    numbers = {"channel_names": {"9" * 5000: "x"}}, {"modality": {"\u00b2": "x"}}
    for other in ([], {}, {"channel_names": 3}, {"channel_names": {"a": "b"}}, *numbers):
        (tmp_path / "dataset.json").write_text(json.dumps(other))
        assert read(tmp_path / "imagesTs").data.shape == (3, 4, 6, 7)


def test_time_series_in_folders_of_nnunet_without_masks(tmp_path):
    fill(tmp_path, "a/imagesTs/{}.tif", numbers=range(9))
    with pytest.warns(UserWarning, match=r"imagesTs: there is no dataset\.json, so that each file"):
        assert read(tmp_path / "a/imagesTs").data.shape == (27, 6, 7)
    write_dataset(tmp_path / "a", channel_names={str(number): "x" for number in range(9)})
    assert read(tmp_path / "a/imagesTs").data.shape == (3, 9, 6, 7)
    fill(tmp_path, "b/imagesTs/{}.tif", numbers=range(5), cases=("movie",))
    with pytest.warns(UserWarning, match="each file is taken for an image"):
        assert read(tmp_path / "b/imagesTs").data.shape == (5, 6, 7)
    write_dataset(tmp_path / "b", channel_names={"0": "CT"})
    with pytest.warns(UserWarning, match=r"dataset\.json names one channel, so that each file is"):
        assert read(tmp_path / "b/imagesTs").data.shape == (5, 6, 7)
    fill(tmp_path, "c/imagesTs/{}.tif", cases=("movie",))
    with pytest.warns(UserWarning, match="the 2 files are taken for the channels of one image"):
        assert read(tmp_path / "c/imagesTs").data.shape == (1, 2, 6, 7)


def test_results_beside_a_folder_are_not_told_of(tmp_path, recwarn):
    save(tmp_path / "day2" / "a.tif", 1)
    for name in ("b.tif", "noisy.tif"):
        save(tmp_path / name, 1)
    (tmp_path / "noisy.tif.record.json").write_text("{}")
    assert masks_beside([tmp_path / "day2" / "a.tif"]) == []
    assert not recwarn.list
