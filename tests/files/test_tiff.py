"""TIFF layouts: read lazily equals read at once, and what was cut short is an error."""

import json
import uuid

import numpy as np
import pytest
import tifffile

from napari_metastructure.files import pixels
from napari_metastructure.files.read import read

STACK = np.random.default_rng(1).integers(0, 999, (6, 32, 48)).astype(np.uint16)
OME = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"{uuid}>{images}</OME>'
)
IMAGE = (
    '<Image ID="Image:{k}"><Pixels ID="Pixels:{k}" DimensionOrder="XYZCT" Type="uint16" SizeX="48" '
    'SizeY="32" SizeZ="{z}" SizeC="1" SizeT="1">'
    '<Channel ID="Channel:{k}:0" SamplesPerPixel="1"/>{data}</Pixels></Image>'
)


def ome(*images, uuid=""):
    """The description of images of so many planes, each with what it says of TiffData."""
    parts = [IMAGE.format(k=k, z=z, data=data) for k, (z, data) in enumerate(images)]
    return OME.format(images="".join(parts), uuid=uuid)


def data_at(ifd, z):
    return f'<TiffData IFD="{ifd}" FirstZ="{z}" PlaneCount="1"/>'


def write_ome(path, planes, description):
    options = {"description": description, "metadata": None, "photometric": "minisblack"}
    with tifffile.TiffWriter(path, ome=False) as file:
        for number, plane in enumerate(planes):
            file.write(plane, **(options if number == 0 else {**options, "description": None}))


def in_order_of_metadata(path):
    order = [3, 0, 5, 1, 4, 2]
    write_ome(path, STACK[order], ome((6, "".join(data_at(k, z) for k, z in enumerate(order)))))
    return STACK


def interleaved_images(path):
    data = ["".join(data_at(2 * z + k, z) for z in range(3)) for k in range(2)]
    write_ome(path, STACK, ome((3, data[0]), (3, data[1])))
    return STACK[::2]


def several_files(path):
    ids = [uuid.UUID(int=k + 1) for k in range(2)]
    names = [path.name, "other.ome.tif"]
    data = "".join(
        f'<TiffData IFD="{z % 3}" FirstZ="{z}" PlaneCount="1">'
        f'<UUID FileName="{names[z // 3]}">urn:uuid:{ids[z // 3]}</UUID></TiffData>'
        for z in range(6)
    )
    for k, name in enumerate(names):
        own = f' UUID="urn:uuid:{ids[k]}"'
        write_ome(path.with_name(name), STACK[3 * k : 3 * k + 3], ome((6, data), uuid=own))
    return STACK


def planes_left_out(path):
    write_ome(path, STACK[[0, 2]], ome((3, data_at(0, 0) + data_at(1, 2))))
    return STACK[:3] * np.array([1, 0, 1], np.uint16)[:, None, None]


def thumbnails_between(path):
    with tifffile.TiffWriter(path, ome=False) as file:
        for plane in STACK:
            file.write(plane, metadata=None)
            file.write(plane[::4, ::4], metadata=None, subfiletype=1)
    return STACK


def thumbnail_first(path):
    with tifffile.TiffWriter(path, ome=False) as file:
        file.write(STACK[0, ::4, ::4], metadata=None, subfiletype=1)
        file.write(STACK[0], metadata=None)
    return STACK[0]


def pyramid(path):
    with tifffile.TiffWriter(path, ome=True) as file:
        tiles = {"tile": (16, 16), "photometric": "minisblack"}
        file.write(STACK, subifds=1, metadata={"axes": "ZYX"}, **tiles)
        file.write(STACK[:, ::2, ::2], subfiletype=1, **tiles)
    return STACK


def plain_pages(path):
    with tifffile.TiffWriter(path, ome=False) as file:
        for plane in STACK:
            file.write(plane, metadata=None, contiguous=False)
    return STACK


def of_pillow(path):
    from PIL import Image

    first, *others = [Image.fromarray(plane) for plane in STACK]
    first.save(path, save_all=True, append_images=others)
    return STACK


