"""A few strokes in, masks out: the classifier teaches the network."""

import numpy as np
import pytest

import napari_metastructure as nms
from napari_metastructure.few_labels.filters import filter_mask
from napari_metastructure.few_labels.taught import Taught, compare_on_strokes
from napari_metastructure.jobs.events import Step
from napari_metastructure.jobs.generators import run_out
from napari_metastructure.labels import stroke_parts
from napari_metastructure.labels.metrics import evaluate
from napari_metastructure.labels.stroke_parts import stroke_numbers
from napari_metastructure.labels.strokes import simulate_strokes
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.learning.patches import PatchSampler
from napari_metastructure.learning.stroke_classifier import StrokeClassifier

SMALL = {"channels": 4, "depth": 3, "patch_size": 32, "batch_size": 4, "seed": 0, "device": "cpu"}
QUICK = {**SMALL, "epochs": 1, "min_steps": 4}


@pytest.fixture
def taught(blobs, one_thread):
    images, masks = blobs(4)
    strokes = np.zeros_like(masks)
    for plane in (1, 2):
        strokes[plane] = simulate_strokes(masks[plane], 8, 8, seed=0)
    return images, masks, strokes


@pytest.fixture
def learnt(monkeypatch):
    """The labels that networks learn from are put into this list."""
    found = []

    class Kept(PatchSampler):
        def __init__(self, items, *arguments, **options):
            found.append(items.labels)
            super().__init__(items, *arguments, **options)

    monkeypatch.setattr("napari_metastructure.few_labels.taught.PatchSampler", Kept)
    return found


def dice(reference, mask):
    return evaluate(reference, mask)["dice"]


def segment(*arguments, **params):
    return nms.segment(*arguments, **params).run(hidden=True)


def test_masks_hold_the_strokes_value_minus_1(taught):
    images, masks, strokes = taught
    done = segment(images, strokes=strokes, min_steps=40, **SMALL)
    assert done.masks[0].shape == images.shape
    assert done.masks[0].dtype == np.uint8
    assert set(np.unique(done.masks[0])) == {0, 1}
    assert done.probabilities[0].shape == images.shape
    assert dice(masks[3], done.masks[0][3]) > 0.8


def test_the_network_learns_strokes_as_they_are_where_the_classifier_errs(
    taught, learnt, monkeypatch
):
    def all_background(self, image, **options):
        whole = tuple(slice(0, side) for side in image.shape)
        yield whole, np.stack([np.ones(image.shape, np.float32), np.zeros(image.shape)])

    monkeypatch.setattr(StrokeClassifier, "predicting_plane", all_background)
    images, _, strokes = taught
    segment(images, strokes=strokes, **QUICK)
    for stroke, label in zip(strokes, learnt[-1]):  # of the second course, on all strokes
        np.testing.assert_array_equal(label[stroke > 0], stroke[stroke > 0] - 1)
        assert not (label[stroke == 0] > 0).any()


def test_the_label_is_left_open_where_the_start_mask_differs(taught, learnt):
    images, _, strokes = taught
    record = segment(images, strokes=strokes, **QUICK).record
    opinion = record["second_opinion"]
    assert opinion["used"]
    assert opinion["start"] >= 0.8 * opinion["classifier"] > 0
    labels = np.stack(learnt[-1])
    start = np.stack([filter_mask(image, opinion["name"], record["polarity"]) for image in images])
    known = (labels >= 0) & (strokes == 0)
    np.testing.assert_array_equal(labels[known], start[known])
    assert 0 < (labels == -1).mean() < 0.2


def test_a_start_mask_that_contradicts_the_strokes_has_no_say(taught, learnt, monkeypatch):
    monkeypatch.setattr(Taught, "start_label", lambda self, name, k: np.zeros((40, 40), np.uint8))
    images, _, strokes = taught
    record = segment(images[:, :40, :40], strokes=strokes[:, :40, :40], **QUICK).record
    assert not record["second_opinion"]["used"]
    assert not any((label < 0).any() for labels in learnt for label in labels)


