import json

import dask.array as da
import numpy as np
import pytest
from skimage.morphology import skeletonize
from skimage.segmentation import expand_labels

from napari_metastructure import corrupt
from napari_metastructure.labels import noise
from napari_metastructure.labels.noise import PARAMETERS, NoiseSpec

MATRIX = ((0.7, 0.2, 0.1, 0.0), (0.1, 0.6, 0.3, 0.0), (0.25, 0.25, 0.25, 0.25), (0, 0, 0, 1))
SPECS = [
    NoiseSpec(kind="sample", fraction=0.3, seed=1),
    NoiseSpec(kind="flip", ratio=0.4, seed=1),
    NoiseSpec(kind="transition", matrix=MATRIX, seed=1),
    NoiseSpec(kind="random", fractions=(0.4, 0.3, 0.2, 0.1), seed=1),
    NoiseSpec(kind="random", seed=1),
    NoiseSpec(kind="shift", radius=2, seed=1),
    NoiseSpec(kind="shift", radius=1, spatial_dims=3, seed=1),
    NoiseSpec(kind="dilate", radius=2.5),
    NoiseSpec(kind="dilate", radius=1, spatial_dims=3),
    NoiseSpec(kind="erode", radius=1),
    NoiseSpec(kind="erode", radius=1.5, spatial_dims=3),
    NoiseSpec(kind="skeletonize"),
    NoiseSpec(kind="skeletonize", spatial_dims=3),
]


def names(spec):
    return f"{spec.kind}{spec.spatial_dims}"


