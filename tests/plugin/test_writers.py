"""napari's own saving, through our writers."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_metastructure.files.read import read
from napari_metastructure.plugin.writers import write_ome_tiff, write_ome_zarr

IMAGE = np.random.default_rng(0).integers(0, 4000, (3, 600, 700)).astype(np.uint16)
LABELS = (IMAGE > 3000).astype(np.int32) * 7
PLACE = {"scale": (2, 0.3, 0.3), "units": ("um", "um", "um"), "axis_labels": ("z", "y", "x")}


@pytest.fixture
def save(npe2pm_):
    """Save a layer as napari does; returns the paths."""

    def save(layer, path):
        layers = ViewerModel().layers
        layers.append(layer)
        layers.selection = {layer}
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


def test_coarser_levels_of_images_are_means_and_of_labels_are_not(tmp_path):
    pytest.importorskip("zarr")
    from napari_metastructure.files.ome_zarr import open_image
    from napari_metastructure.files.pyramid import halved

    for layer, mean in ((Image(IMAGE), True), (Labels(LABELS), False)):
        path = tmp_path / f"{mean}"
        (written,) = write_ome_zarr(path, *layer.as_layer_data_tuple()[:2])
        assert written == f"{path}.ome.zarr"
        coarse = open_image(written, 1)
        np.testing.assert_array_equal(coarse[:], halved(np.asarray(layer.data), mean))


def test_multiscale_colours_and_place(tmp_path):
    pytest.importorskip("zarr")
    from napari_metastructure.files.ome_zarr import open_image

    levels = [IMAGE, IMAGE[:, ::2, ::2]]
    layer = Image(levels, multiscale=True, translate=(1, 2, 3))
    write_ome_zarr(tmp_path / "levels", *layer.as_layer_data_tuple()[:2])
    found = open_image(tmp_path / "levels.ome.zarr")
    np.testing.assert_array_equal(found[:], IMAGE)
    assert found.translation == (1, 2, 3)
    colours = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    layer = Image(colours, rgb=True, scale=(0.5, 0.5))
    for write in (write_ome_zarr, write_ome_tiff):
        (path,) = write(tmp_path / "rgb", *layer.as_layer_data_tuple()[:2])
        found = read(path)
        assert found.axes == "cyx"
        np.testing.assert_array_equal(np.asarray(found.data), np.moveaxis(colours, -1, 0))


def test_what_a_format_does_not_hold_is_told(tmp_path):
    layer = Labels(LABELS[0], rotate=30, translate=(1, 2))
    with pytest.warns(UserWarning, match="does not hold the layer's translation and rotation"):
        write_ome_tiff(tmp_path / "a", *layer.as_layer_data_tuple()[:2])


def test_nothing_is_replaced(tmp_path):
    path = tmp_path / "a.ome.tif"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists already"):
        write_ome_tiff(tmp_path / "a", *Labels(LABELS).as_layer_data_tuple()[:2])
    assert path.read_bytes() == b"mine"
