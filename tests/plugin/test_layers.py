"""Which pixels a layer gives to a job, and where the results lie. No window is needed."""

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels, Shapes
from napari.layers._source import Source as Origin

from napari_metastructure.files.fingerprint import digest
from napari_metastructure.labels.noise import NoiseSpec
from napari_metastructure.plugin.layers import (
    RECORD,
    Source,
    lines_problem,
    noise_of,
    recorded_noise,
    region_mask,
)

PLACED = {"rotate": 20, "scale": (3, 0.5, 0.25), "translate": (10, -3, 4), "shear": (0.1, 0, 0.2)}


def pyramid(levels=3, lazy=True):
    """An image of (4, 64, 48) and its halves and quarters in y and x, away from the origin."""
    finest = np.arange(4 * 64 * 48).reshape(4, 64, 48)
    data = [finest[:, :: 2**k, :: 2**k] for k in range(levels)]
    data = [da.from_array(part, chunks=16) for part in data] if lazy else data
    return Image(data, multiscale=True, **PLACED)


def result_of(source):
    """A result layer of zeros, in its place."""
    return Image(source.shaped(np.zeros(source.shape)), **source.place())


def test_a_plain_image_is_placed_as_it_is():
    image = Image(np.zeros((4, 8, 9)), affine=np.diag([1, 2, 3, 1]), **PLACED)
    result = result_of(Source.of(image))
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_allclose(getattr(result, name), getattr(image, name))
    np.testing.assert_allclose(result.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_pixels_of_a_coarse_level_cover_those_of_the_finest(level):
    image = pyramid()
    source = Source.of(image, level=level)
    assert source.array.shape == (4, 64 // 2**level, 48 // 2**level)
    assert hasattr(source.array, "dask")
    result, step = result_of(source), 2**level
    middle = np.array([2, (step - 1) / 2 + 5 * step, (step - 1) / 2 + 7 * step])
    np.testing.assert_allclose(result.data_to_world((2, 5, 7)), image.data_to_world(middle))
    corner = np.array([2, -0.5, -0.5])
    np.testing.assert_allclose(result.data_to_world(corner), image.data_to_world(corner))


def test_one_plane_of_a_coarse_level():
    image = pyramid()
    source = Source.of(image, level=1)
    plane = Image(source.array[2][None], **source.place_plane((2,)))
    np.testing.assert_allclose(plane.data_to_world((0, 5, 6)), image.data_to_world((2, 10.5, 12.5)))
    viewer = SimpleNamespace(dims=SimpleNamespace(point=image.data_to_world((2.2, 9, 9))))
    assert source.plane_index(viewer) == (2,)


@pytest.mark.parametrize("axis", [0, 1])
def test_results_of_channels_lie_on_every_channel(axis):
    shape = [2, 5, 8, 9]
    shape[0], shape[axis] = shape[axis], shape[0]
    options = {"scale": (1, 2, 0.5, 0.5), "translate": (7, 1, 2, 3), "rotate": 0}
    image = Image(np.zeros(shape), axis_labels=["z", "z", "y", "x"], **options)
    source = Source.of(image, channel_axis=axis)
    assert source.shape == (5, 8, 9)
    result = result_of(source)
    if axis == 0:
        expected = image.data_to_world((0, 3, 4, 5))[1:]
        np.testing.assert_allclose(result.data_to_world((3, 4, 5)), expected)
        assert result.axis_labels == image.axis_labels[1:]
        return
    assert result.data.shape == (5, 1, 8, 9)
    for channel in (0, 1):  # the slider of channels hits the only one
        pixel = result.world_to_data(image.data_to_world((3, channel, 4, 5)))
        np.testing.assert_allclose(np.rint(pixel), (3, 0, 4, 5), atol=1e-6)
    assert source.canonical.shape == (5, 2, 8, 9)
    several = np.zeros((3, *source.shape))
    assert source.shaped(several).shape == (3, 5, 1, 8, 9)
    plane = Image(np.zeros((1, 1, 8, 9)), **source.place_plane((3,)))
    pixel = plane.world_to_data(image.data_to_world((3, 1, 4, 5)))
    np.testing.assert_allclose(np.rint(pixel), (0, 0, 4, 5), atol=1e-6)


def test_colours_and_grey():
    pixels = np.random.default_rng(0).integers(0, 255, (8, 9, 4), dtype=np.uint8)
    image = Image(pixels, rgb=True, scale=(2, 3))
    source = Source.of(image)
    assert source.layout.input_axis == 2
    np.testing.assert_array_equal(source.array, pixels[..., :3])
    assert result_of(source).extent.world.tolist() == image.extent.world.tolist()
    grey = Source.of(image, channel="mean")
    np.testing.assert_allclose(grey.array, pixels[..., :3].mean(-1), rtol=1e-6)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("lazy", [False, True])
def test_multiscale_labels_are_taken_at_the_level_of_the_image(level, lazy):
    finest = np.random.default_rng(0).integers(0, 3, (4, 64, 48))
    levels = [finest[:, :: 2**k, :: 2**k] for k in range(3)]
    data = [da.from_array(part, chunks=16) for part in levels] if lazy else levels
    labels = Labels(data, multiscale=True)
    source = Source.of(pyramid(), level=level)
    assert source.fits(labels)
    np.testing.assert_array_equal(source.labels(labels), levels[level])
    only_finest = Labels([data[0], data[0][:, ::4, ::4]], multiscale=True)
    assert source.labels(only_finest).shape == levels[level].shape
    assert not source.fits(Labels([part[:, :-1] for part in levels], multiscale=True))


def test_multiscale_labels_serve_an_image_of_one_level():
    finest = np.random.default_rng(0).integers(0, 3, (4, 64, 48))
    labels = Labels([finest, finest[:, ::2, ::2]], multiscale=True)
    for image in (finest, finest[:, ::2, ::2]):
        source = Source.of(Image(image.astype(float)))
        np.testing.assert_array_equal(source.labels(labels), image)


def test_labels_of_the_finest_level_serve_a_coarse_one():
    image, labels = pyramid(), np.zeros((4, 64, 48), np.uint8)
    labels[1, 20:40, 10:30] = 1
    source = Source.of(image, level=1)
    assert source.fits(Labels(labels))
    assert not source.fits(Labels(labels[:3]))
    np.testing.assert_array_equal(source.labels(Labels(labels)), labels[:, 1::2, 1::2])


def test_labels_on_any_channel_count():
    image = Image(np.zeros((2, 8, 9)))
    source = Source.of(image, channel_axis=0)
    painted = np.zeros((2, 8, 9), np.uint8)
    painted[0, 2, 3] = painted[1, 5, 6] = 1
    assert source.fits(Labels(painted))
    np.testing.assert_array_equal(source.labels(Labels(painted)), painted.max(0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64])
@pytest.mark.parametrize("kind", [np.asarray, da.asarray])
def test_outside_a_region_nothing_counts(dtype, kind):
    labels = Labels(kind(np.full((8, 9), np.iinfo(dtype).max // 2, dtype)))
    region = np.zeros((8, 9), bool)
    region[2:4] = True
    found = np.asarray(Source.of(Image(np.zeros((8, 9)))).labels(labels, region))
    assert found.dtype.kind == "i"
    assert (found[~region] == -1).all()
    assert (found[region] == np.iinfo(dtype).max // 2).all()


def test_a_rectangle_is_found_wherever_both_layers_lie():
    image = Image(np.zeros((64, 48)), scale=(2, 0.5), translate=(5, -7), rotate=30)
    corners = np.array([[9.6, 19.6], [9.6, 30.4], [40.4, 30.4], [40.4, 19.6]])
    shapes = Shapes(scale=(3, 3), translate=(1, 2), rotate=-10)
    drawn = [shapes.world_to_data(image.data_to_world(corner)) for corner in corners]
    shapes.add_polygons(np.array(drawn))
    expected = np.zeros((64, 48), bool)
    expected[10:41, 20:31] = True
    np.testing.assert_array_equal(region_mask(shapes, Source.of(image)), expected)


def test_an_ellipse_and_lines():
    image = Image(np.zeros((64, 48)))
    shapes = Shapes([[[10, 10], [10, 30], [50, 30], [50, 10]]], shape_type="ellipse")
    shapes.add_lines([[0, 0], [60, 40]])
    y, x = np.mgrid[:64, :48]
    expected = ((y - 30) / 20) ** 2 + ((x - 20) / 10) ** 2 < 1
    found = region_mask(shapes, Source.of(image))
    assert np.count_nonzero(found != expected) < 0.02 * expected.sum()
    shapes = Shapes([[[0, 0], [60, 40]]], shape_type="line")
    with pytest.raises(ValueError, match="encloses a pixel"):
        region_mask(shapes, Source.of(image))


def test_planes_of_a_region():
    image = Image(np.zeros((4, 64, 48)), scale=(5, 1, 1))
    square = np.array([[10, 10], [10, 20], [30, 20], [30, 10]])
    flat = np.zeros((64, 48), bool)
    flat[10:31, 10:21] = True
    source = Source.of(image)
    everywhere = region_mask(Shapes([square]), source)
    np.testing.assert_array_equal(everywhere, np.broadcast_to(flat, (4, 64, 48)))
    drawn = Shapes([np.column_stack([np.full(4, 10.0), square])])  # on plane 2
    one = region_mask(drawn, source)
    np.testing.assert_array_equal(one.any((1, 2)), [False, False, True, False])
    np.testing.assert_array_equal(one[2], flat)
    np.testing.assert_array_equal(region_mask(drawn, source, every_plane=True), everywhere)
    coarse = Source.of(pyramid(), level=1)
    with pytest.raises(ValueError, match="encloses a pixel"):
        region_mask(Shapes([square + 1000]), coarse)


def test_the_part_around_a_region():
    image = Image(np.arange(4 * 2 * 64 * 48).reshape(4, 2, 64, 48), translate=(1, 2, 3, 4))
    source = Source.of(image, channel_axis=1)
    region = np.zeros((4, 64, 48), bool)
    region[1:3, 10:20, 5:9] = True
    part = source.around(region)
    assert part.shape == (2, 10, 4)
    np.testing.assert_array_equal(part.array, image.data[1:3, :, 10:20, 5:9])
    np.testing.assert_array_equal(part.whole(np.ones(part.shape)), region)
    placed = Image(part.shaped(np.zeros(part.shape)), **part.place())
    pixel = placed.world_to_data(image.data_to_world((1, 1, 10, 5)))
    np.testing.assert_allclose(np.rint(pixel), 0, atol=1e-6)


def corrupted(record=None):
    """A labels layer with the record of its corruption."""
    noise = [NoiseSpec(kind="flip", ratio=0.3).model_dump(mode="json")]
    labels = Labels(np.eye(8, dtype=np.uint8))
    own = {"operation": "corrupt", "noise": noise, "digest": digest(labels.data)}
    labels.metadata[RECORD] = {**own, **(record or {})}
    return labels, noise


def test_the_noise_of_labels_is_known_by_their_record():
    labels, noise = corrupted()
    assert noise_of(labels) == noise
    assert recorded_noise(labels) == (noise, True)


def test_a_record_does_not_hold_for_labels_painted_on_since():
    labels, noise = corrupted()
    labels.data[3, 4] = 1
    assert noise_of(labels) is None
    assert recorded_noise(labels) == (noise, False)


@pytest.mark.parametrize("record", [{"whole": False}, {"digest": None}, {"noise": None}])
def test_a_record_that_does_not_tell_of_all_labels_is_not_used(record):
    assert noise_of(corrupted(record)[0]) is None


@pytest.mark.parametrize("painted", [False, True])
def test_the_record_beside_a_file_is_used_if_it_is_of_these_labels(tmp_path, painted):
    from napari_metastructure.cli.main import main

    tifffile.imwrite(tmp_path / "mask.tif", np.tri(32, dtype=np.uint8))
    path = str(tmp_path / "noisy.tif")
    given = ["corrupt", str(tmp_path / "mask.tif"), "-o", path, "--kind", "flip", "--ratio", "0.3"]
    with pytest.raises(SystemExit) as end:
        main(given)
    assert end.value.code == 0
    data = tifffile.imread(path)
    data[0, 0] += painted
    labels = Labels(data)
    labels._source = Origin(path=path)
    found = noise_of(labels)
    assert found is None if painted else (found[0]["kind"], found[0]["ratio"]) == ("flip", 0.3)
    assert recorded_noise(labels)[1] is not painted


def lines_on(ndim, *paths, **placed):
    """A Shapes layer with paths, and a filled shape that is no line."""
    shapes = Shapes(ndim=ndim, **placed)
    shapes.add_paths([np.array(path, float) for path in paths])
    corners = np.zeros((4, ndim))
    corners[:, -2:] = [(0, 0), (0, 9), (9, 9), (9, 0)]
    shapes.add_rectangles(corners)
    return shapes


def test_lines_and_paths_are_labels_in_the_place_of_the_image():
    image = Image(np.zeros((32, 24)), scale=(2, 0.5), translate=(4, -3))
    source = Source.of(image)
    shapes = lines_on(2, [(4 + 2 * 5, -3 + 0.5 * 2), (4 + 2 * 5, -3 + 0.5 * 20)])
    assert source.fits(shapes)
    assert lines_problem(shapes, source) is None
    labels = source.labels(shapes)
    assert labels.shape == (32, 24)
    assert np.argwhere(labels == 1).tolist() == [[5, x] for x in range(2, 21)]
    assert set(np.unique(labels)) == {0, 1}
    region = np.zeros((32, 24), bool)
    region[:, :10] = True
    assert set(np.unique(source.labels(shapes, region)[:, 10:])) == {-1}
    assert noise_of(shapes) == [{"kind": "skeletonize"}]


def test_planes_without_a_line_are_not_annotated():
    image = Image(np.zeros((3, 16, 16)), **PLACED)
    source = Source.of(image)
    shapes = lines_on(3, [(1, 2, 3), (1, 2, 9), (1, 8, 9)], **PLACED)
    labels = source.labels(shapes)
    assert (labels[[0, 2]] == -1).all()
    assert labels[1].sum() == 13
    assert labels[1, 2, 3:10].all()


def test_lines_that_do_not_say_their_plane_are_refused():
    source = Source.of(Image(np.zeros((3, 16, 16)), name="stack"))
    assert "which plane of stack" in lines_problem(lines_on(2, [(1, 2), (5, 6)]), source)
    empty = Shapes(ndim=3, name="empty")
    assert "Draw lines or paths on empty" in lines_problem(empty, source)


def test_lines_beside_the_image_are_refused():
    source = Source.of(Image(np.zeros((16, 16)), name="cell"))
    with pytest.raises(ValueError, match="has no line on cell"):
        source.labels(lines_on(2, [(100, 100), (120, 110)]))


def test_layers_are_written_with_their_own_axes(tmp_path):
    from napari_metastructure.files.read import read
    from napari_metastructure.plugin.layers import write_ome_tiff

    layer = Labels(np.ones((3, 9, 9), np.uint8), axis_labels=("field", "y", "x"))
    write_ome_tiff(tmp_path / "fields.ome.tif", layer)
    assert read(tmp_path / "fields.ome.tif").axes == "tyx"
