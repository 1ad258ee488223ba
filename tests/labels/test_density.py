import json

import dask.array as da
import numpy as np
import pytest
from scipy import ndimage

from napari_metastructure import corrupt
from napari_metastructure.labels import density, noise, transition
from napari_metastructure.labels.density import DensityConfig
from napari_metastructure.labels.noise import NoiseSpec


def regions(shape=(3, 60, 70), classes=4, seed=0):
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(
        rng.normal(size=(*shape, classes)), (0,) * (len(shape) - 2) + (4, 4, 0)
    )
    return field.argmax(-1)


def by_correlation(mask, sides):
    box = np.ones(sides)
    inside = ndimage.correlate(np.ones(mask.shape), box, mode="constant")
    return ndimage.correlate(mask.astype(float), box, mode="constant") / inside


# ----------------------------------------------------------------- observed


def test_density_by_hand():
    labels = np.array([[1, 0, 0], [0, 0, 0], [0, 2, 2]])
    out = density.observed(labels, 1)
    assert out.shape == (3, 3, 3)
    assert out.dtype == np.float32
    assert out[1, 0, 0] == np.float32(1 / 4)
    assert out[1, 1, 1] == np.float32(1 / 9)
    assert out[2, 1, 0] == np.float32(1 / 6)
    assert out[2, 2, 2] == np.float32(2 / 4)


@pytest.mark.parametrize("radius", [0, 1, 5, 17])
def test_box_in_planes(radius):
    labels = regions()
    out = density.observed(labels, radius)
    side = 2 * radius + 1
    for value in range(4):
        for plane, found in zip(labels, out[value]):
            np.testing.assert_allclose(
                found, by_correlation(plane == value, (side, side)), atol=1e-6
            )


def test_box_in_volumes_with_a_radius_per_axis():
    labels = regions((9, 30, 40))
    out = density.observed(labels, (1, 2, 5), spatial_dims=3)
    np.testing.assert_allclose(out[2], by_correlation(labels == 2, (3, 5, 11)), atol=1e-6)


def test_physical_units():
    labels = regions((9, 30, 40))
    out = density.observed(labels, 2.0, spatial_dims=3, scale=(2.0, 1.0, 0.4))
    np.testing.assert_array_equal(out, density.observed(labels, (1, 2, 5), spatial_dims=3))


@pytest.mark.parametrize("radius", [1, 6])
def test_gaussian_is_normalised_at_the_border(radius):
    mask = regions((60, 70), 2)
    sigma = np.sqrt(radius * (radius + 1) / 3)

    def blur(array):
        return ndimage.gaussian_filter(array.astype(float), sigma, mode="constant", truncate=4)

    out = density.observed(mask, radius, kernel="gaussian")
    expected = blur(mask) / blur(np.ones(mask.shape))
    np.testing.assert_allclose(out[1], expected, atol=0.005 if radius == 1 else 1e-4)


def test_kernels_have_one_standard_deviation():
    mask = np.zeros((101, 101), int)
    mask[50, 50] = 1
    at = np.arange(101) - 50
    for kernel in ("box", "gaussian"):
        line = density.observed(mask, 8, kernel=kernel)[1].sum(0)
        assert np.sqrt((line * at**2).sum() / line.sum()) == pytest.approx(np.sqrt(24), rel=0.01)


@pytest.mark.parametrize("kernel", ["box", "gaussian"])
@pytest.mark.parametrize("radius", [3, 1000])
def test_shares_sum_to_one_and_wide_windows_see_the_whole(kernel, radius):
    labels = regions()
    out = density.observed(labels, radius, kernel=kernel)
    np.testing.assert_allclose(out.sum(0), 1, atol=1e-5)
    if radius == 1000:
        np.testing.assert_allclose(out[1, 2], (labels[2] == 1).mean(), atol=1e-3)


def test_ignored_pixels_do_not_count():
    labels = regions((40, 50), 2)
    labels[:, 25:] = -1
    labels[30:, :5] = 9
    for kernel in ("box", "gaussian"):
        out = density.observed(labels, 4, ignore_label=9, kernel=kernel)
        assert len(out) == 2
        known = (labels == 0) | (labels == 1)
        np.testing.assert_allclose(out.sum(0)[known], 1, atol=1e-5)
        assert (out[:, :, 45:] == 0).all()
    alone = density.observed(labels[:30, :25], 4)
    np.testing.assert_array_equal(
        density.observed(labels, 4, ignore_label=9)[:, :26, :25], alone[:, :26]
    )