@pytest.mark.parametrize("is_open", [True, False])
def test_what_counts_in_the_threshold_of_the_network(taught, monkeypatch, is_open):
    """The edges in full where labels were left open, else the share that the strokes tell."""
    rules = []

    def kept(*arguments, **rule):
        rules.append(rule)
        return 0.5

    as_good = 0.8 if is_open else 2
    monkeypatch.setattr("napari_metastructure.few_labels.second_opinion._AS_GOOD", as_good)
    monkeypatch.setattr("napari_metastructure.few_labels.taught.outline_threshold", kept)
    images, _, strokes = taught
    record = segment(images, strokes=strokes, min_steps=40, **SMALL).record
    share = record["object_share"]
    assert 0.1 < share < 0.95
    expected = {"edges": 1.0} if is_open else {"edges": 0.1, "share": share}
    assert rules
    assert all(rule == expected for rule in rules)


def test_three_classes_have_no_second_opinion(taught):
    images, _, strokes = taught
    three = np.where((strokes == 2) & (np.arange(strokes.shape[-1]) > 20), 3, strokes)
    assert "second_opinion" not in segment(images, strokes=three, **QUICK).record


@pytest.mark.parametrize(
    ("owner", "slow"),
    [(StrokeClassifier, "fit"), (StrokeClassifier, "predict_plane"), (Taught, "start_label")],
)
def test_stop_does_not_wait_for_labels(taught, owner, slow, monkeypatch, taking_long):
    monkeypatch.setattr(owner, slow, taking_long)
    images, _, strokes = taught
    done = taking_long.end_of(nms.segment(images, strokes=strokes, **QUICK))
    assert done.masks[0].shape == images.shape


def test_the_record_says_which_result_it_is_and_why(taught):
    images, _, strokes = taught
    record = segment(images, strokes=strokes, min_steps=40, **SMALL).record
    held_out = record["held_out"]
    assert held_out["difference"] <= held_out["needed"]
    assert record["result"] == "network"
    assert 0 < held_out["pixels"] < record["classifier"]["pixels"]
    assert 0 <= record["classifier"]["oob_error"] < 0.5


def test_an_untrained_network_loses_to_the_classifier(taught):
    images, masks, strokes = taught
    done = segment(images, strokes=strokes, **{**QUICK, "min_steps": 1, "batch_size": 64})
    assert done.record["result"] == "classifier"
    assert dice(masks[3], done.masks[0][3]) > 0.8


@pytest.mark.parametrize("different", [False, True])
def test_planes_that_differ_from_those_with_strokes_are_told(taught, different):
    images, _, strokes = taught
    images = images.astype(np.float32)
    if different:  # without contrast, and so less certain
        images[[0, 3]] = np.random.default_rng(0).normal(1000, 50, images[:2].shape)
    done = segment(images, strokes=strokes, **QUICK)
    found = done.record["uncertainty"]
    assert (found["other_planes"] > 2 * found["planes_with_strokes"]) == different
    told = [
        note for note in done.record.get("notes", []) if "without strokes look different" in note
    ]
    assert bool(told) == different


@pytest.mark.parametrize("different", [False, True])
def test_where_planes_differ_each_gets_a_threshold_of_its_own(
    taught, learnt, monkeypatch, different
):
    images, masks, strokes = taught
    images[3] = np.random.default_rng(0).normal(1000, 150, (64, 64))  # there are no objects

    def predict_plane(self, image, *, key):  # less certain of the objects of the first plane
        objects, rest = (0.3, 0.05) if different and key in (0, 3) else (0.99, 0.01)
        p = np.where(masks[key] > 0, objects, rest).astype(np.float32)
        return np.stack([1 - p, p])

    monkeypatch.setattr(StrokeClassifier, "predict_plane", predict_plane)
    monkeypatch.setattr("napari_metastructure.few_labels.second_opinion._AS_GOOD", 2)  # never
    one = np.where(np.arange(4)[:, None, None] == 1, strokes, 0)  # on a single plane
    record = segment(images, strokes=one, **QUICK).record
    assert ("label_threshold" in record) is different
    assert all(dice(masks[k], learnt[0][k]) > 0.95 for k in range(3))
    assert learnt[0][3].any() is np.bool(not different)
    record = segment(images, strokes=strokes, **QUICK).record  # tell what holds on other planes
    assert "label_threshold" not in record
    assert dice(masks[0], learnt[-1][0]) < 0.9 or not different