def regions(shape=(4, 60, 70), classes=4, seed=0):
    """Labels 0 to classes - 1 in blocks of a few pixels, with single pixels scattered in."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (*shape[:-2], shape[-2] // 6 + 1, shape[-1] // 6 + 1))
    labels = coarse.repeat(6, -2).repeat(6, -1)[..., : shape[-2], : shape[-1]]
    scattered = rng.random(shape) < 0.02
    return np.where(scattered, rng.integers(0, classes, shape), labels)


@pytest.fixture
def mask():
    return (regions((300, 310), 2) > 0).astype(np.uint8)


# ----------------------------------------------------------------- common to all


@pytest.mark.parametrize("spec", SPECS, ids=names)
@pytest.mark.parametrize("chunks", [(1, 60, 70), (2, 13, 70), (4, 31, 17)])
def test_same_result_whatever_the_chunks(spec, chunks):
    labels = regions()
    labels[:, 20:25, 30:40] = -1
    before = labels.copy()
    expected = corrupt(labels, spec)
    lazy = corrupt(da.from_array(labels, chunks), spec)
    assert isinstance(expected, np.ndarray)
    assert isinstance(lazy, da.Array)
    np.testing.assert_array_equal(lazy.compute(), expected)
    np.testing.assert_array_equal(labels, before)
    assert (expected != labels).any()


@pytest.mark.parametrize("seed", [0, 7, (3, 1), 2**70])
def test_tiles_of_random_numbers_fit_together(seed):
    labels = np.ones((1100, 600), np.uint8)
    expected = noise.flip(labels, 0.5, seed=seed)
    for chunks in [(512, 512), (100, 600), (1100, 33), (700, 513)]:
        lazy = noise.flip(da.from_array(labels, chunks), 0.5, seed=seed)
        np.testing.assert_array_equal(lazy.compute(), expected)
    assert (lazy[300:310, 500:520].compute() == expected[300:310, 500:520]).all()


@pytest.mark.parametrize("spec", SPECS, ids=names)
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint64])
def test_type_and_values_are_kept(spec, dtype):
    expected = corrupt(regions((3, 40, 50)), spec)
    out = corrupt(regions((3, 40, 50)).astype(dtype), spec)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("spec", SPECS, ids=names)
def test_bool_masks(spec):
    labels = regions((3, 40, 50), 2) > 0
    if spec.kind == "transition":
        spec = NoiseSpec.of(spec, matrix=((0.8, 0.2), (0.4, 0.6)))
    elif spec.fractions:
        spec = NoiseSpec.of(spec, fractions=0.2)
    out = corrupt(labels, spec)
    assert out.dtype == bool
    np.testing.assert_array_equal(out, corrupt(labels.astype(int), spec) > 0)


@pytest.mark.parametrize("spec", SPECS, ids=names)
def test_ignored_pixels_stay(spec):
    labels = regions()
    labels[:, 10:20, 10:20] = -1
    labels[:, 30:40, 5:9] = 9
    out = corrupt(labels, spec, ignore_label=9)
    for value in (-1, 9):
        np.testing.assert_array_equal(out == value, labels == value)


@pytest.mark.parametrize("spec", SPECS, ids=names)
def test_only_the_given_classes_change(spec):
    labels = regions()
    out = corrupt(labels, spec, classes=(2,))
    changed = labels[out != labels]
    assert (changed == 2).any() or spec.kind == "dilate"
    assert set(changed.tolist()) <= ({0, 2} if spec.kind in ("shift", "dilate") else {2})
    assert out[out != labels].max() <= (2 if spec.kind in ("shift", "dilate") else 3)


def test_planes_of_a_stack_differ_but_the_same_seed_repeats():
    stack = np.ones((2, 64, 64), np.uint8)
    first = noise.sample(stack, 0.5, seed=4)
    assert (first[0] != first[1]).any()
    np.testing.assert_array_equal(first, noise.sample(stack, 0.5, seed=4))
    assert (first != noise.sample(stack, 0.5, seed=5)).any()
    assert (noise.sample(stack, 0.5) != noise.sample(stack, 0.5)).any()


def test_a_generator_is_a_seed_and_moves_on():
    labels = np.ones((64, 64), np.uint8)
    rng = np.random.default_rng(1)
    first, second = noise.sample(labels, 0.5, seed=rng), noise.sample(labels, 0.5, seed=rng)
    assert (first != second).any()
    np.testing.assert_array_equal(first, noise.sample(labels, 0.5, seed=np.random.default_rng(1)))


def test_an_empty_array_stays_empty():
    for spec in SPECS[:2]:
        assert corrupt(np.zeros((0, 20), np.uint8), spec).shape == (0, 20)


# ----------------------------------------------------------------- randomised labels


def test_sample_keeps_the_fraction_and_never_adds(mask):
    out = noise.sample(mask, 0.1, seed=0)
    assert (out <= mask).all()
    n = mask.sum()
    assert abs(out.sum() / n - 0.1) < 4 * np.sqrt(0.1 * 0.9 / n)
    np.testing.assert_array_equal(noise.sample(mask, 1), mask)
    assert not noise.sample(mask, 0).any()


def test_flip_of_a_binary_mask_swaps(mask):
    np.testing.assert_array_equal(noise.flip(mask, 1), 1 - mask)
    np.testing.assert_array_equal(noise.flip(mask, 0), mask)
    np.testing.assert_array_equal(noise.flip(mask * 255, 1), 255 - mask * 255)
    np.testing.assert_array_equal(noise.flip(mask > 0, 1), mask == 0)
    changed = noise.flip(mask, 0.45, seed=0) != mask
    assert abs(changed.mean() - 0.45) < 4 * np.sqrt(0.45 * 0.55 / mask.size)
    np.testing.assert_array_equal(changed, noise.flip(mask * 255, 0.45, seed=0) != mask * 255)


def test_flip_of_an_empty_mask_is_binary():
    out = noise.flip(np.zeros((100, 100), np.uint8), 0.5, seed=0)
    assert set(np.unique(out)) == {0, 1}


def test_flip_reaches_all_other_classes_equally():
    labels = np.full((600, 600), 2, np.int16)
    out = noise.flip(labels, 0.6, num_classes=5, seed=3)
    shares = np.bincount(out.ravel(), minlength=5) / out.size
    np.testing.assert_allclose(shares, [0.15, 0.15, 0.4, 0.15, 0.15], atol=0.003)
    assert (noise.flip(labels, 1, num_classes=5, seed=3) != 2).all()


def test_flip_uses_the_classes_present_and_background():
    labels = np.where(regions((200, 200)) > 1, 40, 7)
    out = noise.flip(labels, 0.9, seed=0)
    assert set(np.unique(out)) == {0, 7, 40}


def test_transition_never_draws_what_the_matrix_forbids():
    labels = regions((400, 400))
    out = noise.transition(labels, MATRIX, seed=2)
    assert not (out[labels < 2] == 3).any()
    assert (out[labels == 3] == 3).all()
    np.testing.assert_array_equal(noise.transition(labels, np.eye(4)), labels)
    swapped = noise.transition(labels, np.eye(4)[[1, 0, 3, 2]])
    np.testing.assert_array_equal(swapped, np.array([1, 0, 3, 2])[labels])


def test_transition_follows_the_matrix():
    labels = regions((700, 700))
    out = noise.transition(labels, MATRIX, seed=2)
    for true, row in enumerate(MATRIX):
        shares = np.bincount(out[labels == true], minlength=4) / (labels == true).sum()
        np.testing.assert_allclose(shares, row, atol=0.006)


def test_transition_takes_a_mask_of_0_and_255(mask):
    out = noise.transition(mask * 255, [[1, 0], [0.5, 0.5]], seed=0)
    np.testing.assert_array_equal(out, 255 * noise.transition(mask, [[1, 0], [0.5, 0.5]], seed=0))


def test_many_classes():
    labels = np.arange(400 * 400).reshape(400, 400) % 300
    uniform = np.full((300, 300), 1 / 300)
    out = noise.transition(labels, uniform, seed=0)
    counts = np.bincount(out.ravel(), minlength=300)
    assert abs(((counts - 533.3) ** 2 / 533.3).sum() - 299) < 5 * np.sqrt(2 * 299)
    assert (noise.flip(labels, 1, seed=0) != labels).all()


def test_random_labels_are_blind_and_have_their_shares():
    out = noise.random_labels((500, 400), (0.5, 0.3, 0.2), seed=0)
    assert out.shape == (500, 400)
    assert out.dtype == np.uint8
    np.testing.assert_allclose(np.bincount(out.ravel()) / out.size, (0.5, 0.3, 0.2), atol=0.005)
    assert abs(noise.random_labels((500, 400), 0.25, seed=0).mean() - 0.25) < 0.005
    labels = regions((500, 400), 3)
    np.testing.assert_array_equal(
        corrupt(labels, "random", fractions=(0.5, 0.3, 0.2), seed=0),
        corrupt(labels * 0, "random", fractions=(0.5, 0.3, 0.2), seed=0),
    )


def test_random_labels_take_the_shares_of_the_labels(mask):
    out = corrupt(mask * 255, "random", seed=0)
    assert set(np.unique(out)) == {0, 255}
    assert abs((out > 0).mean() - mask.mean()) < 0.01


# ----------------------------------------------------------------- perturbed labels


@pytest.mark.parametrize("radius", [0, 1, 1.5, 2, 3, 7.3])
def test_dilate_is_expand_labels(mask, radius):
    np.testing.assert_array_equal(noise.dilate(mask, radius), expand_labels(mask, radius))
    scattered = regions((80, 90)) * (np.random.default_rng(1).random((80, 90)) < 0.05)
    np.testing.assert_array_equal(noise.dilate(scattered, radius), expand_labels(scattered, radius))
    volume = regions((9, 30, 30), 2) * (np.random.default_rng(1).random((9, 30, 30)) < 0.02)
    np.testing.assert_array_equal(
        noise.dilate(volume, radius, spatial_dims=3), expand_labels(volume, radius)
    )


def test_dilate_by_hand():
    labels = np.array([[1, 0, 0, 0, 2], [0, 0, 0, 0, 0], [3, 3, 3, 3, 3]])
    expected = np.array([[1, 1, 0, 2, 2], [1, 3, 3, 3, 2], [3, 3, 3, 3, 3]])
    out = noise.dilate(labels, 1)
    expected[1, 0], expected[1, 4] = out[1, 0], out[1, 4]  # as near to 1 (2) as to 3
    np.testing.assert_array_equal(out, expected)


def test_erode_by_hand():
    labels = np.array(
        [
            [1, 1, 1, 0, 2],
            [1, 1, 1, 0, 2],
            [1, 1, 1, 2, 2],
        ]
    )
    expected = np.array(
        [
            [1, 1, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [1, 1, 0, 0, 2],
        ]
    )
    np.testing.assert_array_equal(noise.erode(labels, 1), expected)


@pytest.mark.parametrize("radius", [0, 1, 1.5, 3])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_erode_is_dilation_of_all_the_rest(radius, spatial_dims):
    labels = regions((8, 40, 40), 3)
    expected = np.zeros_like(labels)
    for value in (1, 2):
        rest = (labels != value).astype(int)
        expected += value * (noise.dilate(rest, radius, spatial_dims=spatial_dims) == 0)
    np.testing.assert_array_equal(noise.erode(labels, radius, spatial_dims=spatial_dims), expected)


def test_the_outside_and_ignored_pixels_erode_nothing():
    labels = np.ones((20, 20), int)
    labels[:, 10:] = -1
    np.testing.assert_array_equal(noise.erode(labels, 5), labels)


def test_dilation_does_not_grow_out_of_ignored_pixels():
    labels = np.zeros((5, 5), int)
    labels[2] = -1
    labels[0, 0] = 1
    out = noise.dilate(labels, 10)
    assert (out[2] == -1).all()
    assert (np.delete(out, 2, 0) == 1).all()


def test_a_radius_beyond_the_image_ends():
    labels = np.zeros((20, 30), np.uint8)
    labels[0, 0] = 3
    assert (noise.dilate(labels, 1e6) == 3).all()
    assert not noise.erode(labels, 1e6).any()


def test_skeletonize_is_thinning_class_by_class():
    labels = regions((2, 60, 60))
    out = noise.skeletonize(labels)
    for plane, thin in zip(labels, out):
        for value in (1, 2, 3):
            np.testing.assert_array_equal(thin == value, skeletonize(plane == value))
    volume = noise.skeletonize(labels, spatial_dims=3)
    np.testing.assert_array_equal(volume == 1, skeletonize(labels == 1) > 0)


def test_shift_stays_within_the_radius_and_the_image():
    labels = np.zeros((40, 40), np.uint8)
    labels[::8, ::8] = 5
    labels[39, 39] = 5
    out = noise.shift(labels, 2, seed=0)
    near = np.abs(np.argwhere(out)[:, None] - np.argwhere(labels)).max(-1).min(1)
    assert near.max() == 2
    assert set(np.unique(out)) == {0, 5}
    assert np.count_nonzero(out) == np.count_nonzero(labels)
    np.testing.assert_array_equal(noise.shift(labels, 0.9, seed=0), labels)


def test_shift_is_uniform_over_the_square_or_cube():
    labels = np.zeros((21, 301, 301), np.uint8)
    labels[10, 5::10, 5::10] = 1
    centres = np.argwhere(labels)
    for dims, cells in ((2, 25), (3, 125)):
        moved = np.argwhere(noise.shift(labels, 2, spatial_dims=dims, seed=1))
        home = np.stack([np.full(len(moved), 10), *(moved[:, 1:] // 10 * 10 + 5).T], 1)
        assert len(moved) == len(centres)
        steps, counts = np.unique(moved - home, axis=0, return_counts=True)
        assert len(steps) == cells
        expected = len(centres) / cells
        assert ((counts - expected) ** 2 / expected).sum() < cells + 5 * np.sqrt(2 * cells)


def test_shifted_pixels_do_not_cover_classes_that_stay():
    labels = regions((100, 100), 3)
    out = noise.shift(labels, 3, classes=[1], seed=0)
    np.testing.assert_array_equal(out == 2, labels == 2)


# ----------------------------------------------------------------- specs


@pytest.mark.parametrize("spec", SPECS, ids=names)
def test_specs_survive_json(spec):
    assert NoiseSpec(**json.loads(spec.model_dump_json())) == spec


def test_specs_take_numpy_values(mask):
    spec = NoiseSpec(kind="transition", matrix=np.array([[0.9, 0.1], [0.3, 0.7]]), seed=np.int64(3))
    assert NoiseSpec(**json.loads(spec.model_dump_json())) == spec
    assert NoiseSpec(kind="random", fractions=np.array([0.9, 0.1])).fractions == (0.9, 0.1)
    assert (corrupt(mask, spec) != mask).any()


def test_every_kind_knows_its_fields():
    assert set(PARAMETERS) == {spec.kind for spec in SPECS}
    for fields in PARAMETERS.values():
        assert set(fields) < set(NoiseSpec.model_fields)


def test_summary_says_kind_amount_and_seed():
    assert NoiseSpec(kind="flip", ratio=0.45, seed=3).summary() == "flip 45 % (seed 3)"
    assert NoiseSpec(kind="sample", fraction=0.125).summary() == "sample 12.5 %"
    assert NoiseSpec(kind="dilate", radius=2, seed=3).summary() == "dilate 2 px"
    assert NoiseSpec(kind="erode", radius=1.5, classes=(1, 2)).summary() == (
        "erode 1.5 px of class 1, 2"
    )
    assert NoiseSpec(kind="skeletonize").summary() == "skeletonize"
    assert NoiseSpec(kind="transition", matrix=MATRIX).summary() == "transition 4 x 4"


def test_corrupt_takes_kind_spec_mapping_and_keywords(mask):
    expected = noise.flip(mask, 0.4, seed=1)
    spec = NoiseSpec(kind="flip", ratio=0.4, seed=1)
    for one, params in [
        ("flip", {"ratio": 0.4, "seed": 1}),
        (spec, {}),
        ({"kind": "flip", "ratio": 0.4, "seed": 1}, {}),
        (NoiseSpec(kind="flip", seed=1), {"ratio": 0.4}),
        ([spec], {}),
    ]:
        np.testing.assert_array_equal(corrupt(mask, one, **params), expected)


def test_a_chain_draws_anew_at_each_step(mask):
    once = NoiseSpec(kind="flip", ratio=0.3, seed=1)
    twice = corrupt(mask, [once, once])
    assert abs((twice != mask).mean() - 2 * 0.3 * 0.7) < 0.01
    both = corrupt(mask, [NoiseSpec(kind="dilate", radius=1), once])
    np.testing.assert_array_equal(
        both, corrupt(noise.dilate(mask, 1), [once, once][:1], seed=(1, 1))
    )


def test_sample_and_flip_of_one_seed_are_independent(mask):
    kept = noise.sample(np.ones_like(mask), 0.5, seed=1)
    flipped = noise.flip(np.ones_like(mask), 0.5, seed=1)
    assert abs((kept == flipped).mean() - 0.5) < 0.01


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: noise.flip(m / 2, 0.1), TypeError, "must be integers"),
        (lambda m: corrupt(m / np.float32(2), "dilate"), TypeError, "must be integers"),
        (lambda m: noise.flip(m[0], 0.1), ValueError, "at least 2 axes"),
        (lambda m: noise.erode(m, 1, spatial_dims=3), ValueError, "at least 3 axes"),
        (lambda m: noise.erode(m, 1, spatial_dims=4), ValueError, "must be 2 or 3"),
        (lambda m: noise.flip(m, -0.1), ValueError, "between 0 and 1"),
        (lambda m: noise.flip(m, 1.1), ValueError, "between 0 and 1"),
        (lambda m: noise.sample(m, np.nan), ValueError, "between 0 and 1"),
        (lambda m: noise.dilate(m, -1), ValueError, "non-negative"),
        (lambda m: noise.shift(m, np.nan), ValueError, "non-negative"),
        (lambda m: noise.erode(m, np.inf), ValueError, "non-negative"),
        (lambda m: noise.flip(m * 3, 0.1, num_classes=3), ValueError, "between 0 and 2, not 3"),
        (lambda m: noise.flip(m > 0, 0.1, num_classes=3), ValueError, "cannot hold class 2"),
        (lambda m: noise.flip(-2 * m.astype(int), 0.1), ValueError, "must not be negative"),
        (lambda m: noise.flip(m, 0.1, seed=-3), ValueError, "seed must be"),
        (lambda m: noise.transition(m, [[0.5, 0.4], [0, 1]]), ValueError, "Row 0 .* sum to 1"),
        (lambda m: noise.transition(m, [[1.1, -0.1], [0, 1]]), ValueError, "probabilities"),
        (lambda m: noise.transition(m, [[np.nan, 1], [0, 1]]), ValueError, "probabilities"),
        (lambda m: noise.transition(m, [[1, 0]]), ValueError, "square"),
        (lambda m: noise.transition(m * 2, np.eye(2)), ValueError, "the matrix has 2 classes"),
        (lambda m: noise.random_labels((9, 9), (0.5, 0.4)), ValueError, "sum to 1, not 0.9"),
        (lambda m: noise.random_labels((9, 9), 1.5), ValueError, "between 0 and 1"),
        (lambda m: noise.random_labels((9, 9), (1.5, -0.5)), ValueError, "none negative"),
        (lambda m: corrupt(m, "blur"), ValueError, "'sample', 'flip'"),
        (lambda m: corrupt(m, "flip", ratio=2), ValueError, "less than or equal to 1"),
        (lambda m: corrupt(m, "flip", ratio=np.nan), ValueError, "ratio"),
        (lambda m: corrupt(m, "flip", rate=0.2), ValueError, "no parameter 'rate'"),
        (lambda m: corrupt(m, "transition"), ValueError, "needs a matrix"),
        (lambda m: corrupt(m, "transition", matrix=((1, 1), (0, 1))), ValueError, "sum to 1"),
        (lambda m: corrupt(m, "random", fractions=(0.5, 0.2)), ValueError, "sum to 1"),
        (lambda m: corrupt(m, "dilate", radius=-1), ValueError, "radius"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(mask, call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(mask)
    assert "\n" not in str(caught.value)