def test_classes_are_those_present_or_asked_for():
    mask = regions((40, 50), 2).astype(np.uint8) * 255
    out = density.observed(mask, 2)
    np.testing.assert_array_equal(out[1], density.observed(mask, 2, classes=[255])[0])
    assert len(density.observed(mask * 0, 2)) == 2
    assert not density.observed(mask, 2, classes=[0, 7])[1].any()
    assert density.observed(mask > 0, 2).shape == (2, 40, 50)


# ----------------------------------------------------------------- dask


@pytest.mark.parametrize("kernel", ["box", "gaussian"])
@pytest.mark.parametrize("chunks", [(1, 60, 70), (2, 13, 70), (3, 20, 17)])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_same_densities_whatever_the_chunks(kernel, chunks, spatial_dims):
    labels = regions()
    noisy = noise.flip(labels, 0.3, seed=0)
    matrix = transition.of(NoiseSpec(kind="flip", ratio=0.3), 4)
    lazy, lazy_noisy = da.from_array(labels, chunks), da.from_array(noisy, chunks)
    options = {"kernel": kernel, "spatial_dims": spatial_dims}
    for found, expected in [
        (density.observed(lazy, 3, **options), density.observed(labels, 3, **options)),
        (
            density.expected(lazy, matrix, 3, **options),
            density.expected(labels, matrix, 3, **options),
        ),
        (
            density.residual(lazy_noisy, lazy, matrix, 3, in_sigma=True, **options),
            density.residual(noisy, labels, matrix, 3, in_sigma=True, **options),
        ),
    ]:
        assert isinstance(found, da.Array)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.compute(), expected, atol=2e-5)


def test_explicit_classes_read_nothing():
    def explode(block):
        raise AssertionError

    lazy = da.zeros((4, 100, 100), int, chunks=(1, 50, 100)).map_blocks(explode, dtype=int)
    density.observed(lazy, 3, classes=[0, 1])


# ----------------------------------------------------------------- expected and residual


def test_expected_mixes_the_true_densities():
    labels = regions((40, 50), 3)
    matrix = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])
    true = density.observed(labels, 4)
    out = density.expected(labels, matrix, 4)
    np.testing.assert_allclose(out, np.einsum("jm,jyx->myx", matrix, true), atol=1e-6)
    np.testing.assert_allclose(density.expected(labels, np.eye(3), 4), true, atol=1e-6)


def test_residual_is_observed_less_expected():
    labels = regions((40, 50), 2) * 255
    noisy = noise.flip(labels, 0.2, seed=0)
    matrix = transition.of(NoiseSpec(kind="flip", ratio=0.2), 2)
    difference = density.observed(noisy, 3) - density.expected(labels, matrix, 3)
    np.testing.assert_allclose(density.residual(noisy, labels, matrix, 3), difference, atol=1e-6)
    delta = np.sqrt(0.2 * 0.8 / 49)
    found = density.residual(noisy, labels, matrix, 3, in_sigma=True)
    np.testing.assert_allclose(found[1, 20, 20], difference[1, 20, 20] / delta, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["box", "gaussian"])
@pytest.mark.parametrize(
    "spec",
    [
        NoiseSpec(kind="sample", fraction=0.1),
        NoiseSpec(kind="flip", ratio=0.45),
        NoiseSpec(kind="flip", ratio=0.9),
        NoiseSpec(kind="random", fractions=(0.4, 0.3, 0.3)),
    ],
    ids=lambda spec: spec.summary(),
)
def test_lemma_1_holds_for_randomised_labels(spec, kernel):
    labels = regions((4, 200, 200), 3)
    matrix = transition.of(spec, 3)
    for seed in range(3):
        noisy = corrupt(labels, spec, seed=seed)
        sigmas = density.residual(noisy, labels, matrix, 6, in_sigma=True, kernel=kernel)
        assert (np.abs(sigmas) < 3).mean() > 0.99
        assert 0.8 < sigmas[1:].std() < 1.1  # the error is neither under- nor overstated