def test_few_strokes_are_not_held_out(taught):
    images, masks, _ = taught
    strokes = np.zeros_like(masks)
    strokes[1] = simulate_strokes(masks[1], 1, 12, seed=0)
    record = segment(images, strokes=strokes, min_steps=40, **SMALL).record
    assert record["result"] == "network"
    assert "too few to compare" in record["held_out"]


@pytest.mark.parametrize("third", [False, True])
def test_a_network_that_contradicts_the_strokes_is_not_the_result(taught, third):
    images, masks, _ = taught
    images, strokes = images.astype(np.float32), np.zeros_like(masks)
    strokes[1] = simulate_strokes(masks[1], 5, 12, seed=0)
    if third:
        images[:, :, :32] += 3000
        strokes[1, :, :32][strokes[1, :, :32] == 1] = 3
    *events, done = nms.segment(images, strokes=strokes, **QUICK)  # four steps: all is one class
    assert any("contradicts the strokes" in getattr(event, "text", "") for event in events)
    assert done.record["result"] == "classifier"
    assert "contradicts the strokes" in done.record["note"]
    assert dice(masks[3], (done.masks[0][3] == 1).astype(np.uint8)) > 0.6


def test_a_run_without_a_seed_can_be_repeated_by_that_of_its_record(taught):
    images, _, strokes = taught
    first = segment(images, strokes=strokes, **{**QUICK, "seed": None})
    seed = first.record["config"]["seed"]
    second = segment(images, strokes=strokes, **{**QUICK, "seed": seed})
    np.testing.assert_array_equal(first.probabilities[0], second.probabilities[0])
    assert first.record["classifier"] == second.record["classifier"]


def test_the_same_seed_gives_the_same_result(taught):
    images, _, strokes = taught
    first, second = (segment(images, strokes=strokes, **QUICK) for _ in range(2))
    np.testing.assert_array_equal(first.probabilities[0], second.probabilities[0])


def test_three_classes(taught):
    images, masks, _ = taught
    images = images.astype(np.float32)
    third = np.zeros_like(masks)
    third[:, 20:44, 20:44] = 1
    images += 2000.0 * third
    truth = np.where(third, 2, masks)
    strokes = np.zeros_like(masks)
    strokes[1] = simulate_strokes(truth[1], 8, 12, seed=0)
    done = segment(images, strokes=strokes, min_steps=40, **SMALL)
    assert done.probabilities[0].shape == (3, *images.shape)
    assert done.model.classes == [0, 1, 2]
    assert dice(third[3], (done.masks[0][3] == 2).astype(np.uint8)) > 0.8
    assert done.record["classifier"]["settings"]["class_weights"] is not None


@pytest.mark.parametrize("held_out", [True, False])
def test_classes_are_weighed_in_the_labels_and_in_the_result_of_the_classifier(
    taught, learnt, held_out
):
    images, masks, _ = taught
    truth = np.where((masks == 1) & (np.arange(masks.shape[-1]) > 20), 2, masks)
    strokes = np.zeros_like(masks)
    strokes[1] = simulate_strokes(truth[1], 10 if held_out else 4, 8, seed=0)
    done = segment(images, strokes=strokes, **{**QUICK, "min_steps": 1, "batch_size": 64})
    assert done.record["result"] == "classifier"
    weights = np.array(done.record["classifier"]["settings"]["class_weights"])
    assert weights[0] > max(weights[1:])
    np.testing.assert_allclose(done.probabilities[0], done.model.predict(images), atol=1e-4)
    np.testing.assert_array_equal(done.masks[0], done.probabilities[0].argmax(0))
    done.model.classifier.class_weights = None
    even = done.model.predict(images).argmax(0)
    assert (even == 0).sum() < (done.masks[0] == 0).sum()
    assert all((label == 0).sum() > (plane == 0).sum() for label, plane in zip(learnt[0], even))


