"""Damaged files: a result, or one sentence that names the file; no hang, no raw error."""

import gc
import os
import warnings

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_metastructure.files.read import read, read_labels

PIXELS = np.arange(3 * 8 * 9, dtype=np.uint16).reshape(3, 8, 9)
NAMES = ("plain.tif", "a.ome.tif", "imagej.tif", "zlib.tif", "a.npy", "a.png", "palette.png")


def whole_files(folder):
    """The bytes of one file of each kind, by name."""
    tifffile.imwrite(folder / "plain.tif", PIXELS)
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "um"}
    tifffile.imwrite(folder / "a.ome.tif", PIXELS, metadata={"axes": "ZYX", **sizes})
    tifffile.imwrite(folder / "imagej.tif", PIXELS, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "zlib.tif", PIXELS, compression="zlib")
    np.save(folder / "a.npy", PIXELS)
    Image.fromarray(PIXELS[0].astype(np.uint8)).save(folder / "a.png")
    picture = Image.fromarray(PIXELS[0].astype(np.uint8) % 3, mode="P")
    picture.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    picture.save(folder / "palette.png")
    return {name: (folder / name).read_bytes() for name in NAMES}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_files(tmp_path_factory.mktemp("whole"))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), name=st.sampled_from(NAMES), labels=st.booleans())
def test_damaged_files_give_a_result_or_one_sentence(whole, tmp_path, data, name, labels):
    content = bytearray(whole[name])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6), "changed"):
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)), "length")]
    path = tmp_path / name
    path.write_bytes(content)
    try:
        found = (read_labels if labels else read)(path)
        np.asarray(found.data)
    except (ValueError, TypeError) as error:
        said = str(error)
        assert name in said and said.endswith(".") and "\n" not in said and len(said) < 600  # noqa: PT018


def test_files_that_are_no_pictures_are_closed(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS[0].astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:5])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(ValueError, match="cut short"):
            read(path)
        gc.collect()
    assert not [str(warning.message) for warning in said if str(path) in str(warning.message)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.png"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} cannot be read as .*: it is a pipe or a device"):
        read(tmp_path / name)
