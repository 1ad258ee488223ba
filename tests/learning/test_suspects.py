"""Suspect regions of labels."""

import numpy as np
import pytest
from scipy.ndimage import label

import napari_metastructure as nms
from napari_metastructure.learning.suspects import correct, suspects_from


def _disc(shape, centre, radius):
    return np.hypot(*(np.indices(shape) - np.reshape(centre, (2, 1, 1)))) <= radius


@pytest.fixture
def case():
    """Four objects; one missed, one that is none, one a little too wide."""
    truth = np.zeros((64, 96), np.uint8)
    for centre in [(16, 16), (16, 48), (48, 16), (48, 48)]:
        truth[_disc(truth.shape, centre, 7)] = 1
    labels = truth.copy()
    labels[_disc(labels.shape, (16, 48), 9)] = 0
    labels[_disc(labels.shape, (48, 80), 5)] = 1
    labels[_disc(labels.shape, (48, 16), 9)] = 1
    return np.where(truth, 0.95, 0.03), labels, truth


def test_kinds_and_places(case):
    probability, labels, _ = case
    table, regions = suspects_from([probability], [labels])
    assert list(table["kind"]) == ["missed object", "extra object", "wrong outline"]
    assert list(table["rank"]) == [1, 2, 3]
    assert list(table["suggested"]) == [1, 0, 0]
    np.testing.assert_allclose(table[["y", "x"]], [[16, 48], [48, 80], [48, 16]], atol=0.1)
    assert regions[0][16, 48] == 1
    assert regions[0][48, 80] == 2
    assert regions[0].dtype == np.int32
    assert table["area"].tolist() == [(regions[0] == rank).sum() for rank in (1, 2, 3)]


def test_accepted_ones_are_corrected(case):
    probability, labels, truth = case
    suspects = suspects_from([probability], [labels])
    [all_of_them] = correct([labels], suspects, [1, 2, 3])
    np.testing.assert_array_equal(all_of_them, truth)
    assert all_of_them.dtype == labels.dtype
    [one] = correct([labels], suspects, [2])
    np.testing.assert_array_equal(one != labels, suspects.regions[0] == 2)
    with pytest.raises(KeyError):
        correct([labels], suspects, [4])


def test_objects_that_are_numbered_stay_so(case):
    probability, labels, truth = case
    numbers = label(truth)[0].astype(np.uint8)  # 1 top left, 2 top right, 3 and 4 below
    numbers[labels == 0] = 0
    numbers[48, 80] = 0
    numbers[(labels > 0) & (truth == 0) & (np.indices(labels.shape)[1] < 64)] = 3  # too wide
    numbers[numbers == 4] = 255
    probability = probability.copy()
    probability[_disc(truth.shape, (48, 48), 9)] = 0.95  # its label is too narrow
    suspects = suspects_from([probability], [numbers])
    kinds = dict(zip(suspects.table["rank"], suspects.table["kind"]))
    assert sorted(kinds.values()) == ["missed object", "wrong outline", "wrong outline"]
    [corrected] = correct([numbers], suspects, list(kinds), numbered=True)
    assert corrected[16, 48] == 256  # as all others are taken
    assert corrected[48, 48 + 8] == 255
    assert corrected[48, 16 + 9] == 0
    assert set(np.unique(corrected)) == {0, 1, 3, 255, 256}
    mask = np.where(numbers > 0, 255, 0).astype(np.uint8)
    [corrected] = correct([mask], suspects, list(kinds), numbered=True)
    assert set(np.unique(corrected)) == {0, 255}
    assert corrected.dtype == np.uint8


def test_a_class_in_one_half_only_is_refused_before_any_training(case):
    _, labels, truth = case
    with pytest.raises(ValueError, match="Label 5 occurs only in every second image") as error:
        nms.find_suspects([truth] * 4, [labels, labels + 4 * (labels * truth)] * 2)
    assert "as_mask" in str(error.value)
    nms.find_suspects([truth] * 4, [labels, 5 * labels] * 2, as_mask=True)