def test_class_numbers_with_a_gap(taught):
    images, masks, strokes = taught
    done = segment(images, strokes=np.where(strokes == 2, 4, strokes), min_steps=40, **SMALL)
    assert set(np.unique(done.masks[0])) == {0, 3}
    assert dice(masks[3], (done.masks[0][3] == 3).astype(np.uint8)) > 0.8


def test_volumes(taught):
    images, masks, _ = taught
    images, masks = (np.repeat(part[:2], 8, axis=0) for part in (images, masks))
    strokes = np.zeros_like(masks)
    strokes[4] = simulate_strokes(masks[4], 8, 12, seed=0)
    done = segment(
        images, strokes=strokes, spatial_dims=3, anisotropy=2, **{**QUICK, "batch_size": 1}
    )
    assert done.masks[0].shape == images.shape


def test_colours(taught):
    _, masks, strokes = taught
    rng = np.random.default_rng(0)
    red = 100 * masks + rng.normal(0, 20, masks.shape)
    colours = np.stack([red, 100 - red], -1).astype(np.float32)
    done = segment(colours, strokes=strokes, channel_axis=-1, min_steps=40, **SMALL)
    assert done.masks[0].shape == masks.shape
    assert dice(masks[3], done.masks[0][3]) > 0.8


def test_more_strokes_go_on_from_the_network(taught):
    images, _, strokes = taught
    first = segment(images, strokes=strokes, min_steps=40, **SMALL)
    second = nms.segment(images, strokes=strokes, model=first.model, min_steps=40, **SMALL)
    losses = second.run(hidden=True).history["loss"]
    assert np.mean(losses[:3]) < np.mean(first.history["loss"][:3]) - 0.1
    assert len(losses) < len(first.history["loss"])


def test_a_model_of_other_classes_starts_anew_and_says_so(taught):
    images, _, strokes = taught
    first = segment(images, strokes=strokes, **QUICK)
    strokes[1][:2] = 3
    done = segment(images, strokes=strokes, model=first.model, **QUICK)
    assert any("trained from the beginning" in note for note in done.record["notes"])
    assert done.model.classes == [0, 1, 2]


def test_a_network_that_hardly_learnt_is_not_gone_on_with(taught):
    images, _, strokes = taught
    first = _stopped_at(nms.segment(images, strokes=strokes, min_steps=60, **SMALL), 0.1)
    done = segment(images, strokes=strokes, model=first.model, **QUICK)
    assert any("too little time" in note for note in done.record["notes"])
    fresh = segment(images, strokes=strokes, **QUICK)
    assert done.record["steps"] == fresh.record["steps"]
    np.testing.assert_array_equal(done.probabilities[0], fresh.probabilities[0])


def test_the_classifier_is_saved_with_the_model(taught, tmp_path):
    images, _, strokes = taught
    done = segment(images, strokes=strokes, **QUICK)
    done.model.save(tmp_path / "model.safetensors")
    model = nms.load_model(tmp_path / "model.safetensors")
    settings = model.record["classifier"]["settings"]
    arrays = {name.removeprefix("classifier."): a for name, a in model.attached.items()}
    loaded = StrokeClassifier.from_state(settings, arrays)
    again = StrokeClassifier(seed=0).fit(images, strokes)
    np.testing.assert_array_equal(loaded.predict(images[0]), again.predict(images[0]))


BY_CLASSIFIER = {**QUICK, "time_limit": 1e-6}  # an untrained network loses


