import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage as ndi

import napari_metastructure as nms
from napari_metastructure.few_labels import robust
from napari_metastructure.few_labels.filters import filter_mask
from napari_metastructure.few_labels.mode import Mode
from napari_metastructure.few_labels.robust import Robust
from napari_metastructure.jobs.events import Done, Note, Progress, Round, Step
from napari_metastructure.labels.strokes import simulate_strokes
from napari_metastructure.learning.prediction import predict
from tests.few_labels.conftest import halos, relief

QUICK = {
    "channels": 4,
    "depth": 3,
    "epochs": 1,
    "patch_size": 32,
    "learning_rate": 0.02,
    "min_steps": 60,
    "device": "cpu",
}


pytestmark = pytest.mark.usefixtures("one_thread")


def _stack(planes=3, bright=True, side=64, seed=0):
    """Bright discs on a noisy background, and where they are."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    truth = np.zeros((planes, side, side), bool)
    for plane in truth:
        for cy, cx in rng.uniform(0, side, (4, 2)):
            plane |= (y - cy) ** 2 + (x - cx) ** 2 < 60
    image = 1000 + (400 if bright else -400) * truth + rng.normal(0, 60, truth.shape)
    return image.astype(np.uint16), truth


def _dice(mask, truth):
    return 2 * np.count_nonzero(mask & truth) / (mask.sum() + truth.sum())


def _end(*arguments, **params):
    *_, done = nms.segment(*arguments, **{**QUICK, **params})
    assert isinstance(done, Done)
    return done


@pytest.mark.parametrize("bright", [True, False])
def test_objects_are_found_upright_whatever_the_polarity(bright):
    stack, truth = _stack(bright=bright)
    done = _end(stack, seed=0)
    assert done.record["polarity"] == ("bright" if bright else "dark")
    assert _dice(done.masks[0] > 0, truth) > 0.9
    assert _dice(done.model.segment(stack) > 0, truth) > 0.9


def test_one_mask_and_probability_per_image_of_its_shape():
    stack, _ = _stack()
    images = [stack, stack[0, :40, :50], stack[None, :2].astype(float)]
    done = _end(images, seed=0)
    for image, mask, probability in zip(images, done.masks, done.probabilities):
        assert mask.shape == probability.shape == image.shape
        assert mask.dtype == np.uint8
        assert probability.dtype == np.float32
        assert set(np.unique(mask)) <= {0, 1}
        assert np.array_equal(mask, probability > done.model.threshold)


@pytest.mark.parametrize("mode", ["robust", "paper"])
def test_same_seed_same_result(mode):
    stack, _ = _stack()
    first, again, other = (
        _end(stack, mode=mode, seed=seed, **({"epochs": 2} if mode == "paper" else {}))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first.probabilities[0], again.probabilities[0])
    assert not np.array_equal(first.probabilities[0], other.probabilities[0])


def test_record_repeats_the_run():
    stack, _ = _stack()
    first = _end(stack)
    *_, again = nms.segment(stack, first.record["config"])
    assert np.array_equal(first.masks[0], again.masks[0])


def test_rounds_show_the_preview_plane():
    stack, _ = _stack()
    job = nms.segment(stack, seed=0, rounds=2, **QUICK)
    job.preview = stack[1]
    rounds = [event for event in job if isinstance(event, Round)]
    assert [event.round for event in rounds] in ([0, 1], [0, 1, 2])
    for event in rounds:
        assert np.array_equal(event.image, stack[1])
        assert event.probability.shape == event.candidate.shape == event.label.shape == (64, 64)
        assert 0 <= event.label_change <= 1


def test_settled_labels_end_the_run_early():
    stack, _ = _stack()
    done = _end(stack, seed=0, rounds=8)
    assert len(done.history["rounds"]) < 8
    assert done.history["rounds"][-1]["label_change"] < 0.01


def test_stop_gives_a_result_at_once():
    stack, _ = _stack()
    job, steps = nms.segment(stack, seed=0, **{**QUICK, "epochs": 10_000}), 0
    for event in job:
        steps += isinstance(event, Step)
        if steps == 3:
            job.stop()
    assert steps == 3
    assert event.stopped
    assert event.masks[0].shape == stack.shape


@pytest.mark.parametrize("mode", ["robust", "paper"])
def test_the_time_limit_ends_a_run_and_says_so_but_changes_none_of_its_steps(mode):
    stack, _ = _stack()
    params = {**QUICK, "epochs": 10_000, "mode": mode, "start": "otsu", "patch_size": 64}
    events = list(nms.segment(stack, seed=0, time_limit=1.5, **params))
    losses = [event.loss for event in events if isinstance(event, Step)]
    assert 0 < len(losses) < 10_000
    assert any("time limit of 1.5 s ended the training" in n for n in events[-1].record["notes"])
    assert any(isinstance(event, Note) and "time limit" in event.text for event in events)
    unlimited = nms.segment(stack, seed=0, time_limit=None, **params)
    steps = (event.loss for event in unlimited if isinstance(event, Step))
    assert losses == [next(steps) for _ in losses]


def test_paper_mode_has_the_published_defaults():
    config = nms.SegmentConfig(mode="paper")
    published = {
        "channels": 64,
        "epochs": 100,
        "batch_size": 32,
        "patch_size": 256,
        "learning_rate": 0.05,
        "loss": "dmi+iou",
        "start": "black",
        "ems": True,
        "shift": 1,
        "fraction": 0.1,
        "num_thresholds": 30,
    }
    assert {name: getattr(config, name) for name in published} == published
    assert nms.SegmentConfig(mode="paper", channels=8).channels == 8
    assert nms.SegmentConfig().channels < 64


def test_paper_mode_learns_labels_of_its_own():
    stack, _ = _stack(side=72)
    events = list(nms.segment(stack, mode="paper", seed=0, **{**QUICK, "epochs": 3}))
    rounds = [event for event in events if isinstance(event, Round)]
    assert [event.round for event in rounds] == [1, 2, 3]
    for event in rounds:
        assert event.label.sum() < event.candidate.sum() <= event.candidate.size / 2
    assert events[-1].masks[0].mean() <= 0.5


def test_a_users_labels_start_the_run():
    stack, truth = _stack()
    done = _end(stack, labels=truth.astype(np.uint8), start="labels", seed=0)
    assert _dice(done.masks[0] > 0, truth) > 0.9


@pytest.mark.parametrize("start", ["otsu", "local", "sato", "vote_membranes"])
def test_every_filter_can_start_the_run(start):
    stack, _ = _stack(planes=1)
    assert _end(stack, start=start, seed=0).record["start"] == [start]


@pytest.mark.parametrize("mode", ["robust", "paper"])
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((2, 32, 32), np.uint8),
        np.full((32, 32), 65535, np.uint16),
        np.ones((1, 1)),
    ],
    ids=["zero", "saturated", "one pixel"],
)
def test_nothing_is_found_where_nothing_is(mode, image):
    done = _end(image, mode=mode, seed=0)
    assert not done.masks[0].any()


@pytest.mark.parametrize("mode", ["robust", "paper"])
def test_images_smaller_than_the_stride(mode):
    image = np.zeros((5, 3))
    image[1:3, 1:] = 9
    assert _end(image, mode=mode, seed=0).masks[0].shape == (5, 3)


def test_planes_without_contrast_stay_empty():
    stack, truth = _stack()
    stack[1] = 0
    done = _end(stack, seed=0)
    assert done.masks[0][1].mean() < 0.02
    assert _dice(done.masks[0][::2] > 0, truth[::2]) > 0.9


@pytest.mark.parametrize(
    ("images", "params", "message"),
    [
        (np.full((8, 8), np.nan), {}, "NaN or infinity"),
        (np.array([[0, np.inf]]), {}, "NaN or infinity"),
        (np.ones(5), {}, "fewer than 2 axes"),
        (np.ones((0, 5)), {}, "no pixels"),
        ([], {}, "at least one image"),
        (np.ones((8, 8)), {"start": "labels"}, "needs labels"),
        (np.ones((8, 8)), {"labels": np.ones((8, 8), int)}, "labels are used only with"),
        (np.ones((8, 8)), {"start": "otsuu"}, "start should be"),
        (np.ones((8, 8)), {"time_limit": 0}, "time_limit should be"),
    ],
)
def test_what_is_wrong_is_named(images, params, message):
    with pytest.raises(ValueError, match=message):
        _end(images, **params)


def test_auto_start_is_recorded_with_its_confidence():
    stack, _ = _stack()
    record = _end(stack, seed=0).record
    assert record["start"] == [record["ranking"][0]["name"]]
    assert record["confidence"]["level"] == "high"
    assert record["confidence"]["reasons"] == []
    assert record["confidence"]["polarity"] > 0.3
    assert record["confidence"]["agreement"] > 0.5


def test_stained_structures_are_dark_even_where_they_cover_most():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64]
    gaps = (y % 32 - 16) ** 2 + (x % 32 - 16) ** 2 < 100  # in tissue: the longer tail is bright
    stain = ndi.gaussian_filter(1.0 - gaps, 1)[..., None] * (30, 150, 60)
    image = (240 - stain + rng.normal(0, 6, stain.shape)).clip(0, 255).astype(np.uint8)
    done = _end([image] * 2, channel_axis=-1, seed=0)
    assert done.record["polarity"] == "dark"
    assert "stain" in done.record["polarity_source"]
    grey = _end([image.mean(axis=-1)] * 2, seed=0)
    assert grey.record["polarity"] == "bright"
    assert "polarity_source" not in grey.record
    sections = np.moveaxis(image, -1, 0)  # of a volume: no colours
    deep = _end(sections, spatial_dims=3, batch_size=1, min_steps=2, seed=0)
    assert "polarity_source" not in deep.record


def _three(made):
    pairs = [made(seed=seed) for seed in range(3)]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def test_halos_are_known():
    images, truth = _three(halos)
    done = _end(images, seed=0)
    assert done.record["start"] == ["within_halos"]
    assert "bright rims of dark cores" in done.record["polarity_source"]
    assert "Dice times the gradient along" in done.record["threshold_source"]
    assert _dice(np.stack(done.masks) > 0, truth) > 0.85
    given = _end(images, seed=0, polarity="bright", min_steps=1)
    assert given.record["start"] != ["within_halos"]
    assert "polarity_source" not in given.record


def test_relief_is_known(monkeypatch):
    given, real = [], robust.outline_threshold

    def watched(*arguments, **options):
        given.append(options["edges"])
        return real(*arguments, **options)

    monkeypatch.setattr(robust, "outline_threshold", watched)
    images, truth = _three(relief)
    done = _end(images, seed=0)
    assert done.record["start"] == ["texture"]
    assert given == [0.1]  # its own edges lie inside of an object
    assert "tenth root of the gradient" in done.record["threshold_source"]
    assert "told by their texture" in done.record["confidence"]["reasons"][0]
    assert _dice(np.stack(done.masks) > 0, truth) > 0.85
    given = _end(images, seed=0, start="otsu", min_steps=1)
    assert "texture" not in given.record["confidence"]["reasons"][0]


def test_a_network_that_leaves_texture_is_not_the_result(monkeypatch):
    monkeypatch.setattr(robust, "outline_threshold", lambda *_, **__: 0.999)
    images, _ = _three(relief)
    done = _end(images, seed=0, min_steps=20)
    assert done.record["result_is_start"]
    starts = [filter_mask(image, "texture") for image in images]
    np.testing.assert_array_equal(done.masks[0], starts)


def test_unclear_polarity_is_said():
    rng = np.random.default_rng(0)
    stack = np.where(rng.random((3, 8, 8)) < 0.5, 900, 1000).repeat(8, 1).repeat(8, 2)
    stack = stack + rng.normal(0, 10, stack.shape)
    events = list(nms.segment(stack, seed=0, **QUICK))
    assert events[-1].record["confidence"]["level"] == "low"
    assert "bright or dark" in events[-1].record["confidence"]["reasons"][0]
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any(
        "These start masks disagree. Choose one below, or paint a few strokes" in n for n in notes
    )
    given = _end(stack, seed=0, polarity="bright").record
    assert not any("bright or dark" in reason for reason in given["confidence"]["reasons"])


@pytest.mark.parametrize("slow", ["ranking.Views.mask", "filters.filter_mask"])
def test_stop_does_not_wait_for_a_slow_filter(slow, monkeypatch, taking_long):
    monkeypatch.setattr(f"napari_metastructure.few_labels.{slow}", taking_long)
    stack, _ = _stack()
    start = "auto" if "Views" in slow else "otsu"
    taking_long.end_of(nms.segment(stack, seed=0, start=start, **QUICK))


@pytest.mark.parametrize("work", [nms.segment, partial(nms.train, epochs=1)])
def test_stop_does_not_wait_for_the_images_to_be_read(work, monkeypatch, taking_long):
    monkeypatch.setattr("napari_metastructure.learning.items.Items.of", taking_long)
    stack, truth = _stack()
    given = {} if work is nms.segment else {"labels": truth.astype(np.uint8)}
    last = taking_long.end_of(work(stack, device="cpu", **given))
    assert last.value is None


@pytest.mark.parametrize(
    ("slow", "params"),
    [
        ("ranking.Judge.ranking", {}),
        ("mode.extraction.extract", {"ems": True}),
        ("filters.filter_mask", {"mode": "paper", "start": "otsu"}),
        ("robust.Robust._compared", {}),
    ],
)
def test_stop_does_not_wait_for_what_is_done_with_masks(slow, params, monkeypatch, taking_long):
    monkeypatch.setattr(f"napari_metastructure.few_labels.{slow}", taking_long)
    stack, _ = _stack()
    done = taking_long.end_of(nms.segment(stack, seed=0, **{**QUICK, "min_steps": 5, **params}))
    assert done.masks[0].shape == stack.shape


def test_stop_does_not_wait_for_the_threshold_of_all_planes(monkeypatch, taking_long):
    def threshold(probabilities, *_, **__):
        return taking_long() if len(probabilities) > 4 else 0.25

    monkeypatch.setattr("napari_metastructure.few_labels.robust.outline_threshold", threshold)
    stack, _ = _stack(planes=6)
    done = taking_long.end_of(nms.segment(stack, seed=0, **{**QUICK, "min_steps": 5}))
    assert done.record["threshold"] == 0.25
    np.testing.assert_array_equal(done.masks[0], done.probabilities[0] > 0.25)


def test_the_published_mode_makes_the_first_label_of_a_plane_once(monkeypatch):
    made = []

    def counted(image, *arguments):
        made.append(image)
        return filter_mask(image, *arguments)

    monkeypatch.setattr("napari_metastructure.few_labels.filters.filter_mask", counted)
    stack, _ = _stack()
    _end(stack, seed=0, mode="paper", start="otsu")
    assert len(made) == len(stack)


def test_threshold_of_a_stopped_run_is_taken_on_a_few_parts():
    stack = np.random.default_rng(0).random((20, 600, 64))
    job = SimpleNamespace(stopping=False)
    mode = SimpleNamespace(job=job)
    whole, _ = Mode.for_threshold(mode, stack, stack)
    assert len(whole) == 20
    job.stopping = True
    parts, pictures = Mode.for_threshold(mode, stack, stack)
    assert [part.shape for part in parts] == [part.shape for part in pictures] == [(512, 64)] * 4


@pytest.mark.parametrize("activity", ["comparing start masks", "start labels", "predicting"])
def test_stopping_ends_the_work_at_hand(activity, monkeypatch):
    monkeypatch.setattr("napari_metastructure.few_labels.mode._SECONDS_AFTER_STOP", 0)
    stack, _ = _stack(planes=20)
    job, seen = nms.segment(stack, seed=0, **{**QUICK, "min_steps": 5}), []
    for event in job:
        if job.stopping:
            seen.append(event)
        elif isinstance(event, Progress) and event.activity == activity and event.done == 2:
            job.stop()
    assert sum(isinstance(event, Progress) for event in seen) == 0
    assert seen[-1].stopped
    assert "Stopped" in seen[-1].record["notes"][-1]
    assert seen[-1].masks[0].shape == stack.shape
    masks, probabilities = seen[-1].masks[0], seen[-1].probabilities[0]
    assert masks[0].any() == (activity != "comparing start masks")
    if activity == "predicting":  # the start stands for planes that were not predicted
        assert seen[-1].record["notes"][-1].endswith("; their masks are the start masks.")
        assert set(np.unique(probabilities[2:])) == {0, 1}
        np.testing.assert_array_equal(masks[2:], probabilities[2:])


def test_labels_of_a_round_stay_what_they_were():
    stack, _ = _stack()
    seen = []
    for event in nms.segment(stack, seed=0, start="otsu", **QUICK):
        if isinstance(event, Round):
            seen.append((event, event.label.copy()))
    assert len(seen) == 2
    assert (seen[0][1] != event.masks[0][0]).any()
    for shown, label in seen:
        np.testing.assert_array_equal(shown.label, label)


def test_the_time_after_a_stop_is_for_the_result_and_not_for_the_next_round(monkeypatch):
    predicting = Robust.predicting

    def slow(self, number):
        for _ in range(3):
            time.sleep(0.02)
            yield
        return (yield from predicting(self, number))

    monkeypatch.setattr(Robust, "predicting", slow)
    monkeypatch.setattr("napari_metastructure.few_labels.mode._SECONDS_AFTER_STOP", 0.2)
    stack, _ = _stack(planes=6)
    job = nms.segment(stack, seed=0, **{**QUICK, "rounds": 2, "min_steps": 5})
    for event in job:
        if isinstance(event, Progress) and event.activity == "refining the labels":
            job.stop()
    (note,) = (text for text in event.record["notes"] if text.startswith("Stopped"))
    assert "Stopped before 6" not in note


def test_a_threshold_is_that_of_the_planes_predicted_last(monkeypatch):
    monkeypatch.setattr("napari_metastructure.few_labels.mode._SECONDS_AFTER_STOP", 10)
    monkeypatch.setattr("napari_metastructure.few_labels.robust._SETTLED", -1)
    monkeypatch.setattr(
        "napari_metastructure.few_labels.robust.best_threshold",
        lambda *_: 0.7 if job.stopping else 0.1,
    )
    predicting = Robust.predicting

    def first_only(self, number):
        if self.job.stopping and number:
            self.grace._end = float("-inf")
            yield
        return (yield from predicting(self, number))

    monkeypatch.setattr(Robust, "predicting", first_only)
    stack, _ = _stack()
    job = nms.segment(stack, seed=0, **{**QUICK, "rounds": 2, "min_steps": 5, "ems": True})
    for event in job:
        if isinstance(event, Step) and event.step == event.total:
            job.stop()
    assert "Stopped before 2 of 3" in event.record["notes"][-1]
    assert event.record["threshold"] == 0.7


def test_extraction_of_meta_structure_changes_a_single_round():
    stack, truth = _stack()
    plain, sketched = (_end(stack, seed=0, ems=ems) for ems in (False, True))
    assert plain.history["loss"] != sketched.history["loss"]
    assert "DMI" in sketched.record["threshold_source"]
    assert _dice(sketched.masks[0] > 0, truth) > 0.5


def test_network_that_leaves_its_start_is_kept_where_it_fits_the_images_better():
    stack, _ = _stack()
    wrong = np.zeros(stack.shape, np.uint8)
    wrong[:, ::7, ::7] = 1  # no structure of the image
    done = _end(stack, labels=wrong, start="labels", seed=0, polarity="bright")
    judged = done.record.get("note", "")
    assert "fits the images better" in judged or _dice(done.masks[0], wrong) > 0.5


def test_without_time_to_learn_the_start_is_the_result():
    stack, truth = _stack()
    done = _end(stack, seed=0, time_limit=1e-6)
    assert "too little time" in done.record["note"]
    assert nms.metrics.evaluate(truth, done.masks[0])["dice"] > 0.7
    assert np.array_equal(done.probabilities[0] > 0.5, done.masks[0])


@pytest.mark.parametrize("options", [{}, {"mode": "paper"}, {"strokes": True}])
def test_the_network_is_compiled_if_that_is_asked_for(monkeypatch, options):
    stack, truth = _stack()
    if "strokes" in options:
        strokes = [simulate_strokes(plane, 4, 8, seed=0) for plane in truth.astype(int)]
        options = {"strokes": np.stack(strokes)}
    compiled = []
    monkeypatch.setattr("torch.compile", lambda network, **_: compiled.append(network) or network)
    _end(stack, seed=0, compile=True, **{**options, "min_steps": 2})
    assert compiled
    compiled.clear()
    _end(stack, seed=0, **{**options, "min_steps": 2})
    assert not compiled


# ----------------------------------------------------------------- larger than memory


def lazy(images):
    zarr = pytest.importorskip("zarr")
    chunks = (1, 32, 32)
    return zarr.create_array(zarr.storage.MemoryStore(), data=images, chunks=chunks)


@pytest.mark.parametrize("mode", ["robust", "paper"])
def test_large_images_are_trained_on_in_part_and_written_as_they_come(
    blobs, one_thread, monkeypatch, mode
):
    images, masks = blobs(count=12, size=64)
    monkeypatch.setattr("napari_metastructure.few_labels.segment._MOST_TRAINED", 4 * 64 * 64)
    out = np.full(images.shape, 7, np.uint8)
    params = {"channels": 4, "depth": 3, "epochs": 2, "seed": 0, "mode": mode, "min_steps": 30}
    images[5] = 900  # constant: nothing to find
    *_, done = nms.segment(lazy(images), out=out, patch_size=64, polarity="bright", **params)
    assert done.masks[0] is out
    assert done.probabilities is None
    assert set(np.unique(out)) <= {0, 1}
    assert not out[5].any()
    assert done.record["images"] == [[12, 64, 64], 12]
    if mode == "robust":
        found = done.model.predict(images[[2, 9]]) > done.model.threshold
        np.testing.assert_array_equal(out[[2, 9]], found)
        overlap = 2 * np.count_nonzero(out & masks) / (out.sum() + masks.sum())
        assert overlap > 0.6


def test_large_images_without_out_are_refused_in_one_sentence(blobs, monkeypatch):
    images, _ = blobs(count=3, size=64)
    monkeypatch.setattr("napari_metastructure.few_labels.segment._MOST_IN_MEMORY", 1000)
    with pytest.raises(ValueError, match="too many for masks in memory; give out="):
        list(nms.segment(lazy(images)))
    with pytest.raises(ValueError, match="one array per image, of the shapes"):
        list(nms.segment(images, out=np.zeros((3, 64, 63), np.uint8)))


def test_stopped_run_leaves_a_partial_file(blobs, tmp_path):
    pytest.importorskip("zarr")
    from napari_metastructure.files.ome_zarr import create_image, open_image

    images, _ = blobs(count=4, size=64)
    out = create_image(tmp_path / "masks.ome.zarr", images.shape, np.uint8)
    job = nms.segment(images, out=out, channels=4, depth=3, epochs=1, min_steps=1, patch_size=64)
    for event in job:
        if isinstance(event, Progress) and event.activity == "predicting" and event.done == 1:
            job.stop()
    assert event.stopped
    assert not open_image(tmp_path / "masks.ome.zarr", missing="fill").complete


def test_an_empty_start_is_said():
    stack, _ = _stack()
    done = _end(stack, start="black", seed=0)
    assert not done.masks[0].any()
    assert "start mask is empty" in done.record["note"]


def test_published_mode_without_a_step_of_training_gives_empty_masks_and_says_so():
    stack, _ = _stack()
    paper = {"mode": "paper", "epochs": 2, "patch_size": 64, "time_limit": 1e-6, "seed": 0}
    done = _end(stack, **paper)
    assert not done.masks[0].any()
    assert "no step of training" in done.record["note"]
    out = np.ones(stack.shape, np.uint8)
    _end(stack, out=out, **paper)
    assert not out.any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_model_of_the_published_mode_predicts_upright(seed):
    stack, _ = _stack()
    done = _end(stack, mode="paper", epochs=2, patch_size=64, start="otsu", seed=seed)
    again = done.model.predict(stack)
    np.testing.assert_array_equal(again, done.probabilities[0])
    assert (done.model.segment(stack) == done.masks[0]).mean() > 0.7  # planes have thresholds


def test_a_model_whose_result_was_its_start_says_so_when_it_is_applied():
    stack, truth = _stack()
    wrong = np.roll(truth, 20, axis=2).astype(np.uint8)
    done = _end(stack, labels=wrong, start="labels", time_limit=1e-6, seed=0)
    np.testing.assert_array_equal(done.masks[0], wrong)
    notes = [event.text for event in predict(done.model, stack) if isinstance(event, Note)]
    assert any("start mask, which was the result" in note for note in notes)
    assert _end(stack, seed=0).model.caution is None
