"""The pixel classifier on simulated strokes."""

import numpy as np
import pytest

from napari_metastructure.labels.metrics import evaluate
from napari_metastructure.labels.strokes import simulate_strokes
from napari_metastructure.learning.stroke_classifier import StrokeClassifier

SMALL = {"sigmas": (0.7, 2.0), "trees": 20}


def dice(reference, probability):
    return evaluate(reference, (probability > 0.5).astype(np.uint8))["dice"]


@pytest.fixture
def taught(blobs):
    images, masks = blobs(4)
    strokes = np.zeros_like(masks)
    strokes[1] = simulate_strokes(masks[1], 6, 12, seed=0)
    return images, masks, strokes


def test_a_few_strokes_segment_the_other_planes(taught):
    images, masks, strokes = taught
    found = StrokeClassifier(**SMALL).fit(images, strokes).predict(images)
    assert found.shape == (2, 4, 64, 64)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-5)
    assert dice(masks[3], found[1, 3]) > 0.85


def test_images_of_different_shapes(taught):
    images, _, strokes = taught
    parts = [images[:2], images[2, :50]]
    classifier = StrokeClassifier(**SMALL).fit(parts, [strokes[:2], np.zeros((50, 64), int)])
    np.testing.assert_array_equal(
        classifier.predict(images[3]),
        StrokeClassifier(**SMALL).fit(images, strokes).predict(images[3]),
    )


def test_the_same_seed_gives_the_same_classifier(taught):
    images, _, strokes = taught
    first, second = (StrokeClassifier(**SMALL).fit(images, strokes) for _ in range(2))
    np.testing.assert_array_equal(first.predict(images[0]), second.predict(images[0]))


def test_remembered_features_change_nothing(taught):
    images, _, strokes = taught
    plain = StrokeClassifier(**SMALL).fit(images, strokes)
    keyed = StrokeClassifier(**SMALL).fit(images, strokes, keys=range(4))
    assert keyed.cache.held
    for _ in range(2):
        np.testing.assert_array_equal(
            keyed.predict_plane(images[1], key=1), plain.predict_plane(images[1])
        )


def test_an_erased_class_keeps_its_number(taught):
    images, _, strokes = taught
    three = strokes.copy()
    three[1, :3, :3] = 3
    classifier = StrokeClassifier(**SMALL).fit(images, three)
    assert classifier.classes == [1, 2, 3]
    classifier.fit(images, strokes)
    found = classifier.predict(images[0])
    assert classifier.classes == [1, 2]
    assert found.shape[0] == 3
    assert not found[2].any()


@pytest.fixture
def rare(blobs):
    """Images with a rare third class, brighter objects, and strokes that do not tell it is rare."""
    images, masks = blobs(4)
    truth = masks.copy()
    truth[:, 20:34, 20:34] *= 2
    images = images + 250 * (truth == 2)
    strokes = np.zeros_like(truth)
    strokes[1] = simulate_strokes(truth[1], 6, 12, seed=0)
    return images, truth, strokes


def test_rare_classes_are_found_less_often_by_their_shares(rare):
    images, truth, strokes = rare
    classifier = StrokeClassifier(**SMALL).fit(images, strokes)
    before = classifier.predict(images)
    (after,) = classifier.weigh_classes([before])
    np.testing.assert_allclose(classifier.predict(images), after, atol=1e-6)
    np.testing.assert_allclose(after.sum(0), 1, rtol=1e-5)
    np.testing.assert_allclose(classifier.class_weights**2, before.mean((1, 2, 3)), rtol=1e-4)

    def error(found):
        return np.abs(np.bincount(found.argmax(0).ravel()) - np.bincount(truth.ravel())).sum()

    assert error(after) < 0.8 * error(before)


def test_weighing_classes_again_changes_nothing(rare):
    images, _, strokes = rare
    classifier = StrokeClassifier(**SMALL).fit(images, strokes)
    (once,) = classifier.weigh_classes([classifier.predict(images)])
    (twice,) = classifier.weigh_classes([once])
    np.testing.assert_allclose(twice, once, atol=1e-5)


def test_weights_are_of_certain_classes(rare):
    images, _, strokes = rare
    classifier = StrokeClassifier(**SMALL).fit(images, strokes)
    classifier.weigh_classes([classifier.predict(images)])
    weights = classifier.class_weights
    assert classifier.fit(images, strokes).class_weights is weights
    assert classifier.fit(images, np.where(strokes == 3, 0, strokes)).class_weights is None


def test_class_numbers_may_have_gaps(taught):
    images, masks, strokes = taught
    found = StrokeClassifier(**SMALL).fit(images, np.where(strokes == 2, 4, strokes))
    found = found.predict(images[3])
    assert len(found) == 4
    assert not found[1:3].any()
    assert dice(masks[3], found[3]) > 0.85