@pytest.mark.parametrize("values", [(1, 2), (1, 4), (1, 2, 3)])
def test_a_saved_model_predicts_as_the_classifier_whose_result_it_is(taught, values, tmp_path):
    images, _, strokes = taught
    colours = np.stack([images, images[:, ::-1]], axis=1)
    strokes = np.where(strokes == 2, values[1], strokes)
    if len(values) == 3:
        colours[:, 0, :, :32] += 2000
        strokes[:, :, :32][strokes[:, :, :32] == 1] = 3
    done = segment(colours, strokes=strokes, channel_axis=1, **BY_CLASSIFIER)
    assert done.record["result"] == "classifier"
    done.model.save(tmp_path / "model.safetensors")
    model = nms.load_model(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(model.predict(colours), done.probabilities[0])
    np.testing.assert_array_equal(model.segment(colours), done.masks[0])


def test_a_region_predicted_by_the_classifier_equals_the_whole(blobs, one_thread):
    images, masks = blobs(1, size=300)
    strokes = simulate_strokes(masks[0], 8, 8, seed=0)
    model = segment(images[0], strokes=strokes, **BY_CLASSIFIER).model
    assert model.by_classifier
    whole, region = model.predict(images[0]), np.zeros((300, 300), bool)
    region[100:140, 250:290] = True
    np.testing.assert_array_equal(
        model.predict(images[0], region=region), np.where(region, whole, 0)
    )


def test_missing_and_hot_pixels_do_not_spread_when_the_classifier_predicts(taught):
    images, masks, strokes = taught
    model = segment(images, strokes=strokes, **BY_CLASSIFIER).model
    assert model.by_classifier
    spoilt = images[3].astype(np.float32)
    spoilt[5, 5], spoilt[50, 50] = np.nan, 1e9
    assert dice(masks[3], model.segment(spoilt)) > 0.8


def test_masks_written_elsewhere(taught):
    images, _, strokes = taught
    out = np.zeros(images.shape, np.uint8)
    done = segment(images, strokes=strokes, out=out, **QUICK)
    assert done.masks[0] is out
    assert out.any()


def test_of_large_sets_images_without_strokes_are_learnt_from_too(taught):
    images, _, strokes = taught
    every = Items.of(images, strokes)
    for planes, expected in ((1, [1]), (2, [1, 2]), (3, [0, 1, 2]), (9, [0, 1, 2, 3])):
        taken = every.in_memory(planes * 64 * 64, unlabelled=True)
        for number, image in zip(expected, taken.images, strict=True):
            np.testing.assert_array_equal(image, images[number])
    assert len(every.in_memory(9 * 64 * 64)) == 2  # those with a label


def test_the_time_limit_is_told(taught):
    images, _, strokes = taught
    done = segment(images, strokes=strokes, time_limit=1e-6, **QUICK)
    assert any("time limit" in note for note in done.record["notes"])


def test_without_time_to_learn_the_classifier_is_the_result(taught):
    images, masks, _ = taught
    strokes = np.zeros_like(masks)
    strokes[1] = simulate_strokes(masks[1], 5, 12, seed=0)  # too few to hold some out
    done = segment(images, strokes=strokes, time_limit=1e-6, **QUICK)
    assert done.record["result"] == "classifier"
    assert "too little time" in done.record["note"]
    assert dice(masks[3], done.masks[0][3]) > 0.8


def _stopped(job, activity, count):
    """The end of a job that is stopped when it says for the last of some times what it does."""
    for event in job:
        count -= getattr(event, "activity", None) == activity and event.done == 0
        if count == 0:
            job.stop()
    return event


def test_stopped_before_anything_is_learnt_the_masks_are_empty(taught):
    images, _, strokes = taught
    done = _stopped(nms.segment(images, strokes=strokes, **QUICK), "learning the strokes", 1)
    assert not done.masks[0].any()
    assert "stopped before anything was learnt" in done.record["note"]


@pytest.mark.parametrize("classes", [2, 3])
def test_stopped_run_decides_only_planes_that_were_predicted(taught, classes, monkeypatch):
    images, _, strokes = taught
    if classes == 3:
        strokes = np.where((strokes == 2) & (np.arange(strokes.shape[-1]) > 20), 3, strokes)
    job, decided, cut = nms.segment(images, strokes=strokes, min_steps=40, **SMALL), [], Taught._cut

    def counted(self, probabilities, threshold=None):
        decided.extend([probabilities] * (job.stopping and probabilities.ndim >= classes))
        return cut(self, probabilities, threshold)

    monkeypatch.setattr("napari_metastructure.few_labels.mode._SECONDS_AFTER_STOP", -1)
    monkeypatch.setattr(Taught, "_cut", counted)
    for event in job:
        if isinstance(event, Step) and event.step == event.total:
            job.stop()
    assert event.stopped
    assert not decided
    assert not event.masks[0].any()
    assert event.record["notes"][-1].endswith("; their masks are empty.")


def test_only_painted_planes_are_searched_for_strokes(taught, monkeypatch):
    searched, numbered = [], stroke_parts._numbered

    def counted(mask):
        searched.append(mask)
        return numbered(mask)

    monkeypatch.setattr(stroke_parts, "_numbered", counted)
    _, _, strokes = taught
    kept, held_out = stroke_parts.hold_out(list(strokes), 0.25, 4, 0)
    assert len(searched) == 4  # two planes, two classes
    np.testing.assert_array_equal(np.add(kept, held_out), strokes)


@pytest.mark.parametrize("slow", ["taught.hold_out", "segment.pack_strokes"])
def test_stop_does_not_wait_for_strokes_to_be_read(taught, slow, monkeypatch, taking_long):
    monkeypatch.setattr(f"napari_metastructure.few_labels.{slow}", taking_long)
    images, _, strokes = taught
    assert taking_long.end_of(nms.segment(images, strokes=strokes, **QUICK)).stopped


def test_stopped_while_all_strokes_are_learnt_the_first_classifier_is_the_result(
    taught, monkeypatch
):
    monkeypatch.setattr("napari_metastructure.few_labels.mode._SECONDS_AFTER_STOP", 60)
    images, masks, strokes = taught
    job, fits = nms.segment(images, strokes=strokes, **BY_CLASSIFIER), []
    fit = StrokeClassifier.fit

    def counted(*arguments, **options):
        fits.append(1)
        if len(fits) == 2:
            job.stop()
        return fit(*arguments, **options)

    monkeypatch.setattr(StrokeClassifier, "fit", counted)
    done = job.run(hidden=True)
    assert done.stopped
    assert done.record["result"] == "classifier"
    assert dice(masks[3], done.masks[0][3]) > 0.8


def _stopped_at(job, share):
    """The end of a job that is stopped after this share of its steps."""
    for event in job:
        if isinstance(event, Step) and event.step >= share * event.total:
            job.stop()
    return event


def test_stopped_before_the_network_has_learnt_the_whole_classifier_is_the_result(taught):
    images, masks, strokes = taught
    done = _stopped_at(nms.segment(images, strokes=strokes, min_steps=60, **SMALL), 0.1)
    assert done.record["result"] == "classifier"
    assert "too little time" in done.record["note"]
    assert all(dice(mask, found) > 0.8 for mask, found in zip(masks, done.masks[0]))


@pytest.mark.parametrize("better", ["network", "classifier"])
def test_stopped_later_the_result_is_the_better_one(taught, monkeypatch, better):
    images, masks, strokes = taught
    monkeypatch.setattr("napari_metastructure.few_labels.taught._SECONDS_TO_JUDGE", 60)
    monkeypatch.setattr("napari_metastructure.few_labels.mode._SECONDS_AFTER_STOP", 60)
    if better == "classifier":
        monkeypatch.setattr("napari_metastructure.few_labels.taught._MARGIN_OF_ONE", -1)
        monkeypatch.setattr("napari_metastructure.few_labels.taught._MARGIN", -1)
        monkeypatch.setattr(SegmentationModel, "predicting_plane", _inverted)
    done = _stopped_at(nms.segment(images, strokes=strokes, min_steps=60, **SMALL), 0.5)
    assert done.stopped
    assert done.record["steps"] < 60  # of the first of two courses
    assert done.record["held_out"]["pixels"]
    assert done.record["result"] == better
    assert dice(masks[3], done.masks[0][3]) > 0.8


def _inverted(self, image):
    """Stands for the prediction of a network that is always wrong."""
    yield
    return 1 - (image > 1200).astype(np.float32)


def test_stopped_without_time_to_compare_it_is_told(taught, monkeypatch):
    images, _, strokes = taught
    monkeypatch.setattr("napari_metastructure.few_labels.taught._SECONDS_TO_JUDGE", -1)
    done = _stopped_at(nms.segment(images, strokes=strokes, min_steps=60, **SMALL), 0.5)
    assert done.record["result"] == "network"
    assert "stopped before the network and the classifier" in done.record["held_out"]


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (lambda s: np.zeros_like(s), {}, "no strokes yet"),
        (lambda s: np.minimum(s, 1), {}, "at least one stroke on objects"),
        (lambda s: np.where(s == 1, 0, s), {}, "at least one stroke on background"),
        (lambda s: s, {"mode": "paper"}, "mode='robust'"),
        (lambda s: s, {"labels": np.zeros((4, 64, 64), int)}, "not both"),
        (lambda s: s, {"ems": True}, "no use for ems; leave it out"),
        (lambda s: s, {"rounds": 2, "start": "otsu"}, "no use for start, rounds; leave them out"),
        (lambda s: s, {"polarity": "dark"}, "polarity"),
        (lambda s: s, {"loss": "dmi"}, "loss"),
    ],
)
def test_bad_input_is_told_in_a_sentence(taught, change, options, reason):
    with pytest.raises(ValueError, match=reason):
        nms.segment(taught[0], strokes=change(taught[2]), **options)


