import dask.array as da
import numpy as np
import pytest

from napari_metastructure import corrupt
from napari_metastructure.labels import noise, transition
from napari_metastructure.labels.noise import NoiseSpec

MATRIX = ((0.7, 0.2, 0.1), (0.1, 0.6, 0.3), (0.25, 0.25, 0.5))


def bars(period=40, size=400):
    """Straight bars of foreground, as wide as the gaps."""
    return np.broadcast_to((np.arange(size) % period < period // 2), (size, size)).astype(np.uint8)


def three(size=600):
    return np.random.default_rng(0).choice(3, (size, size), p=(0.6, 0.3, 0.1))


# ----------------------------------------------------------------- closed form


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (NoiseSpec(kind="sample", fraction=0.1), [[1, 0, 0], [0.9, 0.1, 0], [0.9, 0, 0.1]]),
        (NoiseSpec(kind="flip", ratio=0.4), [[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]]),
        (NoiseSpec(kind="flip", ratio=0.4, classes=(2,)), [[1, 0, 0], [0, 1, 0], [0.2, 0.2, 0.6]]),
        (NoiseSpec(kind="transition", matrix=MATRIX), MATRIX),
        (NoiseSpec(kind="random", fractions=(0.5, 0.3, 0.2)), [[0.5, 0.3, 0.2]] * 3),
    ],
)
def test_closed_form_by_hand_and_by_counting(spec, expected):
    matrix = transition.of(spec, 3)
    np.testing.assert_allclose(matrix, expected, atol=1e-12)
    labels = three()
    # limits of 99.99 %, so that nine entries hold together
    low, high = transition.interval(transition.count(labels, corrupt(labels, spec, seed=1)), 0.9999)
    assert ((low <= matrix + 1e-12) & (matrix <= high + 1e-12)).all()


def test_binary_flip():
    np.testing.assert_allclose(transition.of("flip", 2), [[0.55, 0.45], [0.45, 0.55]])


def test_matrices_of_a_chain_multiply():
    chain = [NoiseSpec(kind="sample", fraction=0.5), NoiseSpec(kind="transition", matrix=MATRIX)]
    expected = transition.of(chain[0], 3) @ np.array(MATRIX)
    np.testing.assert_allclose(transition.of(chain, 3), expected)
    labels = three()
    counted = transition.estimate(labels, corrupt(labels, chain, seed=2))
    np.testing.assert_allclose(counted, expected, atol=0.015)


def test_random_labels_take_the_shares_they_are_given():
    np.testing.assert_allclose(transition.of("random", 2, fractions=0.2), [[0.8, 0.2]] * 2)
    chain = ["sample", "random"]  # 10 % of the foreground is left when the shares are taken
    np.testing.assert_allclose(transition.of(chain, 2, fractions=0.2), [[0.98, 0.02]] * 2)
    with pytest.raises(ValueError, match="needs fractions"):
        transition.of("random", 2)


@pytest.mark.parametrize("kind", ["shift", "dilate", "erode", "skeletonize"])
def test_perturbations_have_no_closed_form(kind):
    with pytest.raises(ValueError, match="by counting"):
        transition.of(kind, 2)


def test_specs_that_do_not_fit_the_classes():
    with pytest.raises(ValueError, match="made for 3 classes, not for 2"):
        transition.of(NoiseSpec(kind="transition", matrix=MATRIX), 2)
    with pytest.raises(ValueError, match="made for 5 classes, not for 2"):
        transition.of(NoiseSpec(kind="flip", num_classes=5), 2)


# ----------------------------------------------------------------- counting