def test_lemma_1_fails_near_the_borders_of_dilated_labels():
    labels = (regions((400, 400), 2) > 0).astype(int)
    noisy = noise.dilate(labels, 3)
    sigmas = density.residual(noisy, labels, transition.estimate(labels, noisy), 3, in_sigma=True)
    fringe = noise.dilate(labels, 1) > labels
    assert (sigmas[1][fringe] > 3).mean() > 0.5
    assert (np.abs(sigmas) < 3).mean() < 0.7


# ----------------------------------------------------------------- figure of merit


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("sample", {"fraction": 0.1}),
        ("flip", {"ratio": 0.45}),
        ("flip", {"ratio": 0.9}),
        ("transition", {"matrix": ((0.5, 0.3, 0.2), (0.3, 0.4, 0.3), (0.1, 0.2, 0.7))}),
    ],
)
def test_randomised_labels_keep_the_structure(kind, params, seed):
    labels = regions((2, 200, 200), 3)
    assert density.kept(labels, corrupt(labels, kind, seed=seed, **params)) > 0.97


def test_figure_of_merit_falls_as_borders_move():
    labels = (ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(500, 500)), 8) > 0) * 1
    for kind in ("dilate", "erode"):
        kept = [density.kept(labels, corrupt(labels, kind, radius=r)) for r in (0, 1, 2, 4)]
        assert kept[0] == 1
        assert (np.diff(kept) < -0.05).all()
        assert kept[-1] > density.kept(labels, noise.skeletonize(labels)) > 0
    assert density.kept(labels, corrupt(labels, "random", seed=0)) == 0
    assert density.kept(labels, corrupt(labels, "flip", ratio=0.5, seed=0)) == 0


def test_figure_of_merit_leaves_randomisation_out():
    labels = (regions((400, 400), 2) > 0) * 255
    bent = density.kept(labels, noise.dilate(labels, 2))
    both = corrupt(labels, [NoiseSpec(kind="dilate", radius=2), "flip"], ratio=0.3, seed=0)
    assert density.kept(labels, both) == pytest.approx(bent, abs=0.05)
    assert density.kept(labels // 255 * 7, noise.dilate(labels > 0, 2)) == bent


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_figure_of_merit_of_dask_and_ignored_pixels(spatial_dims):
    labels = regions((3, 100, 110), 3)
    labels[:, 40:60] = -1
    noisy = noise.dilate(labels, 1)
    noisy[:, :, 30:40] = 9
    options = {"ignore_label": 9, "spatial_dims": spatial_dims}
    expected = density.kept(labels, noisy, **options)
    assert 0.1 < expected < 0.95
    lazy = da.from_array(labels, (2, 33, 40)), da.from_array(noisy, (1, 100, 50))
    assert density.kept(*lazy, **options) == pytest.approx(expected)


# ----------------------------------------------------------------- config and errors


def test_config_survives_json():
    config = DensityConfig(radius=(1, 2, 3), kernel="gaussian", spatial_dims=3)
    assert DensityConfig(**json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: density.observed(m / 2, 3), TypeError, "must be integers"),
        (lambda m: density.observed(m, -1), ValueError, "non-negative"),
        (lambda m: density.observed(m, np.nan), ValueError, "radius"),
        (lambda m: density.observed(m, (1, 2, 3)), ValueError, "radius needs one number or 2"),
        (lambda m: density.observed(m, 3, scale=0), ValueError, "scale must be positive"),
        (lambda m: density.observed(m, 3, kernel="disk"), ValueError, "'box' or 'gaussian'"),
        (lambda m: density.observed(m, 3, size=2), ValueError, "no parameter 'size'"),
        (lambda m: density.observed(m, 3, spatial_dims=3), ValueError, "at least 3 axes"),
        (lambda m: density.observed(m, 3, classes=[7, 9]), ValueError, "no pixel of class 7, 9"),
        (lambda m: density.expected(m, np.eye(2), 3), ValueError, "matrix has 2 classes"),
        (lambda m: density.expected(m, np.ones((4, 4)), 3), ValueError, "sum to 1"),
        (lambda m: density.residual(m[:-1], m, np.eye(4), 3), ValueError, "one shape"),
        (lambda m: density.kept(m[:-1], m), ValueError, "one shape"),
        (lambda m: density.kept(np.arange(2000).reshape(40, 50) % 100, m), ValueError, "too many"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(regions((40, 50)))
    assert "\n" not in str(caught.value)
