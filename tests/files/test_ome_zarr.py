import builtins
import errno
import json

import numpy as np
import pytest

from napari_metastructure.files.ome_zarr import create_image, missing_chunks, open_image
from napari_metastructure.files.read import read

zarr = pytest.importorskip("zarr")

PIXELS = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cells.ome.zarr"


def made(path, *, finished=True, **options):
    image = create_image(path, PIXELS.shape, PIXELS.dtype, **options)
    for number, plane in enumerate(PIXELS):
        image[number] = plane
    if finished:
        image.finish({"operation": "test"})
    return image


def test_what_was_written_is_read_lazily_with_its_place(path):
    made(path, scale=(2, 0.5, 0.5), translation=(0, 3, 4), units=("µm", "um", "micrometer"))
    image = open_image(path)
    assert (image.shape, image.dtype, image.chunks) == ((3, 20, 30), np.uint16, (1, 20, 30))
    assert (image.axes, image.scale) == ("zyx", (2, 0.5, 0.5))
    assert (image.translation, image.units) == ((0, 3, 4), ("micrometer",) * 3)
    assert image.complete
    assert image.record == {"operation": "test"}
    assert image.lazy.chunks == ((1, 1, 1), (20,), (30,))
    np.testing.assert_array_equal(image.lazy, PIXELS)
    np.testing.assert_array_equal(image[1, 4:6], PIXELS[1, 4:6])


def test_description_is_that_of_the_standard(path):
    made(path, axes="tyx", units=("second", None, "pixel"), scale=(60, 1, 1))
    described = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    assert described["version"] == "0.5"
    (multiscale,) = described["multiscales"]
    assert multiscale["name"] == "cells"
    assert multiscale["axes"] == [
        {"name": "t", "type": "time", "unit": "second"},
        {"name": "y", "type": "space"},
        {"name": "x", "type": "space"},
    ]
    (dataset,) = multiscale["datasets"]
    assert dataset["path"] == "0"
    assert dataset["coordinateTransformations"][0] == {"type": "scale", "scale": [60, 1, 1]}


def test_unfinished_image_is_partial(path):
    image = create_image(path, PIXELS.shape, PIXELS.dtype)
    image[0] = PIXELS[0]
    image.note({"note": "stopped"})
    with pytest.raises(ValueError, match=r"partial result: 2 of its 3 chunks") as caught:
        open_image(path, missing="error")
    assert str(caught.value).count(". ") == 0
    partial = open_image(path, missing="fill")
    assert not partial.complete
    assert partial.record == {"note": "stopped"}
    np.testing.assert_array_equal(partial[:2], [PIXELS[0], np.zeros((20, 30))])


def test_missing_chunk_is_named(path):
    image = made(path, chunks=(1, 10, 30))
    assert missing_chunks(image) == []
    (path / "0" / "c" / "1" / "1" / "0").unlink()
    assert missing_chunks(image) == [(1, 1, 0)]
    with pytest.raises(ValueError, match=r"lacks 1 of its 6 chunks, the first at c/1/1/0"):
        open_image(path, missing="error")
    with pytest.warns(UserWarning, match="lacks 1 of its 6 chunks"):
        open_image(path, missing="warn")
    assert not open_image(path, missing="fill")[1, 10:].any()


def test_empty_chunks_are_written(path):
    image = create_image(path, (2, 8, 8), np.uint8)
    image[:] = 0
    image.finish()
    assert not open_image(path)[:].any()


def test_former_version_with_levels(tmp_path):
    path = str(tmp_path / "levels.zarr")
    group = zarr.create_group(path, zarr_format=2)
    datasets = []
    for level in (0, 1):
        pixels = PIXELS[:, :: 2**level, :: 2**level]
        group.create_array(str(level), data=pixels, chunks=(1, 20, 30))
        step = {"type": "scale", "scale": [1, 2**level, 2**level]}
        datasets.append({"path": str(level), "coordinateTransformations": [step]})
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
    overall = [{"type": "scale", "scale": [1, 5, 5]}]
    multiscale = {"version": "0.4", "axes": axes, "datasets": datasets}
    group.attrs["multiscales"] = [{**multiscale, "coordinateTransformations": overall}]
    image = open_image(path, level=1)
    assert image.shapes == [(3, 20, 30), (3, 10, 15)]
    assert image.scale == (1, 10, 10)
    assert image.units == ("nanometer",) * 3
    np.testing.assert_array_equal(image[:], PIXELS[:, ::2, ::2])
    with pytest.raises(
        ValueError,
        match=r"levels\.zarr .* no level 2; its levels are 0 to 1\.$",
    ):
        open_image(path, level=2)


