"""Folders of images and masks: what belongs together, and that it is said."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_metastructure.files.read import read
from tests.cli.test_main import QUICK, folder, record_of, run  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

LOUD = QUICK[:-1]


@pytest.fixture
def nnunet(tmp_path, blobs, monkeypatch):
    """imagesTr/ of two channels, the first of which is noise, labelsTr/ and imagesTs/."""
    images, masks = blobs(6, seed=0, size=48)
    rng = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / name).mkdir()
    for number, (image, mask) in enumerate(zip(images, masks)):
        channels = rng.normal(size=image.shape).astype(np.float32), image
        for channel, plane in enumerate(channels):
            where = "imagesTr" if number < 4 else "imagesTs"
            tifffile.imwrite(tmp_path / where / f"cell_{number}_{channel:04}.tif", plane)
        if number < 4:
            tifffile.imwrite(tmp_path / "labelsTr" / f"cell_{number}.tif", mask)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nnunet_folders_train_predict_and_are_described(nnunet):
    text = run("train", ".", "-o", "m.safetensors", *LOUD)
    said = "4 images of 2 channels with masks (imagesTr/cell_0_0000.tif to cell_0_0001.tif with "
    assert f"{said}labelsTr/cell_0.tif)." in text
    assert "all 2 channels" in text
    assert record_of(nnunet / "m.safetensors")["inputs"]["images"]["files"] == 8
    run("predict", "m.safetensors", "imagesTs", "-o", "found", "--device", "cpu", "--quiet")
    assert read("found").names == ("cell_4", "cell_5")
    assert read("found").data.shape == (2, 48, 48)
    run("predict", "m.safetensors", "imagesTr", "-o", "own", "--device", "cpu", "--quiet")
    text = run("compare", "labelsTr", "own")
    assert "4 predictions with references (own/cell_0.tif with labelsTr/cell_0.tif)." in text
    text = run("info", ".", "imagesTs")
    assert "images and labels, 4 of each" in text
    assert "4 x 2 x 48 x 48 (icyx)" in text
    assert "2 x 2 x 48 x 48 (icyx)" in text


def test_nnunet_folders_are_swept_and_segmented(nnunet):
    few = ["--seeds", 1, "--sample", 0.5, "--flip", "none", "--shift", "none", "--dilate", "none"]
    run("sweep", ".", "-o", "swept", *few, *QUICK)
    assert "done" in (nnunet / "swept" / "sweep.csv").read_text()
    run("segment", "imagesTs", "-o", "masks", "--time-limit", 5, *QUICK[:4], "--quiet")
    assert read("masks").names == ("cell_4", "cell_5")


def test_volumes_of_several_channels(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    for number in range(2):
        mask = np.zeros((8, 32, 32), np.uint8)
        mask[2:6, 8:20, 8:20] = 1
        tifffile.imwrite(tmp_path / "labelsTr" / f"v_{number}.tif", mask)
        for channel in range(2):
            image = (mask + rng.normal(0, 0.2, mask.shape)).astype(np.float32)
            tifffile.imwrite(tmp_path / "imagesTr" / f"v_{number}_{channel:04}.tif", image)
    monkeypatch.chdir(tmp_path)
    quick = [*QUICK, "--spatial-dims", 3]
    run("train", ".", "-o", "m.safetensors", *quick)
    run("predict", "m.safetensors", "imagesTr", "-o", "found", "--device", "cpu", "--quiet")
    assert read("found").data.shape == (2, 8, 32, 32)


def test_the_line_names_a_pair_and_what_is_left_out(folder):  # noqa: F811
    for number in (0, 3):
        (folder / "masks" / f"{number}.tif").unlink()
    text = run("train", ".", "-o", "m.safetensors", *LOUD)
    said = "4 images with masks (images/1.tif with masks/1.tif)"
    assert f"{said}; 2 images without a mask are left out: 0.tif, 3.tif.\n" in text
    assert record_of(folder / "m.safetensors")["images"] == 4


def test_names_pair_what_is_compared_and_measured(folder):  # noqa: F811
    (folder / "found").mkdir()
    for number in (1, 2, 4, 5):  # in order, none would be of its reference
        mask = tifffile.imread(folder / "masks" / f"{number}.tif")
        tifffile.imwrite(folder / "found" / f"{number}_mask.tif", mask)
    text = run("compare", "masks", "found", "-o", "scores.json")
    assert json.loads((folder / "scores.json").read_text())["scores"]["dice"] == 1
    assert "2 references without a prediction are left out: 0.tif, 3.tif." in text
    for number in range(6):
        tifffile.imwrite(folder / "images" / f"{number}.tif", np.full((48, 48), number, np.uint8))
    text = run("measure", "found", "-o", "cells.csv", "--images", "images")
    said = "4 images with masks (images/1.tif with found/1_mask.tif)"
    assert f"{said}; 2 images without a mask are left out: 0.tif, 3.tif." in text
    with open(folder / "cells.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["image"].removesuffix("_mask") for row in rows} == set("1245")
    assert all(row["image"].startswith(f"{float(row['intensity_mean']):.0f}") for row in rows)


def test_validation_masks_are_those_of_their_images(folder):  # noqa: F811
    (folder / "held_masks").mkdir()
    for number in (5, 4):
        path = folder / "masks" / f"{number}.tif"
        path.rename(folder / "held_masks" / f"{number}_gt.tif")
    (folder / "held").mkdir()
    for number in (3, 4, 5):
        (folder / "images" / f"{number}.tif").rename(folder / "held" / f"{number}.tif")
    held = ["--validation-images", "held", "--validation-labels", "held_masks"]
    text = run("train", ".", "-o", "m.safetensors", *held, *LOUD)
    said = "2 validation images with masks (held/4.tif with held_masks/4_gt.tif)"
    assert f"{said}; 1 validation image without a mask is left out: 3.tif." in text


COLOURS = np.array([[0, 0, 0], [0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8)


@pytest.fixture
def coloured(tmp_path, monkeypatch):
    """Images and masks of four colours, and numbers for the same."""
    rng = np.random.default_rng(0)
    classes = np.zeros((4, 48, 48), np.uint8)
    classes[:, 4:16, 4:30], classes[:, 20:30, 4:40], classes[1:, 34:44] = 1, 2, 3
    for name in ("images", "masks", "numbers"):
        (tmp_path / name).mkdir()
    for number, plane in enumerate(classes):
        image = (plane * 50 + rng.normal(30, 5, plane.shape)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", image)
        Image.fromarray(COLOURS[plane]).save(tmp_path / "masks" / f"{number}.png")
        Image.fromarray(plane).save(tmp_path / "numbers" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return classes


def test_numbers_and_colours_are_not_compared_by_chance(coloured):
    for pair in (("numbers", "masks"), ("masks", "numbers")):
        text = run("compare", *pair, code=1)
        assert "numbers holds numbers but masks colours, so that it is not known which" in text
    masks = coloured > 1
    for number, plane in enumerate(masks.astype(np.uint8)):  # two labels are known to be the same
        Image.fromarray(COLOURS[plane * 2]).save(f"masks/{number}.png")
        Image.fromarray(plane).save(f"numbers/{number}.png")
    run("compare", "numbers", "masks", "-o", "s.json", "--quiet")
    assert json.loads(Path("s.json").read_text())["scores"]["dice"] == 1


def test_results_know_the_colours_they_were_made_from(coloured):
    run("corrupt", "masks", "-o", "same.tif", "--kind", "flip", "--ratio", 0, "--quiet")
    expected = [0, 255, 65280, 16711680]
    assert record_of(Path("same.tif").absolute())["colours"] == expected
    run("train", "images", "masks", "-o", "m.safetensors", *QUICK)
    assert record_of(Path("m.safetensors").absolute())["colours"] == expected
    run("predict", "m.safetensors", "images", "-o", "found.tif", "--device", "cpu", "--quiet")
    assert record_of(Path("found.tif").absolute())["colours"] == expected
    for number, plane in enumerate(np.where(coloured == 3, 0, coloured)):  # without green
        Image.fromarray(COLOURS[plane]).save(f"masks/{number}.png")
    run("compare", "masks", "same.tif", "-o", "s.json", "--quiet")  # red is 2 here, and 3 there
    scores = json.loads(Path("s.json").read_text())["scores"]["per_class"]
    assert [scores[label]["dice"] for label in "12"] == [1, 1]


def test_parts_of_a_data_set_that_are_left_out_are_said(folder):  # noqa: F811
    for part in ("train", "val"):
        (folder / "set" / part).mkdir(parents=True)
    for name in ("images", "masks"):
        (folder / name).rename(folder / "set" / "train" / name)
    text = run("train", "set", "-o", "m.safetensors", *LOUD)
    assert "Of set, train is read, and val left out." in text
