"""napari's own saving, through our writers."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_metastructure.files.read import read
from napari_metastructure.plugin.layers import RECORD
from napari_metastructure.plugin.writers import write_ome_tiff, write_ome_zarr

IMAGE = np.random.default_rng(0).integers(0, 4000, (3, 600, 700)).astype(np.uint16)
LABELS = (IMAGE > 3000).astype(np.int32) * 7
PLACE = {"scale": (2, 0.3, 0.3), "units": ("um", "um", "um"), "axis_labels": ("z", "y", "x")}


@pytest.fixture
def save(npe2pm_):
    """Save a layer as napari does; returns the paths."""

    def save(added, path):
        layers = ViewerModel().layers
        layers.extend(added if isinstance(added, list) else [added])
        layers.selection = set(layers)
        return layers.save(str(path), selected=True)

    return save


@pytest.fixture
def npe2pm_():
    """The plugin's manifest, known to napari."""
    npe2 = pytest.importorskip("npe2")
    manager = npe2.PluginManager.instance()
    if "napari-metastructure" not in manager:
        manager.register(npe2.PluginManifest.from_distribution("napari-metastructure"))
    return manager


@pytest.mark.parametrize("ending", [".ome.zarr", ".zarr", ".ome.tif", ".ome.tiff"])
@pytest.mark.parametrize("kind", [Image, Labels])
def test_napari_saves_with_scale_and_units(save, tmp_path, kind, ending):
    pytest.importorskip("zarr")
    data = IMAGE if kind is Image else LABELS
    path = tmp_path / f"cells.v1{ending}"
    assert save(kind(data, **PLACE), path) == [str(path)]
    found = read(path)
    np.testing.assert_array_equal(found.data, data)
    assert found.axes == "zyx"
    assert found.scale == pytest.approx((2, 0.3, 0.3))
    assert found.units == ("micrometer",) * 3


@pytest.mark.parametrize("name", ["plane", "field"])
def test_images_one_after_the_other_are_no_volume(tmp_path, name):
    layer = Labels(LABELS[:, :9, :9], axis_labels=(name, "y", "x"))
    (written,) = write_ome_tiff(tmp_path / "a", [layer.as_layer_data_tuple()])
    assert read(written).axes == "tyx"
    unnamed = Labels(LABELS[:, :9, :9])
    (written,) = write_ome_tiff(tmp_path / "b", [unnamed.as_layer_data_tuple()])
    assert read(written).axes == "zyx"


def test_coarser_levels_of_images_are_means_and_of_labels_are_not(tmp_path):
    pytest.importorskip("zarr")
    from napari_metastructure.files.ome_zarr import open_image
    from napari_metastructure.files.pyramid import halved

    for layer, mean in ((Image(IMAGE), True), (Labels(LABELS), False)):
        path = tmp_path / f"{mean}"
        (written,) = write_ome_zarr(path, [layer.as_layer_data_tuple()])
        assert written == f"{path}.ome.zarr"
        coarse = open_image(written, 1)
        np.testing.assert_array_equal(coarse[:], halved(np.asarray(layer.data), mean))


def test_multiscale_colours_and_place(tmp_path):
    pytest.importorskip("zarr")
    from napari_metastructure.files.ome_zarr import open_image

    levels = [IMAGE, IMAGE[:, ::2, ::2]]
    layer = Image(levels, multiscale=True, translate=(1, 2, 3))
    write_ome_zarr(tmp_path / "levels", [layer.as_layer_data_tuple()])
    found = open_image(tmp_path / "levels.ome.zarr")
    np.testing.assert_array_equal(found[:], IMAGE)
    assert found.translation == (1, 2, 3)
    colours = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    layer = Image(colours, rgb=True, scale=(0.5, 0.5))
    for write in (write_ome_zarr, write_ome_tiff):
        (path,) = write(tmp_path / "rgb", [layer.as_layer_data_tuple()])
        found = read(path)
        assert found.axes == "cyx"
        np.testing.assert_array_equal(np.asarray(found.data), np.moveaxis(colours, -1, 0))


def test_what_a_format_does_not_hold_is_told(tmp_path):
    layer = Labels(LABELS[0], rotate=30, translate=(1, 2))
    with pytest.warns(UserWarning, match="does not hold the layer's translation and rotation"):
        write_ome_tiff(tmp_path / "a", [layer.as_layer_data_tuple()])


def test_nothing_is_replaced(tmp_path):
    path = tmp_path / "a.ome.tif"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists already"):
        write_ome_tiff(tmp_path / "a", [Labels(LABELS).as_layer_data_tuple()])
    assert path.read_bytes() == b"mine"


