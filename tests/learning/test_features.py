"""Features at several scales: what they are, and that a tile equals the whole."""

import numpy as np
import pytest

from napari_metastructure.learning.features import FeatureCache, Features, tiles


@pytest.fixture
def plane():
    return np.random.default_rng(0).normal(size=(180, 150)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "settings", "box"),
    [
        ((180, 150), {}, (slice(60, 100), slice(0, 33))),
        ((2, 90, 150), {}, (slice(10, 12), slice(70, 150))),
        (
            (14, 40, 50),
            {"spatial_dims": 3, "anisotropy": 2.5, "sigmas": (0.7, 2)},
            (slice(5, 9), slice(20, 30), slice(3, 50)),
        ),
    ],
)
def test_a_tile_equals_the_whole(shape, settings, box):
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    features, moments = Features(**settings), (0.2, 1.5)
    whole = features.compute(image, None, moments)
    np.testing.assert_array_equal(features.compute(image, box, moments), whole[(slice(None), *box)])


def test_eigenvalues_are_computed_in_the_box_alone(monkeypatch):
    """They take nearly all of the time, and a small box of a volume has a wide margin."""
    import skimage.feature

    shapes, of = [], skimage.feature.hessian_matrix_eigvals
    monkeypatch.setattr(
        skimage.feature,
        "hessian_matrix_eigvals",
        lambda parts: shapes.extend(part.shape for part in parts) or of(parts),
    )
    volume = np.random.default_rng(1).normal(size=(14, 40, 50)).astype(np.float32)
    box = (slice(5, 6), slice(20, 30), slice(3, 50))
    Features(3, sigmas=(0.7, 2)).compute(volume, box)
    assert set(shapes) == {(1, 10, 47)}


def test_the_reach_is_exact(plane):
    """A pixel at the reach counts, and none beyond it."""
    features = Features(sigmas=(1.5, 3.0))
    reach = features.reach[0]
    here = (slice(90, 91), slice(75, 76))
    before = features.compute(plane, here)
    for distance, counts in ((reach, True), (reach + 1, False)):
        changed = plane.copy()
        changed[90 + distance, 75] += 1e6
        assert np.any(features.compute(changed, here) != before) == counts


def test_anisotropic_sigmas_follow_the_voxels():
    """A ball in the world is as round to the filters along z as along y."""
    z, y, x = np.mgrid[-8:9, -24:25, -24:25]
    ball = np.exp(-((3 * z) ** 2 + y**2 + x**2) / 200).astype(np.float32)
    features = Features(spatial_dims=3, anisotropy=3, sigmas=(3.0,))
    found = features.compute(ball)
    _, _, laplacian, *hessian = found[:6, 8, 24, 24]
    assert laplacian == pytest.approx(sum(hessian), rel=1e-4)
    np.testing.assert_allclose(hessian, np.mean(hessian), rtol=0.1)


def test_channels_come_one_after_the_other(plane):
    features = Features(sigmas=(0.3, 1.0))
    both = features.compute(np.stack([plane, 2 * plane]))
    assert len(both) == 2 * features.per_channel
    np.testing.assert_array_equal(both[: features.per_channel], features.compute(plane))
    np.testing.assert_array_equal(both[features.per_channel :], features.compute(2 * plane))


def test_the_cache_keeps_within_its_budget(plane):
    features = Features(sigmas=(0.3,))
    boxes = tiles(plane.shape, 64)
    one = features.compute(plane, boxes[0]).nbytes
    cache = FeatureCache(features, budget=2 * one)
    for box in boxes:
        cache.compute(0, plane, box, (0.0, 1.0))
        assert cache.held <= 2 * one
    assert cache.compute(0, plane, boxes[-1], (0, 1)) is cache.compute(0, plane, boxes[-1], (0, 1))
    cache.clear()
    assert cache.held == 0


def test_tiles_cover_a_shape_once():
    seen = np.zeros((10, 7), int)
    for box in tiles((10, 7), 4):
        seen[box] += 1
    assert (seen == 1).all()
