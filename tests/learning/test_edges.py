"""Where the edges of the images lie among the thresholds of a probability map."""

import numpy as np
import pytest
from scipy import ndimage as ndi

from napari_metastructure.learning.edges import Evidence


def _discs(seed=0, bright=True, shape=(128, 128)):
    """Blurred, noisy discs and their distance map, positive inside."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    truth = np.zeros(shape, bool)
    for centre in rng.uniform(15, np.array(shape) - 15, (6, len(shape))):
        truth |= ((grid.T - centre) ** 2).sum(-1).T < 12**2
    distance = ndi.distance_transform_edt(truth) - ndi.distance_transform_edt(~truth)
    distance = ndi.gaussian_filter(distance, 1)  # of all values, as probabilities are
    picture = 50 + 100 * ndi.gaussian_filter(truth.astype(float), 1) + rng.normal(0, 8, shape)
    return (picture if bright else 300 - picture), truth, distance


def _dice(mask, truth):
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())


def _maps(moved, bright=True, number=4):
    """Probabilities whose one-half outline lies `moved` pixels inside the objects, and labels."""
    found = [_discs(seed, bright) for seed in range(number)]
    probabilities = [1 / (1 + np.exp(-(d - moved))) for _, _, d in found]
    labels = [(d > moved).astype(int) for _, _, d in found]
    return probabilities, [f[0] for f in found], labels, [f[1] for f in found]


def _distances(number=4):
    return [_discs(seed)[2] for seed in range(number)]


@pytest.mark.parametrize("bright", [True, False])
@pytest.mark.parametrize("moved", [-2.5, 0, 2.5])
def test_the_threshold_lies_on_the_edges(moved, bright):
    probabilities, pictures, labels, truth = _maps(moved, bright)
    evidence = Evidence(probabilities, pictures, labels)
    assert evidence.consistent
    best = evidence.best()
    masks = [p > evidence.thresholds[best] for p in probabilities]
    assert _dice(np.array(masks), np.array(truth)) > 0.95
    assert evidence.displacement(best) == pytest.approx(moved, abs=1)


def test_deep_inside_the_outlines_learnt_no_edges_are_looked_for():
    probabilities, pictures, labels, _ = _maps(-6)
    evidence = Evidence(probabilities, pictures, labels)
    assert evidence.displacement(int(evidence.edges[0].argmax())) < -4
    assert evidence.displacement(evidence.best()) == pytest.approx(-3, abs=0.3)
    probabilities, pictures, labels, _ = _maps(6)  # too narrow ones are widened as before
    evidence = Evidence(probabilities, pictures, labels)
    assert evidence.displacement(evidence.best()) > 4


def test_strokes_have_no_outlines_but_a_region_has():
    probabilities, pictures, labels, truth = _maps(-6)
    inside, outside = (d > 2 for d in _distances()), (d < -8 for d in _distances())
    strokes = [np.where(i, 1, np.where(o, 0, -1)) for i, o in zip(inside, outside)]
    evidence = Evidence(probabilities, pictures, strokes)
    best = evidence.best()
    assert evidence.displacement(best) == 0
    masks = [p > evidence.thresholds[best] for p in probabilities]
    assert _dice(np.array(masks), np.array(truth)) > 0.9
    for label in labels:
        label[:, 40:] = -1
    region = Evidence(probabilities, pictures, labels)
    assert region.displacement(region.best()) < -2


def test_blur_does_not_make_dark_objects_smaller():
    probabilities, pictures, labels = [], [], []
    for seed in range(4):
        _, truth, distance = _discs(seed)
        probabilities.append(1 / (1 + np.exp(-distance)))
        pictures.append(1 - ndi.gaussian_filter(truth.astype(float), 3))  # from black to white
        labels.append(truth.astype(int))
    evidence = Evidence(probabilities, pictures, labels)
    assert abs(evidence.displacement(evidence.best())) < 0.5


def test_channels_of_either_polarity_are_used():
    probabilities, pictures, labels, truth = _maps(2.5)
    pictures = [np.stack([np.zeros_like(p), 300 - p]) for p in pictures]
    evidence = Evidence(probabilities, pictures, labels)
    masks = [p > evidence.thresholds[evidence.best()] for p in probabilities]
    assert _dice(np.array(masks), np.array(truth)) > 0.95


def test_volumes_are_looked_at_plane_by_plane():
    probabilities, pictures, labels, truth = map(np.stack, _maps(2.5))
    evidence = Evidence([probabilities], [pictures], [labels])
    mask = probabilities > evidence.thresholds[evidence.best()]
    assert _dice(mask, truth) > 0.95


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_images_without_edges_leave_the_word_to_the_labels(seed):
    probabilities, pictures, labels, _ = _maps(2.5)
    rng = np.random.default_rng(seed)
    evidence = Evidence(probabilities, [rng.normal(100, 10, p.shape) for p in pictures], labels)
    assert not evidence.consistent
    assert evidence.thresholds[evidence.best()] == pytest.approx(0.5, abs=0.1)


def test_known_noise_is_undone_in_the_labels():
    probabilities, pictures, labels, _ = _maps(0)
    rng = np.random.default_rng(0)
    flipped = [np.where(rng.random(one.shape) < 0.3, 1 - one, one) for one in labels]
    evidence = Evidence(probabilities, pictures, flipped, [[0.7, 0.3], [0.3, 0.7]])
    share = np.mean(labels)
    assert evidence.label_share == pytest.approx(share, abs=0.02)
    assert evidence.thresholds[evidence.agreement.argmax()] == pytest.approx(0.5, abs=0.15)


def test_labels_that_err_pixel_by_pixel_count_for_more_than_the_edges():
    probabilities, _, labels, _ = _maps(0)
    wider = [50 + 100 * ndi.gaussian_filter((d > -1).astype(float), 1) for d in _distances()]
    rng = np.random.default_rng(0)
    flipped = [np.where(rng.random(one.shape) < 0.3, 1 - one, one) for one in labels]
    found = {}
    for name, noisy, matrix in (
        ("clean", labels, None),
        ("identity", labels, np.eye(2)),
        ("flipped", flipped, [[0.7, 0.3], [0.3, 0.7]]),
    ):
        evidence = Evidence(probabilities, wider, noisy, matrix)
        assert evidence.consistent
        found[name] = evidence.displacement(evidence.best())
    assert found["clean"] == found["identity"] == pytest.approx(1.5, abs=0.5)  # on the edges
    assert found["flipped"] < found["clean"] - 0.5


def _tubes(moved, blur, number=4):
    """Probabilities, pictures and labels of blurred thin tubes, the labels moved inwards."""
    found = []
    for seed in range(number):
        ridge = np.abs(ndi.gaussian_filter(np.random.default_rng(seed).normal(size=(128, 128)), 8))
        truth = ridge < np.quantile(ridge, 0.25)
        distance = ndi.distance_transform_edt(truth) - ndi.distance_transform_edt(~truth)
        distance = ndi.gaussian_filter(distance, 0.7)
        noise = np.random.default_rng(seed).normal(0, 3, truth.shape)
        picture = 50 + 100 * ndi.gaussian_filter(truth.astype(float), blur) + noise
        found.append((1 / (1 + np.exp(-3 * (distance - moved))), picture, distance > moved))
    return map(list, zip(*found))


def test_blur_does_not_widen_thin_objects_whose_labels_are_exact():
    probabilities, pictures, labels = _tubes(0, 1.2)
    evidence = Evidence(probabilities, pictures, labels)
    edges = evidence.edges[0].argmax()
    assert 0.3 < evidence.displacement(edges) < 1
    assert evidence.displacement(evidence.best()) < 0.6 * evidence.displacement(edges)


def test_thin_objects_whose_labels_are_too_thin_are_widened():
    probabilities, pictures, labels = _tubes(1, 1.2)
    evidence = Evidence(probabilities, pictures, labels)
    assert evidence.displacement(evidence.best()) > 1


def test_ignored_pixels_do_not_count():
    probabilities, pictures, labels, _ = _maps(0)
    for one in labels:
        one[:64] = -1
    evidence = Evidence(probabilities, pictures, labels)
    assert evidence.label_share == pytest.approx(np.mean([one[64:] for one in labels]))


def test_missing_pixels_do_not_silence_the_edges():
    probabilities, pictures, labels, _ = _maps(2.5)
    whole = Evidence(probabilities, pictures, labels)
    for picture, value in zip(pictures, (np.nan, np.inf, -np.inf)):
        picture[5, 5] = value
    pictures[3][:] = np.nan
    evidence = Evidence(probabilities[:3], pictures[:3], labels[:3])
    assert evidence.consistent
    assert evidence.best() == pytest.approx(whole.best(), abs=8)
    assert not np.isnan(Evidence(probabilities, pictures, labels).edges).any()