def test_plain_array(tmp_path):
    zarr.create_array(str(tmp_path / "plain.zarr"), data=PIXELS)
    image = open_image(tmp_path / "plain.zarr")
    assert (image.axes, image.scale, image.units) == ("zyx", (1, 1, 1), (None,) * 3)
    np.testing.assert_array_equal(image[:], PIXELS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": "xyz"}, "do not fit"),
        ({"axes": "yx"}, "do not fit"),
        ({"scale": (1, 1)}, "3 axes but 2 values"),
    ],
)
def test_bad_descriptions_are_refused(path, options, message):
    with pytest.raises(ValueError, match=message):
        made(path, **options)
    assert not path.exists()


def test_nothing_is_overwritten_unasked(path):
    made(path)
    with pytest.raises(FileExistsError, match="already exists"):
        create_image(path, (3, 3), np.uint8)
    create_image(path, (3, 3), np.uint8, overwrite=True)
    assert open_image(path, missing="fill").shape == (3, 3)


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        open_image(tmp_path / "none.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="not a Zarr image"):
        open_image(tmp_path / "empty")
    zarr.create_group(str(tmp_path / "group.zarr"))
    with pytest.raises(ValueError, match=r"multiscales\) is missing"):
        open_image(tmp_path / "group.zarr")


def test_full_disk_is_said_and_the_result_stays_partial(path, monkeypatch):
    image = create_image(path, PIXELS.shape, PIXELS.dtype)
    image[0] = PIXELS[0]

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(type(image.array), "__setitem__", full)
        with pytest.raises(OSError, match=r"^The disk is full: .*marked as partial\.$"):
            image[1] = PIXELS[1]
    kept = open_image(path, missing="fill")
    assert not kept.complete
    np.testing.assert_array_equal(kept[0], PIXELS[0])


def test_no_permission_is_said(path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(zarr, "create_group", refused)
    with pytest.raises(PermissionError, match=r"may not be written: no permission; choose"):
        create_image(path, (3, 3), np.uint8)


def test_without_zarr_one_sentence_says_what_to_install(path, monkeypatch):
    usual = builtins.__import__

    def importing(name, *arguments, **options):
        if name == "zarr":
            raise ImportError(name)
        return usual(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", importing)
    with pytest.raises(ImportError, match="pip install zarr"):
        create_image(path, (3, 3), np.uint8)


# ------------------------------------------------------------------------ whatever others wrote


def former(path, pixels, **options):
    """An image of version 0.4; empty chunks are left out, as zarr does."""
    group = zarr.create_group(str(path), zarr_format=2)
    group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, chunks=(1, 10, 10))[:] = pixels
    axes = [{"name": name, "type": "space"} for name in "zyx"]
    multiscale = {"version": "0.4", "axes": axes, "datasets": [{"path": "0"}], **options}
    group.attrs["multiscales"] = [multiscale]
    return path


@pytest.mark.filterwarnings("error")
def test_chunks_left_out_are_the_fill_value_everywhere(tmp_path):
    pixels = PIXELS.copy()
    pixels[:, :10, :10] = 0
    former(tmp_path / "a.zarr", pixels)
    assert missing_chunks(open_image(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr")[:], pixels)
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "a.zarr").data), pixels)


def test_our_own_unfinished_image_says_so(path):
    create_image(path, (2, 8, 8), np.uint8)[0] = 1
    found = read(path)
    assert not found.complete
    assert np.asarray(found.data).sum() == 64


def test_array_of_version_2_without_attributes(tmp_path):
    zarr.create_array(str(tmp_path / "plain"), data=PIXELS, zarr_format=2)
    (tmp_path / "plain" / ".zattrs").unlink(missing_ok=True)
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "plain").data), PIXELS)