def layers_of(channels=False):
    image = np.stack([IMAGE] * 2) if channels else IMAGE
    place = {name: (values[0], *values) if channels else values for name, values in PLACE.items()}
    place["axis_labels"] = ("c", "z", "y", "x")[not channels :]
    layers = [Image(image, name="raw", **place), Labels(LABELS, name="cells", **PLACE)]
    return [*layers, Labels(LABELS > 0, name="mask/1", **PLACE)]


def test_images_one_after_the_other_that_were_computed_on_as_a_volume(save, tmp_path):
    pytest.importorskip("zarr")
    axes = {"axis_labels": ("plane", "y", "x")}
    image = Image(IMAGE[:, :9, :9], name="cells", **axes)
    record = {"operation": "segment", "config": {"spatial_dims": 3}}
    result = Labels(LABELS[:, :9, :9], name="result", metadata={RECORD: record}, **axes)
    assert save(result, tmp_path / "result.ome.tif")
    assert read(tmp_path / "result.ome.tif").axes == "zyx"
    assert save([image, result], tmp_path / "both.ome.zarr") == [str(tmp_path / "both.ome.zarr")]
    assert read(tmp_path / "both.ome.zarr").axes == "zyx"


@pytest.mark.parametrize("channels", [False, True])
def test_an_image_and_its_labels_become_one_ome_zarr(save, tmp_path, channels):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.ome.zarr"
    assert save(layers_of(channels), path) == [str(path)]
    found = read(path)
    assert (found.axes, found.data.shape[-3:]) == ("c" * channels + "zyx", IMAGE.shape)
    assert found.units == ("pixel",) * channels + ("micrometer",) * 3
    for name, data in (("cells", LABELS), ("mask_1", LABELS > 0)):
        labels = read(path / "labels" / name)
        np.testing.assert_array_equal(labels.data, data)
        assert labels.scale == pytest.approx((2, 0.3, 0.3))
        assert labels.units == ("micrometer",) * 3
    group = zarr.open_group(str(path), mode="r")
    assert dict(group["labels"].attrs)["ome"] == {"version": "0.5", "labels": ["cells", "mask_1"]}
    about = dict(group["labels/cells"].attrs)["ome"]
    assert about["image-label"] == {"source": {"image": "../../"}}
    assert len(about["multiscales"][0]["datasets"]) == 2


@pytest.mark.parametrize("ending", ["ome.zarr", "ome.tif"])
def test_other_layers_become_a_folder(save, tmp_path, ending):
    pytest.importorskip("zarr")
    first, labels, _ = layers_of()
    small = Image(IMAGE[0, :9, :9], name="small")
    paths = save([first, small, labels], tmp_path / f"day1.{ending}")
    names = [f"{name}.{ending}" for name in ("raw", "small", "cells")]
    assert paths == [str(tmp_path / "day1" / name) for name in names]
    for path, data in zip(paths, (IMAGE, small.data, LABELS)):
        np.testing.assert_array_equal(read(path).data, data)
    assert read(paths[2]).units == ("micrometer",) * 3
    with pytest.raises(FileExistsError, match=r"day1 exists already; give another name\.$"):
        save([first, small, labels], tmp_path / f"day1.{ending}")
    with pytest.raises(RuntimeError, match="Files of 2 layers would be named raw; rename"):
        save([first, Labels(LABELS, name="RAW"), small], tmp_path / f"day2.{ending}")
    with pytest.raises(RuntimeError, match="2 to 5 axes"):
        save([first, Image(np.zeros((1,) * 6), name="many"), small], tmp_path / f"day2.{ending}")
    assert not (tmp_path / "day2").exists()


def test_the_ending_decides_whatever_writer_is_chosen(tmp_path):
    pytest.importorskip("zarr")
    layers = [layer.as_layer_data_tuple() for layer in layers_of()]
    for ending in ("zarr", "ome.zarr", "tif", "ome.tif", "OME.TIFF"):
        for write in (write_ome_zarr, write_ome_tiff):
            (path,) = write(tmp_path / f"{write.__name__}.{ending}", layers[:1])
            assert path == str(tmp_path / f"{write.__name__}.{ending}")
            np.testing.assert_array_equal(read(path).data, IMAGE)
    assert len(write_ome_zarr(tmp_path / "several.ome.tif", layers)) == 3
    assert {path.name for path in (tmp_path / "several").iterdir()} == {
        "raw.ome.tif",
        "cells.ome.tif",
        "mask_1.ome.tif",
    }
    assert write_ome_tiff(tmp_path / "one.ome.zarr", layers) == [str(tmp_path / "one.ome.zarr")]