def test_strokes_are_refused(case):
    _, labels, truth = case
    with pytest.raises(ValueError, match="drawn as regions; strokes"):
        nms.find_suspects([truth] * 4, [labels] * 4, unannotated=True)


def test_ranks_run_over_all_images(case):
    probability, labels, truth = case
    table, regions = suspects_from([probability, probability], [truth, labels])
    assert set(table["image"]) == {1}
    assert not regions[0].any()
    assert regions[1].max() == 3


def test_what_is_not_annotated_is_not_suspect(case):
    probability, labels, _ = case
    labels = labels.astype(int)
    labels[:32, 32:64] = -1
    labels[32:, 64:] = 7
    table, _ = suspects_from([probability], [labels], ignore_label=7)
    assert list(table["kind"]) == ["wrong outline"]


def test_several_classes_keep_their_values(case):
    _, _, truth = case
    truth = np.where(_disc(truth.shape, (48, 48), 8), truth * 9, truth * 5)
    classes = (0, 5, 9)
    probability = np.stack([np.where(truth == value, 0.9, 0.05) for value in classes])
    labels = truth.copy()
    labels[labels == 9] = 5
    table, _ = suspects_from([probability], [labels], classes)
    assert table[["label", "suggested"]].to_numpy().tolist() == [[5, 9]]


def test_planes_of_a_stack_are_apart_and_volumes_whole(case):
    probability, labels, truth = case
    stack, truths = np.stack([probability] * 2), np.stack([labels] * 2)
    planes = suspects_from([stack], [truths]).table
    assert len(planes) == 6
    assert sorted(planes["axis_0"]) == [0, 0, 0, 1, 1, 1]
    volume = suspects_from([stack], [truths], spatial_dims=3).table
    assert len(volume) == 3
    assert set(volume["z"]) == {0.5}
    assert suspects_from([stack], [np.stack([truth] * 2)]).table.empty


def test_shapes_that_differ_are_refused(case):
    probability, labels, _ = case
    with pytest.raises(ValueError, match="do not fit map 0"):
        suspects_from([probability], [labels[1:]])
    with pytest.raises(ValueError, match="1 maps but 2 label"):
        suspects_from([probability], [labels, labels])


def test_two_images_at_least(case):
    _, labels, _ = case
    with pytest.raises(ValueError, match="at least two images"):
        nms.find_suspects([labels], [labels])
    with pytest.raises(ValueError, match="1 images but 2 label"):
        nms.find_suspects([labels], [labels, labels])


def _discs_and_one_left_out():
    rng = np.random.default_rng(0)
    truth = np.zeros((8, 64, 64), np.uint8)
    for mask in truth:
        for centre in [(16, 16), (16, 48), (48, 16), (48, 48)]:
            mask[_disc(mask.shape, centre + rng.integers(-4, 5, 2), rng.integers(5, 9))] = 1
    images = 100 * truth + rng.normal(0, 10, truth.shape).astype(np.float32)
    labels = truth.copy()
    labels[3, :32, :32] = 0
    return list(images), list(labels)


def test_a_missed_object_comes_first():
    images, labels = _discs_and_one_left_out()
    job = nms.find_suspects(
        images, labels, epochs=12, channels=4, batch_size=4, seed=0, device="cpu"
    )
    table, regions = job.run(hidden=True)
    first = table.iloc[0]
    assert (first["image"], first["kind"], first["suggested"]) == (3, "missed object", 1)
    assert (regions[3][:32, :32] == 1).sum() > 40


def test_stopped_early_there_are_none():
    images, labels = _discs_and_one_left_out()
    job = nms.find_suspects(images, labels, epochs=50, channels=4, seed=0, device="cpu")
    for event in job:  # noqa: B007
        job.stop()
    assert event.value is None
    assert event.stopped