def test_zip_files(tmp_path):
    import shutil

    former(tmp_path / "a.ome.zarr", PIXELS)
    shutil.make_archive(tmp_path / "root.zarr", "zip", tmp_path / "a.ome.zarr")
    shutil.make_archive(tmp_path / "inner.zarr", "zip", tmp_path, "a.ome.zarr")
    for name in ("root.zarr.zip", "inner.zarr.zip"):
        np.testing.assert_array_equal(np.asarray(read(tmp_path / name).data), PIXELS)
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"text\.zip cannot be read as Zarr: .*\.$"):
        read(tmp_path / "text.zip")


def test_group_of_one_array_is_opened_and_of_several_is_told(tmp_path):
    group = zarr.create_group(str(tmp_path / "g.zarr"))
    group.create_array("only", data=PIXELS)
    np.testing.assert_array_equal(open_image(tmp_path / "g.zarr")[:], PIXELS)
    group.create_array("other", data=PIXELS)
    with pytest.raises(
        ValueError, match=r"it holds 2 images; give one .*only, other\), .*g\.zarr/only"
    ):
        open_image(tmp_path / "g.zarr")


def test_labels_of_an_image(tmp_path):
    former(tmp_path / "a.zarr", PIXELS)
    labels = zarr.open_group(str(tmp_path / "a.zarr")).create_group("labels")
    labels.attrs["labels"] = ["cells"]
    former(tmp_path / "a.zarr" / "labels" / "cells", PIXELS)
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr" / "labels")[:], PIXELS)
    labels.attrs["labels"] = ["cells", "nuclei"]
    former(tmp_path / "a.zarr" / "labels" / "nuclei", PIXELS)
    with pytest.raises(
        ValueError, match=r"it holds 2 label images; .*cells, nuclei\), .*labels/cells"
    ):
        open_image(tmp_path / "a.zarr" / "labels")


def test_plates_and_wells_are_told_as_such(tmp_path):
    plate = zarr.create_group(str(tmp_path / "p.zarr"), zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1"}, {"path": "B/2"}]}
    with pytest.raises(ValueError, match=r"a plate of 2 wells; .*A/1/0, B/2/0\), .*p\.zarr/A/1/0"):
        open_image(tmp_path / "p.zarr")
    well = plate.create_group("A/1")
    well.attrs["well"] = {"images": [{"path": "0"}]}
    former(tmp_path / "p.zarr" / "A" / "1" / "0", PIXELS)
    np.testing.assert_array_equal(open_image(tmp_path / "p.zarr" / "A" / "1")[:], PIXELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": [{"name": "y"}, {"name": "x"}]}, "tells of the axes yx"),
        ({"axes": 5}, "missing or incomplete"),
        ({"datasets": [{"path": "7"}]}, "missing or incomplete"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1]}]}, "no proper scale"),
        ({"coordinateTransformations": "x"}, "no proper scale"),
    ],
)
def test_damaged_descriptions_name_the_file(tmp_path, change, message):
    former(tmp_path / "a.zarr", PIXELS, **change)
    with pytest.raises(ValueError, match=rf"a\.zarr cannot be read as Zarr: .*{message}.*\.$"):
        open_image(tmp_path / "a.zarr")


def test_damaged_chunks_name_the_file(path):
    image = create_image(path, PIXELS.shape, PIXELS.dtype)
    image[:] = PIXELS
    image.finish()
    (path / "0" / "c" / "1" / "0" / "0").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"\.zarr cannot be read as Zarr: .*damaged.*\.$"):
        np.asarray(read(path).data)


def test_a_description_of_more_chunks_than_anybody_counts(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(4, 4), chunks=(1, 1), dtype="u1")
    array.resize((10**9, 10**9))
    with pytest.raises(ValueError, match=r"a\.zarr cannot be read as Zarr: .* 1e\+18 chunks\.$"):
        read(tmp_path / "a.zarr")