def test_count_by_hand():
    clean = np.array([[0, 0, 1, 1, 2, -1, 9]])
    noisy = np.array([[0, 1, 1, 1, 0, 1, 1]])
    expected = [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    np.testing.assert_array_equal(transition.count(clean, noisy, ignore_label=9), expected)
    np.testing.assert_array_equal(
        transition.estimate(clean, noisy, ignore_label=9), [[0.5, 0.5, 0], [0, 1, 0], [1, 0, 0]]
    )


def test_masks_with_one_foreground_value_are_binary():
    mask = bars()
    np.testing.assert_array_equal(transition.count(mask * 255, mask), np.diag([80000, 80000]))
    np.testing.assert_array_equal(transition.estimate(mask > 0, mask * 7), np.eye(2))


def test_a_class_without_pixels_has_an_unknown_row():
    matrix = transition.estimate(bars(), bars(), num_classes=3)
    np.testing.assert_array_equal(matrix[:2, :2], np.eye(2))
    assert np.isnan(matrix[2]).all()
    assert transition.rank(matrix) == 2


def test_dask_counts_as_numpy():
    clean = three(120)
    noisy = noise.flip(clean, 0.3, seed=0)
    expected = transition.count(clean, noisy)
    lazy = da.from_array(clean, (50, 37)), da.from_array(noisy, (11, 120))
    np.testing.assert_array_equal(transition.count(*lazy), expected)
    np.testing.assert_array_equal(transition.count(lazy[0], noisy), expected)


def test_wilson_interval():
    low, high = transition.interval(np.array([[5, 5], [0, 10]]))
    np.testing.assert_allclose((low[0, 0], high[0, 0]), (0.2366, 0.7634), atol=1e-4)
    np.testing.assert_allclose((low[1, 0], high[1, 0]), (0, 0.2775), atol=1e-4)


def test_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    counts = rng.multinomial(200, MATRIX[1], size=2000)
    low, high = transition.interval(counts)
    assert 0.94 < ((low <= MATRIX[1]) & (MATRIX[1] <= high)).mean() < 0.965


@pytest.mark.parametrize(
    ("clean", "noisy", "options", "error", "message"),
    [
        (bars(), bars()[:-1], {}, ValueError, "must have one shape"),
        (bars(), bars() / 2, {}, TypeError, "must be integers"),
        (bars(), three(400), {"num_classes": 2}, ValueError, "between 0 and 1, not 2"),
        (bars(), np.arange(160000).reshape(400, 400), {}, ValueError, "number objects"),
        (bars(), -3 * bars().astype(int), {}, ValueError, "negative"),
    ],
)
def test_bad_labels_are_refused(clean, noisy, options, error, message):
    with pytest.raises(error, match=message):
        transition.count(clean, noisy, **options)


# ----------------------------------------------------------------- rank


def test_rank_of_closed_forms():
    assert transition.rank(transition.of("flip", 2)) == 2
    assert transition.rank([[0.5, 0.5], [0.5, 0.5]]) == 1
    assert transition.rank(transition.of(NoiseSpec(kind="flip", ratio=0.9), 10)) == 1
    assert transition.rank(transition.of(NoiseSpec(kind="flip", ratio=0.95), 10)) == 10
    assert transition.rank([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]) == 2
    assert transition.rank(transition.of(NoiseSpec(kind="sample", fraction=0), 4)) == 1


@pytest.mark.parametrize("seed", range(20))
def test_rank_respects_the_counting_error(seed):
    labels = three(100)
    merged = ((0.6, 0.2, 0.2), (0.2, 0.4, 0.4), (0.2, 0.4, 0.4))
    for matrix, left in ((np.full((3, 3), 1 / 3), 1), (merged, 2), (MATRIX, 3)):
        counts = transition.count(labels, noise.transition(labels, matrix, seed=seed))
        estimated = counts / counts.sum(1, keepdims=True)
        assert transition.rank(estimated) == 3  # without counts, chance looks like structure
        assert transition.rank(estimated, counts) == left
        assert transition.rank(estimated, counts.sum(1)) == left


def test_a_rare_class_does_not_hide_the_others():
    counts = np.diag([100000, 5000, 12])
    assert transition.rank(counts / counts.sum(1, keepdims=True), counts) == 3


# ----------------------------------------------------------------- verdict


@pytest.mark.parametrize(
    ("matrix", "kind", "text"),
    [
        (transition.of("flip", 2), "kept", "Preserved: both classes can be learnt."),
        (transition.of("sample", 2), "kept", "threshold near 0.05"),
        (transition.of(NoiseSpec(kind="flip", ratio=0.495), 2), "kept", "Weakly preserved"),
        (transition.of(NoiseSpec(kind="flip", ratio=0.7), 2), "inverted", "invert the network"),
        (transition.of(NoiseSpec(kind="flip", ratio=0.5), 2), "gone", "no information"),
        (transition.of(NoiseSpec(kind="flip", ratio=0.85), 10), "kept", "all 10 classes"),
        (transition.of(NoiseSpec(kind="flip", ratio=0.95), 10), "inverted", "invert"),
        (np.eye(3)[[0, 2, 1]], "exchanged", "2 as 1, 1 as 2"),
        ([[1, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]], "merged", "1 and 2 cannot be told apart; 2 of"),
        ([[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]], "merged", "mixtures"),
        ([[0.6, 0.4, 0], [0.5, 0.3, 0.2], [0.1, 0.3, 0.6]], "kept", "mixed"),
    ],
)
def test_verdict_in_plain_words(matrix, kind, text):
    found = transition.verdict(matrix)
    assert found.kind == kind
    assert text in str(found)
    assert found.rank == transition.rank(matrix)


def test_verdict_names_the_merged_classes():
    matrix = np.eye(5)
    matrix[3] = matrix[1] = (0, 0.5, 0, 0.5, 0)
    found = transition.verdict(matrix)
    assert found.merged == ((1, 3),)
    assert (found.rank, found.num_classes) == (4, 5)


def test_verdict_on_borders():
    found = transition.verdict(np.eye(2), displacement=3.1)
    assert (found.kind, found.displacement) == ("bent", 3.1)
    assert str(found) == "Distorted: borders moved by about 3 pixels."


@pytest.mark.parametrize("matrix", [[[1, 0]], [[0.5, 0.4], [0, 1]], [[2, -1], [0, 1]]])
def test_what_is_no_transition_matrix_is_refused(matrix):
    for function in (transition.verdict, transition.rank):
        with pytest.raises(ValueError, match="transition matrix"):
            function(matrix)


def test_a_verdict_needs_two_classes():
    with pytest.raises(ValueError, match="two classes"):
        transition.judge(bars() * 0, bars())


# ----------------------------------------------------------------- from the labels alone


@pytest.mark.parametrize("radius", [1, 2, 4])
@pytest.mark.parametrize("kind", ["dilate", "erode"])
def test_displacement_is_the_radius_on_straight_borders(kind, radius):
    labels = bars()
    noisy = corrupt(labels, kind, radius=radius)
    assert transition.displacement(labels, noisy) == pytest.approx(radius)
    assert transition.judge(labels, noisy).kind == "bent"
    chunked = da.from_array(labels, (70, 90)), da.from_array(noisy, (400, 33))
    assert transition.displacement(*chunked) == pytest.approx(radius)


@pytest.mark.parametrize("radius", [2, 4])
def test_displacement_leaves_out_randomisation(radius):
    labels = bars(60)
    noisy = corrupt(labels, [NoiseSpec(kind="dilate", radius=radius), "flip"], ratio=0.2, seed=0)
    found = transition.judge(labels, noisy)
    assert found.kind == "bent"
    assert found.displacement == pytest.approx(radius, abs=0.2)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("kind", "params", "expected"),
    [
        ("sample", {"fraction": 0.02}, "kept"),
        ("flip", {"ratio": 0.4}, "kept"),
        ("flip", {"ratio": 0.5}, "gone"),
        ("flip", {"ratio": 0.9}, "inverted"),
        ("random", {}, "gone"),
        ("dilate", {"radius": 1}, "bent"),
        ("skeletonize", {}, "bent"),
        ("shift", {"radius": 2}, "bent"),
    ],
)
def test_judge_tells_randomised_from_perturbed_labels(kind, params, expected, seed):
    labels = bars(16)[:200, :200]
    found = transition.judge(labels, corrupt(labels, kind, seed=seed, **params))
    assert found.kind == expected


def test_judge_leaves_out_ignored_pixels():
    labels = bars().astype(int)
    noisy = noise.flip(labels, 0.3, seed=0)
    noisy[:, 100:150] = 9
    labels[:100] = -1
    assert transition.judge(labels, noisy, ignore_label=9).kind == "kept"


def test_an_unchanged_label_is_kept():
    assert transition.judge(bars(), bars()).kind == "kept"
    assert transition.displacement(bars(), bars()) == 0
