import numpy as np
import pytest

from napari_metastructure.labels import simulation

SIMULATORS = [
    simulation.simulate_er,
    simulation.simulate_mitochondria,
    simulation.simulate_nuclei,
]


@pytest.mark.parametrize("simulate", SIMULATORS)
@pytest.mark.parametrize("shape", [(256, 256), (96, 130), (8, 96, 130)])
def test_image_and_mask(simulate, shape):
    image, mask = simulate(shape, seed=3)
    assert image.shape == mask.shape == shape
    assert (image.dtype, mask.dtype) == (np.uint16, np.uint8)
    assert set(np.unique(mask)) == {0, 1}
    assert image[mask == 1].mean() > 1.3 * image[mask == 0].mean()


@pytest.mark.parametrize("simulate", SIMULATORS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 20, 20), (2, 3, 3)])
def test_tiny_shapes(simulate, shape):
    for seed in range(5):
        image, mask = simulate(shape, seed=seed)
        assert image.shape == mask.shape == shape


@pytest.mark.parametrize("simulate", SIMULATORS)
def test_the_seed_decides(simulate):
    for shape in [(128, 128), (4, 64, 64)]:
        first, again = simulate(shape, seed=5), simulate(shape, seed=np.random.default_rng(5))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        other = simulate(shape, seed=6)
        assert (first[0] != other[0]).any()
        assert (first[1] != other[1]).any()


@pytest.mark.parametrize("simulate", SIMULATORS)
def test_fields_are_independent_and_extend(simulate):
    images, masks = simulation.simulate_fields(simulate, 3, (64, 64), seed=1)
    assert images.shape == masks.shape == (3, 64, 64)
    assert (images.dtype, masks.dtype) == (np.uint16, np.uint8)
    assert (images[0] != images[1]).any()
    more, _ = simulation.simulate_fields(simulate, 4, (64, 64), seed=1)
    np.testing.assert_array_equal(more[:3], images)


@pytest.mark.parametrize("shape", [(20, 30), (6, 20, 30)])
def test_the_mask_is_the_union_of_the_balls(shape):
    rng = np.random.default_rng(0)
    optics, ndim = simulation.MITOCHONDRIA, len(shape)
    extent = [optics.depth(shape) + 1, *shape[-2:]]
    balls = simulation._Balls(rng.uniform(0, extent, (15, 3)), rng.uniform(1, 6, 15), np.ones(15))
    _, mask = simulation._render(balls, shape, optics)
    voxels = np.moveaxis(np.indices(shape), 0, -1) * optics.voxel(ndim)
    expected = np.zeros(shape, bool)
    for centre, radius in zip(balls.centres, balls.radii):
        expected |= np.linalg.norm(voxels - centre[-ndim:], axis=-1) <= radius
    np.testing.assert_array_equal(mask, expected)


def test_light_without_structure_does_not_saturate():
    haze, empty = np.full((64, 64), 0.05), np.zeros((64, 64))
    image = simulation._acquire(empty, haze, simulation.ER, np.random.default_rng(0))
    assert 0 < image.mean() < 5000


def test_the_point_spread_is_elongated_along_z():
    optics = simulation.NUCLEI
    signal = np.zeros((21, 61, 61))
    signal[10, 30, 30] = 1
    image = simulation._acquire(signal, 0.0, optics, np.random.default_rng(0))
    half = (int(image.max()) + optics.offset) / 2
    along_z = (image[:, 30, 30] > half).sum() * optics.step
    along_x = (image[10, 30, :] > half).sum() * optics.pixel
    assert along_z > 2 * along_x


@pytest.mark.parametrize("shape", [256, (256,), (0, 5), (4.0, 5), (1, 2, 3, 4), None])
def test_bad_shape(shape):
    for simulate in SIMULATORS:
        with pytest.raises(ValueError, match=r"shape should be \(y, x\) or \(z, y, x\)"):
            simulate(shape)


@pytest.mark.parametrize("count", [0, -1, 2.5])
def test_bad_count(count):
    with pytest.raises(ValueError, match="count should be an integer of at least 1"):
        simulation.simulate_fields(simulation.simulate_er, count)