def test_defaults_are_not_refused_though_they_mean_nothing_with_strokes(taught):
    stated = nms.SegmentConfig().model_dump()  # as records and forms do
    assert {"rounds", "loss", "start"} < set(stated)
    nms.segment(taught[0], strokes=taught[2], config=stated)


def test_strokes_of_another_shape(taught):
    images, _, strokes = taught
    with pytest.raises(ValueError, match=r"strokes of image 0 have shape \(4, 50, 64\)"):
        nms.segment(images, strokes=strokes[:, :50], **QUICK)
    with pytest.raises(ValueError, match="without its channels"):
        nms.segment(images[..., None], strokes=strokes[:, :50], channel_axis=-1, **QUICK)
    with pytest.raises(ValueError, match="2 images but 1 arrays of strokes"):
        nms.segment([images, images], strokes=strokes, **QUICK)


def test_few_strokes_need_a_clear_difference_to_choose_the_classifier():
    truth = np.repeat([0, 1] * 8, 10)
    strokes = np.repeat(np.arange(16), 10)
    good, bad = truth * 1.0, truth * 1.0
    bad[(strokes == 1)] = -1  # the network misses one stroke
    one = run_out(compare_on_strokes(truth, strokes, bad, good, [0, 1]))
    assert 0 < one["difference"] < one["needed"]
    bad[truth == 1] = -1
    every = run_out(compare_on_strokes(truth, strokes, bad, good, [0, 1]))
    assert every["difference"] > every["needed"]
    assert every["strokes"] == 16


def test_strokes_are_numbered_one_by_one():
    stroke = np.zeros((9, 9), int)
    stroke[0, :3] = 1
    stroke[1, 3] = 1  # a corner away
    stroke[5, :3] = 1
    stroke[5, 3:6] = 2
    counts = np.bincount(stroke_numbers([stroke, stroke]))
    assert counts.tolist() == [0, 4, 3, 3, 4, 3, 3]