def imagej_as_one_block(path):
    """As ImageJ itself writes: one directory, then all pixels."""
    tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "ZYX"})
    return STACK


def imagej_compressed(path):
    tifffile.imwrite(path, STACK, imagej=True, metadata={"axes": "ZYX"}, compression="zlib")
    return STACK


def imagej_hyperstack(path):
    stack = STACK.reshape(3, 2, 32, 48)
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZCYX"})
    return stack


def simple(**options):
    def layout(path):
        tifffile.imwrite(path, STACK, **options)
        return STACK

    layout.__name__ = "simple " + " ".join(options)
    return layout


def colours(planar, **options):
    def layout(path):
        stack = np.stack([STACK, STACK // 2, STACK // 3], 1 if planar else -1).astype(np.uint8)
        kind = "separate" if planar else "contig"
        tifffile.imwrite(path, stack, photometric="rgb", planarconfig=kind, **options)
        return np.moveaxis(stack, 1, -1) if planar else stack

    layout.__name__ = f"colours {planar} " + " ".join(options)
    return layout


LAYOUTS = [
    in_order_of_metadata,
    interleaved_images,
    several_files,
    planes_left_out,
    thumbnails_between,
    thumbnail_first,
    pyramid,
    plain_pages,
    of_pillow,
    imagej_as_one_block,
    imagej_compressed,
    imagej_hyperstack,
    simple(),
    simple(bigtiff=True),
    simple(byteorder=">"),
    simple(ome=True, metadata={"axes": "TYX"}),
    simple(compression="zlib", predictor=True),
    simple(rowsperstrip=5),
    simple(tile=(16, 32)),
    simple(tile=(16, 16), compression="lzw", ome=True),
    colours(False),
    colours(True),
    colours(False, ome=True),
    colours(True, ome=True),
    colours(False, tile=(16, 16)),
]


@pytest.mark.filterwarnings("ignore:.*(planes|images)")
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_read_lazily_equals_read_at_once(layout, tmp_path, monkeypatch):
    path = tmp_path / "a.ome.tif"
    expected = layout(path)
    at_once = read(path)
    np.testing.assert_array_equal(at_once.data, expected)
    monkeypatch.setattr(pixels, "LAZY", 0)
    lazy = read(path)
    assert hasattr(lazy.data, "dask")
    assert (lazy.axes, lazy.scale, lazy.units) == (at_once.axes, at_once.scale, at_once.units)
    np.testing.assert_array_equal(np.asarray(lazy.data), expected)
    np.testing.assert_array_equal(np.asarray(lazy.data[..., 3:9, 5:7]), expected[..., 3:9, 5:7])


def test_a_lazy_file_travels_as_its_path(tmp_path, monkeypatch):
    import pickle

    monkeypatch.setattr(pixels, "LAZY", 0)
    expected = in_order_of_metadata(tmp_path / "a.ome.tif")
    data = read(tmp_path / "a.ome.tif").data
    assert len(pickle.dumps(data)) < 20_000
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(data))), expected)


