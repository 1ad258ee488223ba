import builtins
import errno
import json

import numpy as np
import pytest

from napari_metastructure.files.ome_zarr import create_image, missing_chunks, open_image

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
        open_image(path)
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
        open_image(path)
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
    with pytest.raises(ValueError, match="no level 2; its levels are 0 to 1"):
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
    with pytest.raises(ValueError, match="no Zarr image"):
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
    with pytest.raises(ImportError, match=r"pip install 'napari-metastructure\[zarr\]'"):
        create_image(path, (3, 3), np.uint8)