def test_volumes(taught):
    images, masks, _ = taught
    strokes = np.zeros_like(masks)
    strokes[1:3] = simulate_strokes(masks[1:3], 12, 12, seed=0)
    classifier = StrokeClassifier(spatial_dims=3, anisotropy=3, **SMALL).fit(images, strokes)
    found = classifier.predict(images)
    assert found.shape == (2, 4, 64, 64)
    assert dice(masks, found[1]) > 0.7


def test_colours_tell_what_their_mean_does_not(taught):
    _, masks, strokes = taught
    rng = np.random.default_rng(0)
    red = 100 * masks + rng.normal(0, 20, masks.shape)
    colours = np.stack([red, 100 - red, rng.normal(0, 20, masks.shape)], -1).astype(np.float32)
    classifier = StrokeClassifier(channel_axis=-1, **SMALL).fit(colours, strokes)
    found = classifier.predict(colours)
    assert found.shape == (2, 4, 64, 64)
    assert dice(masks[3], found[1, 3]) > 0.85


def test_out_of_bag_error_tells_good_strokes_from_random_ones(taught):
    images, _, strokes = taught
    classifier = StrokeClassifier(**SMALL).fit(images, strokes)
    assert 0 <= classifier.oob_error < 0.2
    rng = np.random.default_rng(0)
    random = np.where(strokes > 0, rng.integers(1, 3, strokes.shape), 0)
    assert classifier.fit(images, random).oob_error > 0.35


@pytest.mark.parametrize("rare", [1, 8, 60])
def test_out_of_bag_error_of_a_rare_class(rare):
    """A short stroke beside long ones is learnt by nearly every tree; that is no error."""
    rng = np.random.default_rng(0)
    values = np.repeat([1, 2], [700, rare])
    rows = rng.normal(10.0 * values[:, None], 1, (len(values), 6)).astype(np.float32)
    assert StrokeClassifier(seed=0).fit_rows(rows, values).oob_error < 0.05
    rng.shuffle(values)
    assert StrokeClassifier(seed=0).fit_rows(rows, values).oob_error < 1


@pytest.mark.parametrize("sign", [1, -1])
def test_polarity_is_read_from_the_strokes(taught, sign):
    images, _, strokes = taught
    classifier = StrokeClassifier(**SMALL).fit(sign * images.astype(float), strokes)
    assert classifier.polarity == {1: "bright", -1: "dark"}[sign]


def test_saved_and_loaded(taught, tmp_path):
    images, _, strokes = taught
    classifier = StrokeClassifier(**SMALL).fit(images, np.where(strokes == 2, 3, strokes))
    classifier.num_classes = 5  # classes that were erased
    classifier.weigh_classes([classifier.predict(images)])
    classifier.save(tmp_path / "strokes.npz")
    loaded = StrokeClassifier.load(tmp_path / "strokes.npz")
    np.testing.assert_array_equal(loaded.predict(images[0]), classifier.predict(images[0]))
    assert loaded.oob_error == classifier.oob_error


def test_another_file_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", rows=np.zeros(3))
    with pytest.raises(ValueError, match="not a stroke classifier"):
        StrokeClassifier.load(tmp_path / "other.npz")


def test_prediction_tile_by_tile_equals_the_whole(blobs):
    image, mask = (stack[0] for stack in blobs(1, size=300))
    classifier = StrokeClassifier(**SMALL).fit(image, simulate_strokes(mask, 4, seed=0))
    whole = classifier.predict(image)
    coarse = 0
    for box, part in classifier.predicting_plane(image, step=4):
        np.testing.assert_array_equal(part, whole[(slice(None), *box)][:, ::4, ::4])
        coarse += 1
    assert coarse == 4


def test_many_strokes_are_thinned_evenly(blobs):
    images, masks = blobs(8, size=96)
    classifier = StrokeClassifier(**SMALL).fit(images, masks + 1)
    _, arrays = classifier.state()
    assert len(arrays["values"]) <= 20_000
    assert (np.bincount(arrays["values"])[1:] == 10_000).all()


@pytest.mark.parametrize(
    ("strokes", "reason"),
    [
        (np.zeros((4, 64, 64), int), "no strokes yet"),
        (np.ones((4, 64, 64), int), "at least one stroke on objects"),
        (np.full((4, 64, 64), 2), "at least one stroke on background"),
        (np.arange(4 * 64 * 64).reshape(4, 64, 64), "numbered objects, not strokes"),
        (np.full((4, 64, 64), -1), "not be negative"),
        (np.eye(64, dtype=int) + 1, "do not have the shape"),
    ],
)
def test_bad_strokes_are_told_in_a_sentence(taught, strokes, reason):
    with pytest.raises(ValueError, match=reason):
        StrokeClassifier(**SMALL).fit(taught[0], strokes)


def test_prediction_needs_strokes_first(taught):
    with pytest.raises(RuntimeError, match="not trained yet"):
        StrokeClassifier().predict(taught[0])
