import errno
import json

import dask.array as da
import numpy as np
import pytest
import tifffile

from napari_metastructure.files import read as files

LABELS = np.random.default_rng(0).integers(0, 3, (3, 12, 10)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """images/ and masks/ of three files, named so that plain sorting would get them wrong."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number, mask in zip((1, 2, 10), LABELS):
        tifffile.imwrite(tmp_path / "masks" / f"{number}.tif", mask)
        image = mask.astype(np.uint16) * 100
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", image, compression="lzw")
    return tmp_path


def one_sentence(error):
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


# ------------------------------------------------------------------------------- reading


def test_folder_of_images_and_masks(folder):
    images, labels = files.read_pair(folder)
    assert images.names == labels.names == ("1", "2", "10")
    np.testing.assert_array_equal(labels.data, LABELS)
    np.testing.assert_array_equal(images.data, LABELS * np.uint16(100))
    assert images.axes == "iyx"
    assert files.folder_layout(folder / "images") is None


@pytest.mark.parametrize("source", ["images", "images/*.tif", "images/[1-9]*.tif"])
def test_folder_glob_and_list_are_one_stack(folder, source):
    found = files.read(folder / source)
    np.testing.assert_array_equal(found.data, LABELS * np.uint16(100))
    listed = files.read([folder / "images" / f"{n}.tif" for n in (1, 2, 10)])
    np.testing.assert_array_equal(listed.data, found.data)


def test_unequal_shapes_become_a_list(folder):
    tifffile.imwrite(folder / "images" / "3.tif", np.zeros((5, 6), np.uint16))
    found = files.read(folder / "images")
    assert [array.shape for array in found.data] == [(12, 10), (12, 10), (5, 6), (12, 10)]
    assert found.names == ("1", "2", "3", "10")
    assert found.axes == "yx"


def test_masks_saved_as_grey_png_and_numpy(tmp_path):
    from skimage.io import imsave

    imsave(tmp_path / "a.png", np.stack([LABELS[0]] * 3, -1), check_contrast=False)
    np.save(tmp_path / "b.npy", LABELS)
    np.testing.assert_array_equal(files.read(tmp_path / "a.png").data, LABELS[0])
    np.testing.assert_array_equal(files.read(tmp_path / "b.npy").data, LABELS)


def test_large_files_are_lazy_and_the_same(folder, tmp_path, monkeypatch):
    files.write(tmp_path / "stack.ome.tif", LABELS)
    monkeypatch.setattr(files, "LAZY", 1)
    for source in ("stack.ome.tif", "masks"):
        found = files.read(tmp_path / source)
        assert isinstance(found.data, da.Array)
        assert found.data.chunksize == (1, 12, 10)
        np.testing.assert_array_equal(found.data.compute(scheduler="sync"), LABELS)


def test_imagej_sizes(tmp_path):
    path = tmp_path / "ij.tif"
    metadata = {"spacing": 0.5, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(path, LABELS, imagej=True, resolution=(5, 4), metadata=metadata)
    found = files.read(path)
    assert (found.axes, found.scale) == ("zyx", (0.5, 0.25, 0.2))
    assert found.units == ("micrometer",) * 3


# ------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("ending", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("lazy", [False, True])
def test_round_trip_keeps_axes_scale_and_units(tmp_path, ending, lazy):
    if ending == ".ome.zarr":
        pytest.importorskip("zarr")
    path = tmp_path / f"out{ending}"
    like = files.Pixels(LABELS, "zyx", (0.5, 0.2, 0.2), ("micrometer",) * 3)
    data = da.from_array(LABELS, chunks=(1, 12, 10)) if lazy else LABELS
    files.write(path, data, like=like)
    found = files.read(path)
    np.testing.assert_array_equal(found.data, LABELS)
    assert (found.axes, found.scale, found.units) == (like.axes, like.scale, like.units)
    files.write(tmp_path / f"maps{ending}", np.zeros((2, *LABELS.shape), "f4"), like=like)
    assert files.read(tmp_path / f"maps{ending}").data.shape == (2, *LABELS.shape)


def test_folder_out_keeps_the_names(folder, tmp_path):
    images, _ = files.read_pair(folder)
    files.write(tmp_path / "out", images.data, like=images)
    again = files.read(tmp_path / "out")
    assert again.names == ("1", "2", "10")
    np.testing.assert_array_equal(again.data, images.data)


def test_64_bit_labels_are_written_as_the_smallest_type(tmp_path):
    files.write(tmp_path / "out.tif", LABELS.astype(np.int64))
    assert files.read(tmp_path / "out.tif").data.dtype == np.uint8


def test_nothing_is_overwritten_unless_asked_for(tmp_path):
    path = tmp_path / "out.tif"
    files.write(path, LABELS)
    with pytest.raises(FileExistsError, match=r"out\.tif exists already.*overwrite") as error:
        files.write(path, LABELS * 2)
    one_sentence(error)
    np.testing.assert_array_equal(files.read(path).data, LABELS)
    files.write(path, LABELS * 2, overwrite=True)
    np.testing.assert_array_equal(files.read(path).data, LABELS * 2)


# ----------------------------------------------------------------------------- bad input


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
            files.read(folder / source)
        one_sentence(error)


def test_what_does_not_match_is_named(folder):
    (folder / "masks" / "2.tif").rename(folder / "masks" / "3.tif")
    with pytest.raises(ValueError, match=r"images holds 1 file that .*masks lacks.* named 2;") as e:
        files.read_pair(folder)
    one_sentence(e)
    (folder / "masks" / "3.tif").unlink()
    with pytest.raises(ValueError, match="labels of the images have the shape") as error:
        files.read_pair(folder / "images", folder / "masks")
    one_sentence(error)
    tifffile.imwrite(folder / "masks" / "2.tif", np.zeros((5, 6), np.uint8))
    with pytest.raises(ValueError, match=r"There is 1 image but 3 label arrays") as error:
        files.read_pair(folder / "images", folder / "masks")
    one_sentence(error)
    with pytest.raises(ValueError, match="There are no labels") as error:
        files.read_pair(folder / "images")
    one_sentence(error)


def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def fail(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    with pytest.raises(OSError, match=r"The disk is full: .*out\.tif") as error:
        files.write(tmp_path / "out.tif", LABELS)
    assert list(tmp_path.iterdir()) == []
    assert "\n" not in str(error.value)


# -------------------------------------------------------------------------- fingerprints


def test_fingerprint_tells_changed_files(folder, monkeypatch):
    before = files.fingerprint(folder / "images")
    assert before == files.fingerprint(folder / "images") == json.loads(json.dumps(before))
    assert before["files"] == 3
    tifffile.imwrite(folder / "images" / "2.tif", LABELS[1])
    assert files.fingerprint(folder / "images")["sha256"] != before["sha256"]
    monkeypatch.setattr(files, "_HASHED_WHOLE", 1)
    sampled = files.fingerprint(folder / "images")
    assert sampled["sampled"]
    tifffile.imwrite(folder / "images" / "2.tif", LABELS[2])
    assert files.fingerprint(folder / "images")["sha256"] != sampled["sha256"]


def test_digest_does_not_depend_on_how_pixels_are_stored():
    lazy = da.from_array(LABELS, chunks=(2, 5, 5))
    assert files.digest(LABELS) == files.digest(lazy) == files.digest([LABELS])
    assert files.digest(LABELS) != files.digest(LABELS.astype(np.int32))
    other = LABELS.copy()
    other[0, 0, 0] += 1
    assert files.digest(LABELS) != files.digest(other)
