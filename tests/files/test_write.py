import errno

import dask.array as da
import numpy as np
import pytest
import tifffile

from napari_metastructure.files.pixels import Pixels
from napari_metastructure.files.read import read, read_pair
from napari_metastructure.files.write import create_zarr, write
from tests.files.conftest import LABELS, one_sentence


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("lazy", [False, True])
def test_round_trip_keeps_axes_scale_and_units(tmp_path, ending, lazy):
    if ending == ".ome.zarr":
        pytest.importorskip("zarr")
    path = tmp_path / f"out{ending}"
    like = Pixels(LABELS, "zyx", (0.5, 0.2, 0.2), ("micrometer",) * 3)
    data = da.from_array(LABELS, chunks=(1, 12, 10)) if lazy else LABELS
    write(path, data, like=like)
    found = read(path)
    np.testing.assert_array_equal(found.data, LABELS)
    assert (found.axes, found.scale, found.units) == (like.axes, like.scale, like.units)
    write(tmp_path / f"maps{ending}", np.zeros((2, *LABELS.shape), "f4"), like=like)
    assert read(tmp_path / f"maps{ending}").data.shape == (2, *LABELS.shape)


def test_the_place_of_an_image_is_that_of_its_results(tmp_path):
    place = {"axes": "tyx", "scale": (3, 0.5, 0.5), "translation": (0, 12.5, -4)}
    write(tmp_path / "image.ome.zarr", LABELS, **place)
    image = read(tmp_path / "image.ome.zarr")
    assert image.translation == (0, 12.5, -4)
    assert image.without(0).translation == (12.5, -4)
    write(tmp_path / "labels.ome.zarr", LABELS, like=image)
    assert read(tmp_path / "labels.ome.zarr").translation == image.translation
    write(tmp_path / "maps.ome.zarr", np.stack([LABELS] * 2), like=image)
    made = create_zarr(tmp_path / "made.ome.zarr", (2, *LABELS.shape), "u1", like=image)
    made[...] = np.stack([LABELS] * 2)
    for name in ("maps", "made"):
        maps = read(tmp_path / f"{name}.ome.zarr")
        assert (maps.axes, maps.translation) == ("tcyx", (0, 0, 12.5, -4))
    with pytest.warns(UserWarning, match=r"out\.tif does not hold the image's translation"):
        write(tmp_path / "out.tif", LABELS, like=image)


def test_folder_out_keeps_the_names(folder, tmp_path):
    images, _ = read_pair(folder)
    write(tmp_path / "out", images.data, like=images)
    again = read(tmp_path / "out")
    assert again.names == ("1", "2", "10")
    np.testing.assert_array_equal(again.data, images.data)


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
def test_images_one_after_the_other_are_no_volume(folder, tmp_path, ending):
    images, _ = read_pair(folder)
    write(tmp_path / f"out{ending}", images.data, like=images)
    assert read(tmp_path / f"out{ending}").axes == "tyx"


@pytest.mark.parametrize("lazy", [False, True])
def test_a_folder_holds_the_maps_of_all_classes_for_each_image(folder, tmp_path, lazy):
    images, _ = read_pair(folder)
    maps = np.stack([images.data + 1000.0 * k for k in range(4)]).astype(np.float32)
    data = da.from_array(maps, chunks=(4, 1, 12, 10)) if lazy else maps
    write(tmp_path / "out", data, like=images)
    again = read(tmp_path / "out")
    assert (again.names, again.axes) == (("1", "2", "10"), "icyx")
    np.testing.assert_array_equal(again.data, maps.swapaxes(0, 1))


def test_64_bit_labels_are_written_as_the_smallest_type(tmp_path):
    write(tmp_path / "out.tif", LABELS.astype(np.int64))
    assert read(tmp_path / "out.tif").data.dtype == np.uint8


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", ">f4", ">u2", "i1"])
def test_tiff_keeps_values_exactly(tmp_path, kind):
    values = (np.random.default_rng(0).random((3, 12, 10)) * 100).astype(kind)
    write(tmp_path / "out.tif", values)
    np.testing.assert_array_equal(read(tmp_path / "out.tif").data, values)


@pytest.mark.parametrize(
    ("data", "how", "message"),
    [
        (np.ones((4, 4), "c8"), {}, "complex numbers"),
        (np.array([[0, -(2**40)]]), {}, f"a label of {-(2**40)}"),
        (np.ones((2,) * 6, "u1"), {}, "2 to 5 axes, not 6"),
        (np.ones(4), {}, "is no image"),
        (np.ones((0, 4)), {}, "is no image"),
        (LABELS, {"scale": (0.2, 0.2)}, r"has 3 axes, but scale=\(0.2, 0.2\) gives 2"),
        (LABELS, {"units": ["um"] * 4}, "gives 4"),
        (LABELS[0], {"axes": "zyx"}, "has 2 axes, but axes='zyx' gives 3"),
    ],
)
def test_what_a_tiff_cannot_hold_is_refused(tmp_path, data, how, message):
    with pytest.raises(ValueError, match=message) as error:
        write(tmp_path / "out.tif", data, **how)
    one_sentence(error)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unless_asked_for(tmp_path):
    path = tmp_path / "out.tif"
    write(path, LABELS)
    with pytest.raises(FileExistsError, match=r"out\.tif exists already.*overwrite") as error:
        write(path, LABELS * 2)
    one_sentence(error)
    np.testing.assert_array_equal(read(path).data, LABELS)
    write(path, LABELS * 2, overwrite=True)
    np.testing.assert_array_equal(read(path).data, LABELS * 2)


def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def fail(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    with pytest.raises(OSError, match=r"The disk is full: .*out\.tif") as error:
        write(tmp_path / "out.tif", LABELS)
    assert list(tmp_path.iterdir()) == []
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x.ome.tif", "x.ome.zarr"])
def test_colours_at_the_end_are_written_as_channels(tmp_path, name):
    colours = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    units = ("micrometer", "micrometer", "pixel")
    write(tmp_path / name, colours, axes="yxc", scale=(0.5, 0.5, 1), units=units)
    found = read(tmp_path / name)
    assert found.axes == "cyx"
    assert found.scale[1:] == (0.5, 0.5)
    np.testing.assert_array_equal(np.moveaxis(np.asarray(found.data), 0, -1), colours)


def test_what_may_be_colours_is_asked_about(tmp_path):
    with pytest.warns(UserWarning, match=r"planes of 30 x 3 pixels.*axes='yxc'"):
        write(tmp_path / "x.ome.tif", np.zeros((20, 30, 3), np.uint8))


def test_a_folder_keeps_the_pixel_size(tmp_path):
    scale, units = (1, 0.4, 0.4), ("pixel", "micrometer", "micrometer")
    write(tmp_path / "x", np.zeros((2, 4, 4), np.uint8), axes="iyx", scale=scale, units=units)
    found = read(tmp_path / "x")
    assert found.scale[-2:] == (0.4, 0.4)
    assert found.units[-2:] == ("micrometer", "micrometer")