def test_a_folder_of_one_set_holds_each_plane_once(tmp_path):
    expected = several_files(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(read(tmp_path).data, expected[None])


def test_what_is_left_out_and_what_else_there_is_are_told(tmp_path):
    planes_left_out(tmp_path / "a.ome.tif")
    with pytest.warns(UserWarning, match=r"a\.ome\.tif leaves out 1 of its 3 planes; .* read as 0"):
        read(tmp_path / "a.ome.tif")
    interleaved_images(tmp_path / "b.ome.tif")
    with pytest.warns(UserWarning, match=r"b\.ome\.tif holds 2 images; the first one is read"):
        read(tmp_path / "b.ome.tif")


CUT = [
    in_order_of_metadata,
    plain_pages,
    of_pillow,
    imagej_as_one_block,
    imagej_compressed,
    imagej_hyperstack,
    simple(),
    simple(ome=True),
    simple(compression="zlib"),
    simple(ome=True, compression="zlib"),
    simple(tile=(16, 16), compression="zlib"),
    pyramid,
]


def read_or_error(path):
    """What was read, or what the error says."""
    try:
        return read(path), None
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("layout", CUT, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("lazy", [False, True], ids=["at once", "lazily"])
def test_cut_off_files_are_errors(layout, lazy, tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    expected = layout(path)
    whole = path.read_bytes()
    monkeypatch.setattr(pixels, "LAZY", 0 if lazy else 2**28)
    for length in np.random.default_rng(0).integers(0, len(whole), 25):
        path.write_bytes(whole[:length])
        found, said = read_or_error(path)
        if said is None:  # what was cut off held no pixels
            np.testing.assert_array_equal(np.asarray(found.data), expected)
        else:
            assert said.startswith(f"{path} cannot be read as TIFF: ")
            assert said.endswith(".")


def test_a_missing_file_of_a_set_is_named_as_missing(tmp_path):
    several_files(tmp_path / "a.ome.tif")
    (tmp_path / "other.ome.tif").unlink()
    with pytest.raises(ValueError, match="promises 6 planes, 3 are there"):
        read(tmp_path / "a.ome.tif")


def test_a_description_that_promises_millions_of_planes_is_refused_at_once(tmp_path):
    write_ome(tmp_path / "a.ome.tif", STACK[:1], ome((10**9, "<TiffData/>")))
    with pytest.raises(ValueError, match="promises 1000000000 planes"):
        read(tmp_path / "a.ome.tif")


def test_a_chain_of_pages_that_forms_a_circle_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    plain_pages(path)
    with tifffile.TiffFile(path) as file:
        first, end = file.pages[0].offset, file.pages.next_page_offset
    whole = bytearray(path.read_bytes())
    whole[end : end + 4] = first.to_bytes(4, "little")
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="its pages form a loop"):
        read(path)


# ----------------------------------------------------------------------------- pixel sizes

MICRO = ["\u00b5m", "\u03bcm", "um", "micron", "microns", "\\u00B5m", "\\u03BCm", "Âµm", "&#181;m"]


@pytest.mark.parametrize("unit", MICRO)
def test_micro_signs_in_every_spelling(unit, tmp_path):
    path = tmp_path / "a.tif"
    described = f"ImageJ=1.53q\nimages=1\nunit={unit}\n".encode()
    tifffile.imwrite(path, STACK[0], resolution=(4, 4), description=described, metadata=None)
    found = read(path)
    assert (found.scale, found.units) == ((0.25, 0.25), ("micrometer", "micrometer"))


@pytest.mark.parametrize("unit", ["reference frame", "foo", "((", "%s", "x" * 500])
def test_unknown_units_are_pixels_with_a_note(unit, tmp_path):
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 2.0, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(path, STACK[0], ome=True, metadata={"axes": "YX", **sizes})
    with pytest.warns(UserWarning, match=r"The unit .* of .*a\.ome\.tif is not known; .*pixels"):
        assert read(path).units == ("pixel", "pixel")


@pytest.mark.parametrize("unit", ["Pixel", "pixels", "px", ""])
def test_pixels_by_any_name_are_no_unit(unit, tmp_path, recwarn):
    path = tmp_path / "a.tif"
    described = f"ImageJ=1.53q\nimages=1\nunit={unit}\n".encode()
    tifffile.imwrite(path, STACK[0], resolution=(4, 4), description=described, metadata=None)
    assert (read(path).scale, read(path).units) == ((1.0, 1.0), ("pixel", "pixel"))
    assert not recwarn.list


def test_imagej_may_give_each_axis_its_unit(tmp_path):
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "spacing": 2, "unit": "nm", "yunit": "um", "zunit": "mm"}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(4, 2), metadata=metadata)
    found = read(path)
    assert found.scale == (2, 0.5, 0.25)
    assert found.units == ("millimeter", "micrometer", "nanometer")


def test_shaped_description_is_a_promise(tmp_path):
    path = tmp_path / "a.tif"
    described = json.dumps({"shape": [6, 32, 48]})
    tifffile.imwrite(path, STACK[0], description=described, metadata=None)
    with pytest.raises(
        ValueError,
        match=r"a\.tif cannot be read as TIFF: it was cut short: 18432 bytes",
    ):
        read(path)
