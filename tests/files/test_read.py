import sys
import warnings
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import tifffile

from napari_metastructure.files import pixels
from napari_metastructure.files.pairs import folder_layout
from napari_metastructure.files.read import read, read_pair
from napari_metastructure.files.write import write
from tests.files.conftest import LABELS, one_sentence


def test_folder_of_images_and_masks(folder):
    images, labels = read_pair(folder)
    assert images.names == labels.names == ("1", "2", "10")
    np.testing.assert_array_equal(labels.data, LABELS)
    np.testing.assert_array_equal(images.data, LABELS * np.uint16(100))
    assert images.axes == "iyx"
    assert folder_layout(folder / "images") is None


@pytest.mark.parametrize("source", ["images", "images/*.tif", "images/[1-9]*.tif"])
def test_folder_glob_and_list_are_one_stack(folder, source):
    found = read(folder / source)
    np.testing.assert_array_equal(found.data, LABELS * np.uint16(100))
    listed = read([folder / "images" / f"{n}.tif" for n in (1, 2, 10)])
    np.testing.assert_array_equal(listed.data, found.data)


def test_unequal_shapes_become_a_list(folder):
    tifffile.imwrite(folder / "images" / "3.tif", np.zeros((5, 6), np.uint16))
    found = read(folder / "images")
    assert [array.shape for array in found.data] == [(12, 10), (12, 10), (5, 6), (12, 10)]
    assert found.names == ("1", "2", "3", "10")
    assert found.axes == "yx"


@pytest.mark.parametrize("side", [8, 9])  # a stack, or a list
def test_files_of_other_pixel_sizes_are_told(tmp_path, side):
    for name, size in (("a", 0.3), ("b", 0.3001), ("c", 0.15)):
        shape = (8, side if name == "c" else 8)
        place = {"scale": (size, size), "units": ("um", "um")}
        write(tmp_path / f"{name}.ome.tif", np.ones(shape, np.uint8), **place)
    said = r"differ \(a\.ome\.tif: 0\.3 micrometer; c\.ome\.tif: 0\.15 micrometer\)"
    with pytest.warns(UserWarning, match=said):
        assert read(tmp_path).scale[-1] == 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read([tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"])


def test_masks_saved_as_grey_png_and_numpy(tmp_path):
    from skimage.io import imsave

    imsave(tmp_path / "a.png", np.stack([LABELS[0]] * 3, -1), check_contrast=False)
    np.save(tmp_path / "b.npy", LABELS)
    np.testing.assert_array_equal(read(tmp_path / "a.png").data, LABELS[0])
    np.testing.assert_array_equal(read(tmp_path / "b.npy").data, LABELS)


def test_large_files_are_lazy_and_the_same(folder, tmp_path, monkeypatch):
    write(tmp_path / "stack.ome.tif", LABELS)
    monkeypatch.setattr(pixels, "LAZY", 1)
    for source in ("stack.ome.tif", "masks"):
        found = read(tmp_path / source)
        assert isinstance(found.data, da.Array)
        assert found.data.chunksize == (1, 12, 10)
        np.testing.assert_array_equal(found.data.compute(scheduler="sync"), LABELS)


def test_the_resolution_of_a_print_is_no_pixel_size(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, LABELS, imagej=True, resolution=(72, 72), metadata={"unit": "inch"})
    assert set(read(path).units) == {"pixel"}
    assert set(read(path).scale) == {1.0}


def test_imagej_sizes(tmp_path):
    path = tmp_path / "ij.tif"
    metadata = {"spacing": 0.5, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(path, LABELS, imagej=True, resolution=(5, 4), metadata=metadata)
    found = read(path)
    assert (found.axes, found.scale) == ("zyx", (0.5, 0.25, 0.2))
    assert found.units == ("micrometer",) * 3


def test_what_is_wrong_is_said_in_one_sentence(folder):
    (folder / "empty").mkdir()
    (folder / "images" / "4.tif").write_bytes(b"II*\0 no tiff")
    cases = {
        "empty": (ValueError, "no image in the folder"),
        "images": (ValueError, r"4\.tif cannot be read as TIFF"),
        "nowhere": (FileNotFoundError, "no file or folder"),
        "masks/*.png": (FileNotFoundError, "No file matches"),
    }
    for source, (kind, text) in cases.items():
        with pytest.raises(kind, match=text) as error:
            read(folder / source)
        one_sentence(error)


def test_what_does_not_match_is_named(folder):
    (folder / "masks" / "2.tif").rename(folder / "masks" / "3.tif")
    said = (
        r"1 image without a mask is left out: 2\.tif; 1 mask without an image is left out: 3\.tif\."
    )
    with pytest.warns(UserWarning, match=said):
        images, labels = read_pair(folder)
    assert images.names == labels.names == ("1", "10")
    np.testing.assert_array_equal(labels.data, LABELS[[0, 2]])
    (folder / "masks" / "3.tif").unlink()
    tifffile.imwrite(folder / "masks" / "2.tif", np.zeros((5, 6), np.uint8))
    with pytest.raises(ValueError, match=r"There is 1 image but 3 label arrays") as error:
        read_pair(folder / "images", folder / "masks")
    one_sentence(error)
    with pytest.raises(ValueError, match="There are no labels") as error:
        read_pair(folder / "images")
    one_sentence(error)


def test_own_results_among_the_images_are_left_out(folder):
    path = folder / "images" / "result.ome.tif"
    tifffile.imwrite(path, LABELS[0])
    path.with_name("result.ome.tif.record.json").write_text("{}")
    with pytest.warns(UserWarning, match=r"results of this program, .* left out: result\.ome\.tif"):
        assert read(folder / "images").names == ("1", "2", "10")


def test_formats_of_microscopes_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioio", None)  # not installed
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE")
    with pytest.raises(ValueError, match=r"pip install 'napari-metastructure\[bioio\]', or save"):
        read(tmp_path / "a.czi")


class _BioImage:
    """Stands for bioio's, whose arrays are always TCZYX."""

    scenes = ("Scene:0", "Scene:1")
    dims = SimpleNamespace(order="TCZYX")
    physical_pixel_sizes = SimpleNamespace(Z=None, Y=0.25, X=0.5)

    def __init__(self, path):
        if path.suffix == ".sld":
            raise type("UnsupportedFileFormatError", (Exception,), {})("no reader")
        self.dask_data = da.from_array(np.arange(24, dtype=np.uint16).reshape(1, 2, 1, 3, 4))
        self.data = np.arange(36, dtype=np.uint16).reshape(1, 1, 1, 3, 4, 3)


def test_formats_of_microscopes_are_read_through_bioio(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bioio", SimpleNamespace(BioImage=_BioImage))
    for name in ("a.czi", "a.sld"):
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning, match="holds 2 images; the first, Scene:0, is read"):
        pixels = read(tmp_path / "a.czi")
    assert (pixels.axes, pixels.scale) == ("cyx", (1.0, 0.25, 0.5))
    assert pixels.units == ("pixel", "micrometer", "micrometer")
    np.testing.assert_array_equal(pixels.data, np.arange(24).reshape(2, 3, 4))
    monkeypatch.setattr(_BioImage, "dims", SimpleNamespace(order="TCZYXS"))
    with pytest.warns(UserWarning, match="holds 2 images"):
        pixels = read(tmp_path / "a.czi")
    assert pixels.axes == "yxs"
    np.testing.assert_array_equal(pixels.data, np.arange(36).reshape(3, 4, 3))
    with pytest.raises(ValueError, match=r"a\.sld .* no reader of \.sld yet: install bioio-sld"):
        read(tmp_path / "a.sld")
