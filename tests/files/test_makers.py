"""Formats of microscopes' makers, in files that are made here (tox run -e microscopes)."""

import struct

import numpy as np
import pytest

from napari_metastructure.files import pixels as limits
from napari_metastructure.files.read import read

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SIZES = (1.5, 0.2, 0.1)  # of a pixel along z, y, x, in micrometres


def noise(shape, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


# ----------------------------------------------------------------------------------- Leica


def write_lif(path, *images):
    """A LIF file of images (t, z, c, y, x)."""
    named = list(enumerate(images))
    elements = "".join(_element(f"image {number}", data, number) for number, data in named)
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="Project" UniqueID="p"><Data>'
        '<Experiment Path="x"/></Data><Memory Size="0" MemoryBlockID="MemBlock_99"/><Children>'
        f"{elements}</Children></Element></LMSDataContainerHeader>"
    )
    with open(path, "wb") as file:
        text = xml.encode("utf-16-le")
        file.write(struct.pack("<iiBi", 0x70, len(text) + 5, 0x2A, len(xml)) + text)
        for number, data in named:
            name = f"MemBlock_{number}".encode("utf-16-le")
            head = 0x70, len(name) + 14, 0x2A, data.nbytes, 0x2A, len(name) // 2
            file.write(struct.pack("<iiBQBi", *head) + name + data.tobytes())


def _element(name, data, number):
    planes, channels, height, width = data.shape[1:]
    line, plane = width * data.itemsize, data.itemsize * width * height * channels
    bits = 8 * data.itemsize
    described = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="{bits}" LUTName="Gray" '
        f'NameOfMeasuredQuantity="" Min="0" Max="{2**bits - 1}" Unit="" IsLUTInverted="0" '
        f'BytesInc="{channel * line * height}" BitInc="0"/>'
        for channel in range(channels)
    )
    axes = [(1, width, SIZES[2], data.itemsize), (2, height, SIZES[1], line)]
    axes += [(3, planes, SIZES[0], plane)] * (planes > 1)
    axes += [(4, len(data), 1, plane * planes)] * (len(data) > 1)
    dimensions = "".join(
        f'<DimensionDescription DimID="{axis}" NumberOfElements="{count}" Origin="0" Unit="m" '
        f'Length="{size * 1e-6 * (count - 1)}" BitInc="0" BytesInc="{step}"/>'
        for axis, count, size, step in axes
    )
    return (
        f'<Element Name="{name}" UniqueID="u{number}"><Data><Image TextDescription="">'
        f"<ImageDescription><Channels>{described}</Channels><Dimensions>{dimensions}</Dimensions>"
        f'</ImageDescription></Image></Data><Memory Size="{data.nbytes}" '
        f'MemoryBlockID="MemBlock_{number}"/><Children/></Element>'
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 1, 1), "yx"),
        ((1, 4, 1), "zyx"),
        ((5, 1, 1), "tyx"),
        ((1, 1, 3), "cyx"),
        ((3, 4, 2), "tczyx"),
    ],
)
def test_lif(tmp_path, shape, axes, dtype):
    pytest.importorskip("bioio_lif")
    data = noise((*shape, 30, 40), dtype)
    write_lif(tmp_path / "a.lif", data)
    found = read(tmp_path / "a.lif")
    assert (found.axes, found.data.dtype) == (axes, dtype)
    np.testing.assert_array_equal(found.data, data.transpose(0, 2, 1, 3, 4).squeeze())
    expected = dict(zip("zyx", SIZES))
    assert found.scale == pytest.approx([expected.get(axis, 1) for axis in axes])
    assert found.units == tuple("micrometer" if axis in "zyx" else "pixel" for axis in axes)


def test_further_images_of_a_lif_file_are_told(tmp_path):
    pytest.importorskip("bioio_lif")
    write_lif(tmp_path / "a.lif", noise((1, 1, 1, 30, 40)), noise((1, 1, 1, 8, 9)))
    with pytest.warns(UserWarning, match=r"a\.lif holds 2 images; the first, .*, is read"):
        assert read(tmp_path / "a.lif").data.shape == (30, 40)


def test_large_files_are_not_read_at_once(tmp_path, monkeypatch):
    pytest.importorskip("bioio_lif")
    data = noise((1, 4, 1, 30, 40))
    write_lif(tmp_path / "a.lif", data)
    monkeypatch.setattr(limits, "LAZY", 1000)
    found = read(tmp_path / "a.lif").data
    assert hasattr(found, "dask")
    np.testing.assert_array_equal(found.compute(), data[0, :, 0])


# ----------------------------------------------------------------------------------- Zeiss


def write_czi(path, data, sizes=SIZES):
    """A CZI file of an image (t, c, z, y, x) or (t, c, z, y, x, 3)."""
    czi = pytest.importorskip("pylibCZIrw.czi")
    pytest.importorskip("bioio_czi")
    with czi.create_czi(str(path)) as file:
        for t, c, z in np.ndindex(data.shape[:3]):
            plane = data[t, c, z]
            plane = plane if plane.ndim == 3 else plane[..., None]
            file.write(plane, plane={"T": t, "C": c, "Z": z})
        if sizes is not None:
            scale = dict(zip(("scale_z", "scale_y", "scale_x"), np.array(sizes) * 1e-6))
            file.write_metadata("made here", **scale)


@pytest.mark.parametrize(
    ("shape", "axes"), [((1, 2, 3), "czyx"), ((1, 1, 1), "yx"), ((4, 1, 1), "tyx")]
)
def test_czi(tmp_path, shape, axes):
    data = noise((*shape, 40, 50))
    write_czi(tmp_path / "a.czi", data)
    found = read(tmp_path / "a.czi")
    assert found.axes == axes
    np.testing.assert_array_equal(found.data, data.squeeze())
    expected = dict(zip("zyx", SIZES))
    assert found.scale == pytest.approx([expected.get(axis, 1) for axis in axes])


def test_a_czi_file_without_pixel_sizes(tmp_path):
    write_czi(tmp_path / "a.czi", noise((1, 1, 1, 40, 50)), sizes=None)
    assert read(tmp_path / "a.czi").units == ("pixel", "pixel")


def test_colours_of_a_czi_file(tmp_path):
    data = noise((1, 1, 1, 40, 50, 3), np.uint8)
    write_czi(tmp_path / "a.czi", data)
    found = read(tmp_path / "a.czi")
    assert found.axes == "yxs"
    np.testing.assert_array_equal(found.data, data.squeeze())


# ------------------------------------------------------------------------------------- all


@pytest.mark.parametrize("kind", ["lif", "czi"])
def test_files_that_are_cut_short_are_named(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "lif":
        pytest.importorskip("bioio_lif")
        write_lif(path, noise((1, 4, 2, 30, 40)))
    else:
        write_czi(path, noise((1, 2, 3, 40, 50)))
    whole = path.read_bytes()
    for share in (0.01, 0.1, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=rf"a\.{kind} cannot be read as image: it is damaged"):
            read(path)
