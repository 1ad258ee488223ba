import numpy as np
import pytest
import tifffile
from napari.layers import Layer

import napari_metastructure as nms
from napari_metastructure.plugin.readers import get_reader


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, top in (("images", 4000), ("labels", 3)):
        (tmp_path / name).mkdir()
        for number in (1, 2, 10):
            plane = rng.integers(0, top, (12, 10)).astype(np.uint16)
            tifffile.imwrite(tmp_path / name / f"{number}.tif", plane)
    return tmp_path


def test_folder_opens_as_an_image_and_a_labels_layer(folder):
    made = [Layer.create(*layer) for layer in get_reader(str(folder))(str(folder))]
    assert [layer._type_string for layer in made] == ["image", "labels"]
    assert [layer.name for layer in made] == [folder.name, f"{folder.name} labels"]
    for layer in made:
        assert layer.data.shape == (3, 12, 10)
        assert layer.metadata["names"] == ["1", "2", "10"]
        assert layer.axis_labels == ("plane", "y", "x")
    third = tifffile.imread(folder / "labels" / "10.tif")
    np.testing.assert_array_equal(made[1].data[2], third)


def test_the_place_of_images_is_that_of_their_layers(tmp_path):
    for name, axes in (("images", "cyx"), ("labels", "yx")):
        (tmp_path / name).mkdir()
        pixels = np.ones((2, 12, 10)[-len(axes) :], np.uint8)
        shift = (0, 3, 4)[-len(axes) :]
        path = tmp_path / name / "a.ome.zarr"
        nms.write(path, pixels, axes=axes, translation=shift)
    image, labels = (Layer.create(*layer) for layer in get_reader(str(tmp_path))(str(tmp_path)))
    assert image.translate.tolist() == [0, 0, 3, 4]
    assert labels.translate.tolist() == [0, 3, 4]


def test_different_sizes_open_as_a_layer_each(folder):
    for name in ("images", "labels"):
        tifffile.imwrite(folder / name / "3.tif", np.ones((5, 6), np.uint8))
    made = [Layer.create(*layer) for layer in get_reader(str(folder))(str(folder))]
    assert [layer.name for layer in made[4:6]] == ["3 image", "3 labels"]
    assert len(made) == 8


def test_other_folders_and_files_are_left_to_others(folder):
    assert get_reader(str(folder / "images")) is None
    assert get_reader(str(folder / "images" / "1.tif")) is None
    assert get_reader([str(folder)]) is None
    for file in (folder / "images").iterdir():
        file.unlink()
    assert get_reader(str(folder)) is None


def test_channel_images_open_with_their_masks(tmp_path):
    for name, shape in (("images", (2, 12, 10)), ("masks", (12, 10))):
        (tmp_path / name).mkdir()
        for number in (1, 2):
            options = {"imagej": True, "metadata": {"axes": "CYX"[-len(shape) :]}}
            plane = np.full(shape, number, np.uint16)
            tifffile.imwrite(tmp_path / name / f"{number}.tif", plane, **options)
    image, labels = [Layer.create(*layer) for layer in get_reader(str(tmp_path))(str(tmp_path))]
    assert image.data.shape == (2, 2, 12, 10)
    assert labels.data.shape == (2, 12, 10)
    assert labels.axis_labels == ("plane", "y", "x")


def test_labels_keep_their_values(folder):
    ids = np.full((12, 10), 256, np.float32)
    ids[0] = 300
    for number in (1, 2, 10):
        tifffile.imwrite(folder / "labels" / f"{number}.tif", ids)
    _, labels = get_reader(str(folder))(str(folder))
    assert np.unique(labels[0]).tolist() == [256, 300]


def test_what_was_understood_is_said(folder, monkeypatch):
    said = []
    monkeypatch.setattr("napari.utils.notifications.show_info", said.append)
    (folder / "labels" / "2.tif").unlink()
    get_reader(str(folder))(str(folder))
    pair = "2 images with masks (images/1.tif with labels/1.tif)"
    assert said == [f"{pair}; 1 image without a mask is left out: 2.tif."]
