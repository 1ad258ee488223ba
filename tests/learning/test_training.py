import gc
import json
import signal
import threading
import time
import weakref
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import torch

import napari_metastructure as nms
from napari_metastructure import NoiseSpec, corrupt, train
from napari_metastructure.jobs.events import Done, Note, Preview, Progress, Step, Validated
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels.metrics import Tally, evaluate
from napari_metastructure.labels.noise import specs
from napari_metastructure.learning import losses
from napari_metastructure.learning.threshold import known_matrix, uncorrected

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "channels": 4,
    "depth": 3,
    "patch_size": 32,
    "learning_rate": 0.01,
    "min_steps": 1,
    "augmentation": 0,  # it pays in longer trainings
    "device": "cpu",
    "seed": 0,
}
TINY = {**SMALL, "epochs": 2}


@pytest.fixture(scope="module")
def task(blobs):
    """Images, masks, and others to test on."""
    return (*blobs(16, seed=0), *blobs(4, seed=1))


def last(job):
    """The job's last event, and all."""
    events = list(job)
    assert isinstance(events[-1], Done)
    return events[-1], events


def test_dice(done, test_images, test_masks):
    return evaluate(test_masks, done.model.segment(test_images))["dice"]


test_dice.__test__ = False  # a score, not a test


def one_sentence(error):
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


# ----------------------------------------------------------------- what is learnt


def test_learns_clean_labels(task):
    images, masks, test_images, test_masks = task
    done, events = last(train(images, masks, epochs=12, **SMALL))
    assert test_dice(done, test_images, test_masks) > 0.9
    losses = done.history["loss"]
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:6])
    assert done.model.threshold_source == "edges of the images and the labels"
    steps = [e for e in events if isinstance(e, Step)]
    assert [e.step for e in steps] == list(range(1, 73))  # 13 of 16 images, 4 x 4 patches, 8 a step
    assert [e.epoch for e in steps] == np.repeat(np.arange(1, 13), 6).tolist()
    assert {e.total for e in steps} == {72}
    validated = [e for e in events if isinstance(e, Validated)]
    assert [e.step for e in validated] == list(range(6, 73, 6))
    kept = [e for e in validated if e.best][-1]
    assert kept.auc == max(e.auc for e in validated) == done.record["validation"]["auc"]
    assert kept.dice > 0.9


@pytest.mark.parametrize(
    ("kind", "amount", "epochs", "expected"),
    [
        ("flip", {"ratio": 0.45}, 25, 0.8),
        ("sample", {"fraction": 0.1}, 12, 0.88),
        ("flip", {"ratio": 0.8}, 12, 0.88),
        ("transition", {"matrix": ((0.2, 0.8), (0.7, 0.3))}, 25, 0.8),
    ],
)
def test_known_noise_is_corrected_in_the_loss(task, kind, amount, epochs, expected):
    """Probabilities are those of the true labels, so that about one half divides them."""
    images, masks, test_images, test_masks = task
    spec = NoiseSpec(kind=kind, seed=1, **amount)
    done, _ = last(train(images, corrupt(masks, spec), epochs=epochs, noise=spec, **SMALL))
    model = done.model
    assert test_dice(done, test_images, test_masks) > expected
    assert 0.35 < model.threshold < 0.65
    assert f"noise corrected in training ({spec.summary()})" in model.threshold_source
    assert not model.inverted
    assert model.transition is None
    assert done.record["threshold_source"] == model.threshold_source
    assert done.record["noise"] == [spec.model_dump(mode="json")]
    assert done.record["validation"]["auc"] > 0.52  # of the noisy labels


def test_noise_given_as_a_matrix(task):
    images, masks, *_ = task
    spec = NoiseSpec(kind="flip", ratio=0.3, seed=1)
    noisy = corrupt(masks, spec)
    matrix = [[0.7, 0.3], [0.3, 0.7]]
    stated, _ = last(train(images, noisy, noise=spec, **TINY))
    for given in (matrix, np.array(matrix), tuple(map(tuple, matrix))):
        done, _ = last(train(images, noisy, noise=given, **TINY))
        assert same_weights(done.model, stated.model)
        np.testing.assert_allclose(done.record["noise_matrix"], matrix)


def test_matrix_of_other_classes_is_refused(task):
    images, masks, *_ = task
    with pytest.raises(ValueError, match="has 3 rows, but the labels hold 2") as error:
        list(train(images, masks, noise=np.eye(3), **TINY))
    one_sentence(error)


@pytest.mark.parametrize("ratio", [0.3, 0.8])
def test_clean_validation_labels_set_threshold_and_polarity(task, ratio):
    images, masks, test_images, test_masks = task
    noisy = corrupt(masks, "flip", ratio=ratio, seed=1)
    done, _ = last(train(images, noisy, epochs=12, validation_labels=masks, **SMALL))
    model = done.model
    assert test_dice(done, test_images, test_masks) > 0.88
    assert model.threshold_source == "best Dice on the clean validation labels"
    assert model.inverted == (ratio > 0.5)
    assert done.record["validated_on"] == "clean labels"
    assert done.record["validation"]["auc"] > 0.9  # of the model as it is, turned or not
    best = evaluate(masks[13:], model.predict(images[13:]))  # the held-back fifth
    assert model.threshold == pytest.approx(best["threshold"], abs=5e-3)


def test_edges_set_the_threshold_where_nothing_else_is_known(task):
    images, masks, test_images, test_masks = task
    noisy = corrupt(masks, "sample", fraction=0.3, seed=1)
    done, _ = last(train(images, noisy, epochs=12, **SMALL))
    model = done.model
    assert model.threshold_source.startswith("edges of the images and the labels")
    assert model.threshold_source.endswith("corrected for the estimated noise")
    assert model.threshold < 0.3
    assert test_dice(done, test_images, test_masks) > 0.88
    assert done.record["validated_on"] == "validation labels"


@pytest.mark.parametrize(("kind", "side"), [("erode", "inside"), ("dilate", "outside")])
def test_outlines_off_the_edges_are_told_and_mended(task, kind, side):
    images, masks, test_images, test_masks = task
    done, events = last(train(images, corrupt(masks, kind, radius=2), epochs=12, **SMALL))
    text = next(e.text for e in events if isinstance(e, Note) and "outlines" in e.text)
    assert f"{side} the edges in the images" in text
    assert text in done.record["notes"]
    assert (done.record["outline_displacement"] > 0) == (side == "inside")
    half = evaluate(test_masks, done.model.predict(test_images) > 0.5)["dice"]
    assert test_dice(done, test_images, test_masks) > max(0.8, half + 0.05)


def test_noise_without_a_matrix_is_recorded_only(task):
    images, masks, *_ = task
    spec = NoiseSpec(kind="dilate", radius=1)
    done, _ = last(train(images, corrupt(masks, spec), noise=spec, **TINY))
    assert done.model.transition is None
    assert done.model.threshold_source == "edges of the images and the labels"
    assert done.record["noise"][0]["kind"] == "dilate"


@pytest.mark.parametrize("loss", ["dice", "bce+dice"])
def test_overlap_losses_do_not_trust_the_matrix(task, loss):
    """They do not yield the probabilities of the labels; the polarity holds for them too."""
    images, masks, *_ = task
    spec = NoiseSpec(kind="flip", ratio=0.7, seed=1)
    done, _ = last(train(images, corrupt(masks, spec), noise=spec, **{**TINY, "loss": loss}))
    assert done.model.inverted
    assert done.model.threshold_source == "edges of the images and the labels"
    assert any("can be corrected only with the loss" in text for text in done.record["notes"])


@pytest.mark.parametrize(
    ("noise", "classes", "said"),
    [
        ({"kind": "flip", "ratio": 0.4, "num_classes": 5}, [0, 1], "is made for 5 classes, not"),
        ({"kind": "flip", "ratio": 0.5}, [0, 1], "leaves nothing in the labels"),
        ({"kind": "flip", "ratio": 0.8}, [0, 1, 2, 3, 4], "leaves nothing in the labels"),
        ({"kind": "sample", "fraction": 0}, [0, 1], "leaves nothing in the labels"),
        ({"kind": "random"}, [0, 1], "leaves nothing in the labels"),
        ({"kind": "sample", "classes": (7,)}, [0, 1], "of class 7, which the training labels do"),
        ({"kind": "sample", "classes": (255,)}, [0, 255], None),
        ({"kind": "flip", "ratio": 0.4}, [0, 1], None),
        ([{"kind": "dilate"}, {"kind": "flip", "ratio": 0.2}], [0, 1], None),
        (None, [0, 1], None),
    ],
)
def test_noise_that_is_not_corrected_is_told(noise, classes, said):
    stated = [] if noise is None else specs(noise)
    found = uncorrected(stated, classes, known_matrix(stated, classes), "bce")
    assert said is None if found is None else said in found


def test_noise_that_is_not_corrected_is_told_before_the_first_step(task):
    images, masks, *_ = task
    done, events = last(train(images, masks, noise={"kind": "random"}, **TINY))
    note = next(event for event in events if isinstance(event, Note))
    assert "leaves nothing in the labels" in note.text
    assert events.index(note) < next(k for k, e in enumerate(events) if isinstance(e, Step))
    assert done.record["notes"][0] == note.text


def test_noise_of_another_type_is_refused(task):
    images, masks, *_ = task
    with pytest.raises(TypeError, match=r"a sequence of these, not 3\.") as error:
        train(images, masks, noise=3, **TINY)
    one_sentence(error)


def test_noise_of_one_class_of_a_0_255_mask(task):
    """Classes of the spec are label values; the matrix has rows."""
    images, masks, *_ = task
    spec = NoiseSpec(kind="flip", ratio=0.6, classes=(255,), num_classes=None, seed=1)
    noisy = corrupt(255 * masks, spec)
    done, _ = last(train(images, noisy, noise=spec, **TINY))
    np.testing.assert_allclose(done.record["noise_matrix"], [[1, 0], [0.6, 0.4]])
    assert 0.3 < done.model.threshold < 0.7
    assert done.model.classes == [0, 255]
    assert set(np.unique(done.model.segment(images[:1]))) <= {0, 255}


@pytest.mark.parametrize(("values", "ratio"), [((0, 1, 2), 0), ((0, 3, 200), 0.9)])
def test_several_classes(task, values, ratio):
    """Left and right objects are told apart by their brightness; flipping by 90 % inverts."""
    images, masks, test_images, test_masks = task

    def two_kinds(images, masks):
        images, masks = images.astype(np.int32), masks.copy()
        right = np.arange(64) >= 32
        images[..., right] -= 2 * (images[..., right] - 1000)
        masks[..., right] *= 2
        return images, masks

    images, masks = two_kinds(images, masks)
    test_images, test_masks = two_kinds(test_images, test_masks)
    values = np.array(values, np.uint8)
    labels, noise = values[masks], None
    if ratio:
        noise = NoiseSpec(kind="flip", ratio=ratio, seed=1)
        labels = corrupt(labels, noise)
    epochs = 25 if ratio else 8
    options = {
        **SMALL,
        "channels": 8,
        "epochs": epochs,
        "seed": 1,
    }  # from seed 0 one kind is missed
    done, events = last(train(images, labels, noise=noise, **options))
    model = done.model
    assert model.predict(test_images).shape == (3, *test_images.shape)
    scores = evaluate(values[test_masks], model.segment(test_images))
    assert min(score["dice"] for score in scores["per_class"].values()) > (0.75 if ratio else 0.85)
    known = ", noise corrected in training (flip 90 % (seed 1))" if ratio else ""
    assert model.threshold_source == f"none: the most probable class{known}"
    assert [e for e in events if isinstance(e, Validated)][-1].auc > (0.52 if ratio else 0.95)


@pytest.mark.parametrize(
    ("kind", "amount", "epochs"),
    [("skeletonize", {}, 12), ("sample", {"fraction": 0.1}, 25), ("erode", {"radius": 1}, 25)],
)
def test_untold_errors_of_several_classes(task, kind, amount, epochs):
    """Both kinds are bright, the right ones brighter. The most probable class alone gives 0, 0 and
    0.81: nothing is as probable as the background where few of the pixels are labelled.
    """
    images, masks, test_images, test_masks = task
    right = np.arange(64) >= 32

    def two_kinds(images, masks):
        return images + 400 * (right & (masks > 0)), np.where(right, 2 * masks, masks)

    images, masks = two_kinds(images, masks)
    test_images, test_masks = two_kinds(test_images, test_masks)
    labels = corrupt(masks.astype(np.uint8), kind, seed=1, **amount)
    options = {**SMALL, "channels": 8, "epochs": epochs, "seed": 1}
    model = last(train(images, labels, **options))[0].model
    scores = evaluate(test_masks, model.segment(test_images))
    assert min(score["dice"] for score in scores["per_class"].values()) > 0.83
    assert model.threshold_source.endswith("by the edges of the images and the labels")


def test_volumes(task):
    images, masks, *_ = task
    job = train(images, masks, **{**TINY, "spatial_dims": 3, "patch_size": 16, "epochs": 1})
    done, _ = last(job)
    assert done.model.predict(images[:5]).shape == (5, 64, 64)
    assert done.record["image_shape"] == [16, 51, 64]  # the end of the longest axis is held back


# ----------------------------------------------------------------- what goes in


def same_weights(*models):
    first, *others = [model.network.state_dict() for model in models]
    return all(torch.equal(first[name], other[name]) for other in others for name in first)


def test_one_seed_one_result(task):
    images, masks, *_ = task
    torch.manual_seed(1)
    first, _ = last(train(images, masks, **TINY))
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    second, _ = last(train(images, masks, **TINY))
    other, _ = last(train(images, masks, **{**TINY, "seed": 1}))
    assert first.history == second.history
    assert same_weights(first.model, second.model)
    assert not same_weights(first.model, other.model)
    assert first.model.threshold == second.model.threshold


def test_a_drawn_seed_is_recorded_and_repeats_the_run(task):
    images, masks, *_ = task
    first, _ = last(train(images, masks, **{**TINY, "seed": None}))
    second, _ = last(train(images, masks, first.record["config"]))
    assert same_weights(first.model, second.model)


def test_kinds_of_arrays_give_the_same(task):
    images, masks, *_ = task
    chunked = [da.from_array(array, (3, 64, 40)) for array in (images, masks)]
    once = {**TINY, "epochs": 1}
    runs = [
        train(images, masks, **once),
        train(list(images), list(masks), **once),
        train(*chunked, **once),
        train(images.astype(np.float32), masks.astype(bool), once),
        train(images, masks.astype(np.int64), nms.TrainingConfig(**{**once, "seed": 5}), seed=0),
    ]
    assert same_weights(*[last(run)[0].model for run in runs])


def test_pixels_left_out_do_not_count(task):
    """Whatever the image shows there, and by either name."""
    images, masks, *_ = task
    weights = []
    for hole, ignore_label in ((-1, None), (9, 9)):
        labels = masks.astype(int)
        labels[:, 20:40] = hole
        done, _ = last(train(images, labels, ignore_label=ignore_label, **TINY))
        assert done.model.classes == [0, 1]
        weights.append(done.model)
    assert same_weights(*weights)


def test_validation_images_of_their_own(task):
    images, masks, test_images, test_masks = task
    job = train(
        images, masks, validation_images=test_images, validation_labels=255 * test_masks, **TINY
    )
    done, _ = last(job)
    assert (done.record["images"], done.record["held_back"]) == (16, 4)
    assert done.record["validation"]["dice"] > 0.5
    best = evaluate(test_masks, done.model.predict(test_images))
    assert done.record["validation"]["auc"] == pytest.approx(best["auc"], abs=1e-3)


def test_one_small_image(task):
    """Its end is held back, normalised as the rest is."""
    images, masks, *_ = task
    done, _ = last(train(images[0], masks[0], **TINY))
    assert done.record["image_shape"] == [51, 64]
    assert done.record["validation"] is not None


def test_nothing_to_validate_on_keeps_the_last_weights(task):
    """The held-back planes hold no object."""
    images, masks, *_ = task
    labels = masks.astype(int)
    labels[13:] = 0
    job = train(images, labels, **TINY)
    done, events = last(job)
    validated = [e for e in events if isinstance(e, Validated)]
    assert all(e.best and np.isnan(e.auc) for e in validated)
    assert done.record["validation"] is None
    assert done.record["validated_on"] is None
    whole, _ = last(train(images[:13], masks[:13], validation_fraction=0, **TINY))
    assert same_weights(done.model, whole.model)
    assert 0 < done.model.threshold < 1


@pytest.mark.parametrize(
    ("clean", "inverted", "scores", "kept"),
    [
        (
            False,
            False,
            (0.1, 0.6, 0.7),
            2,
        ),  # upside down is wrong where the labels are those learnt
        (False, True, (0.9, 0.4, 0.3), 2),  # the model's output is inverted, its labels are not
        (True, False, (0.1, 0.6, 0.7), 0),  # only clean labels can tell, so either way will do
        (True, True, (0.1, 0.6, 0.7), 2),  # the noise is known to invert, and is undone
    ],
)
def test_which_weights_are_kept(task, monkeypatch, clean, inverted, scores, kept):
    """`scores`: area under the curve of the model's output after each epoch."""
    images, masks, *_ = task
    tallies = [tally_with(score) for score in scores]

    def next_tally(self):
        yield from ()
        return [tallies.pop(0)], None

    monkeypatch.setattr("napari_metastructure.learning.validation.Validation._tallies", next_tally)
    options = {**TINY, "epochs": 3, "early_stopping": False}
    options |= {"validation_labels": masks} if clean else {}
    noise = NoiseSpec(kind="flip", ratio=0.8) if inverted else None
    done, events = last(train(images, masks, noise=noise, **options))
    assert [e.epoch - 1 for e in events if isinstance(e, Validated) and e.best][-1] == kept
    assert done.record["validation"] is not None


def tally_with(auc, pixels=1000):
    """A tally of two values, where a share `auc` of the pixels lies on the right one."""
    truth = np.arange(2 * pixels) < pixels
    right = np.arange(2 * pixels) % pixels < auc * pixels
    tally = Tally()
    tally.add(truth, np.where(truth == right, 0.75, 0.25))
    return tally


# ----------------------------------------------------------------- while it runs


def test_stop_ends_soon_with_the_best_weights(task):
    images, masks, *_ = task
    job = train(images, masks, **{**TINY, "epochs": 1000})
    stopped_at, events = None, []
    for event in job:
        events.append(event)
        if isinstance(event, Step) and event.step == 20:
            job.stop()
            stopped_at = time.perf_counter()
    assert time.perf_counter() - stopped_at < 5  # the whole training takes minutes
    done = events[-1]
    assert done.stopped
    assert done.record["steps"] == 20
    scores = [e for e in events if isinstance(e, Validated)]
    assert done.record["validation"]["auc"] == max(e.auc for e in scores)
    assert not any(isinstance(e, Step) for e in events[events.index(scores[-1]) + 4 :])
    assert evaluate(masks[13:], done.model.predict(images[13:]))["auc"] == pytest.approx(
        max(e.auc for e in scores), abs=1e-3
    )


@pytest.mark.parametrize("where", ["training", "looking for the threshold"])
def test_threshold_of_a_stopped_training_is_taken_on_small_parts(where):
    masks = np.zeros((6, 512, 512), np.uint8)
    masks[:, 400:440, 60:120] = 1
    images = masks + np.random.default_rng(0).normal(0, 0.3, masks.shape)
    job, seen = train(images, masks, **{**TINY, "epochs": 1, "min_steps": 12}), []
    for event in job:
        seen.append(event)
        here = getattr(event, "activity", "training") == where
        if here and (where != "training" or isinstance(event, Step)):
            job.stop()
    assert event.stopped
    assert "on a few small parts only, as the training was stopped" in event.model.threshold_source
    looked = [e for e in seen if getattr(e, "activity", "") == "looking for the threshold"]
    assert len(looked) == (where != "training")


def test_stop_while_validating(task):
    images, masks, *_ = task
    job = train(images, masks, **{**TINY, "epochs": 1000})
    for event in job:
        if isinstance(event, Progress) and event.activity == "validating":
            job.stop()
    assert event.stopped
    assert event.record["steps"] == 6
    assert event.record["validation"] is None
    assert not event.model.network.training


def test_previews_of_the_plane_that_is_asked_for(task, monkeypatch):
    images, masks, *_ = task
    monkeypatch.setattr("napari_metastructure.learning.previews._SECONDS_BETWEEN_PREVIEWS", 0)
    no_time = SimpleNamespace(perf_counter=lambda: 0.0)  # else slow previews are rare
    monkeypatch.setattr("napari_metastructure.learning.previews.time", no_time)
    job = train(images, masks, **TINY)
    seen = []
    for event in job:
        if isinstance(event, Step):
            job.preview = {3: images[2], 9: images[5]}.get(event.step, job.preview)
        if isinstance(event, Preview):
            seen.append(event)
    assert {id(event.image) for event in seen} == {id(job.preview), id(seen[0].image)}
    np.testing.assert_array_equal(seen[0].image, images[2])
    np.testing.assert_array_equal(seen[-1].image, images[5])
    assert all(event.probability.shape == (64, 64) for event in seen)
    plain, _ = last(train(images, masks, **TINY))
    assert same_weights(event.model, plain.model)


@pytest.mark.parametrize("end", ["close", "drop", "finish", "fail"])
def test_memory_is_freed(task, end, monkeypatch):
    images, masks, *_ = task
    freed = []
    monkeypatch.setattr("napari_metastructure.learning.training.release_memory", freed.append)
    networks = []
    build = nms.SegmentationModel.__init__

    def watch(self, *arguments, **options):
        build(self, *arguments, **options)
        networks.append(weakref.ref(self.network))

    monkeypatch.setattr(nms.SegmentationModel, "__init__", watch)
    job = train(images, masks, **TINY)
    gc.collect()
    gc.disable()
    try:
        for event in job:
            if isinstance(event, Step) and end != "finish":
                break
        if end == "close":
            job.close()
            assert list(job) == []
        elif end == "fail":
            with pytest.raises(RuntimeError, match="boom"):
                job._events.throw(RuntimeError("boom"))
        del event
        if end == "drop":
            del job
        assert freed == [torch.device("cpu")]
        gc.collect()
        assert networks[0]() is None
    finally:
        gc.enable()


def test_finished_model_holds_no_gradients(task):
    images, masks, *_ = task
    done, _ = last(train(images, masks, **TINY))
    assert all(p.grad is None for p in done.model.network.parameters())
    assert not done.model.network.training


def test_a_few_small_images_are_trained_on_for_the_fewest_steps(task):
    images, masks, *_ = task
    params = {**SMALL, "epochs": 3, "min_steps": 20}
    done, events = last(train(images[:1], masks[:1], **params))
    assert done.record["steps"] == 21
    assert [e.epoch for e in events if isinstance(e, Validated)] == [1, 2, 3]


def test_record_is_plain_json(task):
    images, masks, *_ = task
    spec = NoiseSpec(kind="transition", matrix=np.full((2, 2), 0.5), seed=(1, 2))
    done, _ = last(train(images, masks, noise=[spec, "flip"], **TINY))
    record = json.loads(json.dumps(done.record, allow_nan=False))
    assert record == done.record
    assert record["operation"] == "train"
    assert record["config"]["channels"] == 4
    assert record["config"]["seed"] == 0
    assert record["steps"] == 12
    assert record["device"] == "cpu"
    assert record["versions"]["torch"] == torch.__version__


def test_trained_model_survives_saving(task, tmp_path):
    images, masks, *_ = task
    done, _ = last(train(images, masks, noise="flip", **TINY))
    done.model.save(tmp_path / "model.safetensors")
    loaded = nms.load_model(tmp_path / "model.safetensors", "cpu")
    assert loaded.record == done.record
    assert loaded.threshold_source == done.model.threshold_source
    np.testing.assert_array_equal(loaded.segment(images[:2]), done.model.segment(images[:2]))


# ----------------------------------------------------------------- fit


def test_fit_shows_a_bar_and_returns_the_end(task, capfd):
    images, masks, *_ = task
    done = train(images, masks, **TINY).run()
    assert isinstance(done, Done)
    assert "12/12" in capfd.readouterr().err
    expected, _ = last(train(images, masks, **TINY))
    assert same_weights(done.model, expected.model)


def test_ctrl_c_ends_fit_with_the_best_weights(task):
    images, masks, *_ = task
    before = signal.getsignal(signal.SIGINT)
    timer = threading.Timer(1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    started = time.perf_counter()
    done = train(images, masks, **{**TINY, "epochs": 5000}).run()
    assert time.perf_counter() - started < 20
    assert done.stopped
    assert done.history["loss"]
    assert signal.getsignal(signal.SIGINT) is before


def test_second_ctrl_c_interrupts_at_once():
    def work(job):
        yield Progress("slow", 0, 1)
        signal.raise_signal(signal.SIGINT)
        assert job.stopping
        signal.raise_signal(signal.SIGINT)
        yield Done(None)

    from napari_metastructure.jobs.progress import run_to_end

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            run_to_end(Job(work))
    finally:
        signal.signal(signal.SIGINT, usual)


def test_fit_in_a_thread(task):
    images, masks, *_ = task
    results = []
    thread = threading.Thread(target=lambda: results.append(train(images, masks, **TINY).run()))
    thread.start()
    thread.join()
    assert isinstance(results[0], Done)


# ----------------------------------------------------------------- what does not fit


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"epoch": 3}, "there is no parameter 'epoch' .*epochs"),
        ({"epochs": 0}, "epochs should be greater than or equal to 1, not 0"),
        ({"patch_size": 100}, "patch_size should be a multiple of 16, not 100"),
        ({"patch_size": 16, "depth": 5}, "patch_size should be a multiple of 32 for 5 levels"),
        ({"channels": 1}, "channels should be greater than or equal to 2"),
        ({"depth": 2}, "depth should be greater than or equal to 3"),
        ({"network": "vnet"}, "network should be unet, "),
        ({"loss": "mse"}, "loss should be 'bce'"),
        ({"learning_rate": float("nan")}, "learning_rate should be a finite number"),
        ({"device": "gpu"}, "There is no device 'gpu'"),
        ({"device": "cuda:77"}, "This machine has no device 'cuda:77'"),
        ({"noise": "blur"}, "kind should be"),
    ],
)
def test_bad_parameters_are_refused_at_once(task, params, message):
    with pytest.raises(ValueError, match=message) as error:
        train(task[0], task[1], **params)
    one_sentence(error)


def change(array, value):
    """A copy with one value put in."""
    array = array.astype(float if isinstance(value, float) else int)
    array[0, 3, 3] = value
    return array


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda i, m: (i, m / 2), TypeError, "must be integers.* 0.5 is among them"),
        (lambda i, m: (i, m[:, :50]), ValueError, r"labels have \(16, 50, 64\)"),
        (lambda i, m: (i, m[0]), ValueError, r"labels have \(64, 64\)"),
        (lambda i, m: (list(i), list(m[:3])), ValueError, "16 images but 3 label arrays"),
        (lambda i, m: ([], []), ValueError, "Give at least one image"),
        (lambda i, m: (i * np.nan, m), ValueError, "only NaN or infinity"),
        (
            lambda i, m: (np.where(np.arange(16)[:, None, None] == 4, np.nan, i), m),
            ValueError,
            "Plane 5 of 16 of the images holds only NaN",
        ),
        (lambda i, m: (i.astype(complex), m), TypeError, "complex"),
        (lambda i, m: (i, 0 * m), ValueError, "hold no object, only background"),
        (lambda i, m: (i, 0 * m + 1), ValueError, "objects on every pixel that counts"),
        (lambda i, m: (0 * i + 7, m), ValueError, "All pixels of the training images are equal"),
        (
            lambda i, m: (i, 0 * m.astype(int) - 1),
            ValueError,
            "All pixels of the labels are ignored",
        ),
        (lambda i, m: (i, change(m, -5)), ValueError, "must not be negative"),
        (
            lambda i, m: (i, np.arange(m.size).reshape(m.shape) // 100),
            ValueError,
            "different values, which look like numbered objects",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_bad_data_is_refused_with_one_sentence(task, make, error, message):
    images, labels = make(*task[:2])
    with pytest.raises(error, match=message) as caught:
        list(train(images, labels, **TINY))
    one_sentence(caught)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda i, m: {"validation_images": i}, "need labels; give validation_labels, too"),
        (lambda i, m: {"validation_labels": m[:3]}, "they should be the same"),
        (
            lambda i, m: {"validation_images": i[:2], "validation_labels": m[:3]},
            "they should be the same",
        ),
        (lambda i, m: {"validation_labels": 7 * m}, "The validation labels hold 7, which"),
        (
            lambda i, m: {"validation_labels": m, "validation_fraction": 0},
            "clean labels would not be looked at, as nothing is held back",
        ),
    ],
)
def test_bad_validation_data_is_refused_with_one_sentence(task, make, message):
    images, masks, *_ = task
    masks = masks.copy()
    masks[:, :10] *= 2
    with pytest.raises(ValueError, match=message) as caught:
        list(train(images, masks, **make(images, masks), **TINY))
    one_sentence(caught)


@pytest.mark.parametrize("loaded", [np.asarray, da.from_array])
def test_a_constant_image_is_refused_though_others_validate(task, loaded):
    images, masks, *_ = task
    others = {"validation_images": images, "validation_labels": masks}
    with pytest.raises(ValueError, match="All pixels of the training images are equal"):
        list(train(loaded(0 * images), masks, **others, **TINY))


def test_objects_that_are_all_held_back_are_told_from_none(task):
    images, masks, *_ = task
    masks = masks.copy()
    masks[:-3] = 0
    with pytest.raises(ValueError, match="All objects lie in the part of the labels") as caught:
        list(train(images, masks, **TINY))
    assert "validation_fraction to 0" in one_sentence(caught)


def test_clean_labels_without_objects_are_told(task):
    images, masks, *_ = task
    done, _ = last(train(images, masks, validation_labels=0 * masks, **TINY))
    assert any(
        "clean validation labels hold only a single class" in n for n in done.record["notes"]
    )
    assert done.record["validated_on"] is None


def test_a_loss_that_is_not_finite_ends_the_training(task, monkeypatch):
    images, masks, *_ = task
    monkeypatch.setitem(losses.LOSSES, "bce", lambda logits, target: logits.sum() * float("nan"))
    with pytest.raises(FloatingPointError, match="no longer finite; lower the learning rate"):
        list(train(images, masks, **TINY))


def test_a_loss_that_is_not_finite_any_more_ends_with_the_best_weights(task, monkeypatch):
    images, masks, *_ = task
    usual, calls = losses.bce, []

    def failing(logits, target):
        calls.append(1)
        return usual(logits, target) * (float("nan") if len(calls) > 15 else 1)

    monkeypatch.setitem(losses.LOSSES, "bce", failing)
    done, events = last(train(images, masks, **{**TINY, "epochs": 9}))
    assert done.record["steps"] == 15
    assert done.record["notes"] == [e.text for e in events if isinstance(e, Note)]
    assert "no longer finite; lower the learning rate" in done.record["notes"][0]
    assert all(torch.isfinite(value).all() for value in done.model.network.state_dict().values())
    assert done.record["validation"]["auc"] > 0.5


def test_two_networks_in_two_threads_are_those_of_one(task):
    images, masks, *_ = task
    expected, _ = last(train(images, masks, **TINY))
    found = [None, None]

    def run(number):
        *_, found[number] = train(images, masks, **TINY)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same_weights(done.model, expected.model) for done in found)


def test_close_from_another_thread(task):
    images, masks, *_ = task
    job, events = train(images, masks, **{**TINY, "epochs": 10_000}), []
    thread = threading.Thread(target=lambda: events.extend(job))
    thread.start()
    while not any(isinstance(event, Step) for event in events):
        time.sleep(0.01)
    job.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert not any(isinstance(event, Done) for event in events)


# ----------------------------------------------------------------- from a model


def test_goes_on_from_a_model(task):
    images, masks, *_ = task
    first, _ = last(train(images, masks, epochs=12, **SMALL))
    before = {name: v.clone() for name, v in first.model.network.state_dict().items()}
    options = {**TINY, "epochs": 1, "learning_rate": 1e-4, "channels": 8}
    done, _ = last(train(images, masks, model=first.model, **options))
    assert done.model.architecture == first.model.architecture  # the model's network counts
    assert done.record["validation"]["dice"] > 0.9  # after 6 steps
    assert done.record["started_from"] == first.record
    after = first.model.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    three = masks.astype(int) * (1 + (np.arange(64) >= 32))
    other, _ = last(train(images, three, model=first.model, **options))
    assert other.model.predict(images[:1]).shape[0] == 3


def test_goes_on_from_a_file(task, tmp_path):
    images, masks, *_ = task
    first, _ = last(train(images, masks, **TINY))
    first.model.save(tmp_path / "first.safetensors")
    one, other = (
        last(train(images, masks, model=start, **TINY))[0]
        for start in (first.model, tmp_path / "first.safetensors")
    )
    assert one.history["loss"] == other.history["loss"]
    assert other.record["started_from"]["steps"] == first.record["steps"]


def test_a_model_of_other_dimensions_is_refused(task):
    images, masks, *_ = task
    first, _ = last(train(images, masks, **{**TINY, "epochs": 1}))
    with pytest.raises(ValueError, match="is for 2-D images, not for 3-D") as error:
        train(images, masks, model=first.model, **{**TINY, "spatial_dims": 3})
    one_sentence(error)


def test_a_packaged_model_of_others_is_refused(task):
    images, masks, *_ = task
    first, _ = last(train(images, masks, **{**TINY, "epochs": 1}))
    del first.model.architecture["network"]
    with pytest.raises(ValueError, match="trained with this plugin") as error:
        train(images, masks, model=first.model, **TINY)
    one_sentence(error)


def test_a_model_of_other_channels_is_refused(task):
    images, masks, *_ = task
    first, _ = last(train(images, masks, **{**TINY, "epochs": 1}))
    two = np.stack([images, images], axis=-1)
    with pytest.raises(ValueError, match="images of 1 channel, but these have 2") as error:
        list(train(two, masks, model=first.model, channel_axis=-1, **TINY))
    one_sentence(error)


def test_what_is_no_model_is_refused(task):
    images, masks, *_ = task
    with pytest.raises(TypeError, match="can start from a SegmentationModel or its file") as error:
        train(images, masks, model=3, **TINY)
    one_sentence(error)


def test_mirror_averaging_is_kept_with_the_model(task):
    images, masks, *_ = task
    done, _ = last(train(images, masks, mirror_averaging=True, **{**TINY, "epochs": 1}))
    image = images[0]
    mirrored = done.model.predict(image[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(done.model.predict(image), mirrored, atol=1e-5)


# ----------------------------------------------------------------- how long it lasts


def test_lasts_until_the_score_stops_rising_by_default(task):
    images, masks, test_images, test_masks = task
    options = {name: value for name, value in SMALL.items() if name != "min_steps"}
    done, events = last(train(images, masks, **options))
    steps = [event for event in events if isinstance(event, Step)]
    assert 400 < len(steps) == steps[-1].total < 3000
    assert done.record["ended"] == "the validation score has stopped rising"
    assert test_dice(done, test_images, test_masks) > 0.93
    again, _ = last(train(images, masks, epochs="auto", **options))
    assert same_weights(done.model, again.model)


def test_length_by_default_where_nothing_is_held_back(task):
    images, masks, *_ = task
    options = {**SMALL, "validation_fraction": 0, "patch_size": 16, "batch_size": 1}
    job = train(images[:1, :32, :32], masks[:1, :32, :32], **options)
    assert next(event for event in job if isinstance(event, Step)).total == pytest.approx(
        600, abs=1
    )


def test_the_time_limit_holds_where_nothing_is_held_back(task):
    images, masks, *_ = task
    options = {**SMALL, "validation_fraction": 0, "time_limit": 1e-9}
    done, _ = last(train(images, masks, **options))
    assert done.record["steps"] == 2
    assert done.record["ended"] == "time limit of 1e-09 s"


# ----------------------------------------------------------------- early stopping


def test_stops_when_the_noise_is_learnt_by_heart(blobs):
    images, masks = blobs(1, seed=0, size=32)
    spec = NoiseSpec(kind="flip", ratio=0.4, seed=0)
    options = {**SMALL, "channels": 16, "epochs": 60, "batch_size": 1, "validation_fraction": 0}
    noisy = corrupt(masks, spec)
    done, _ = last(train(images, noisy, noise=spec, **options))
    entropy = -(0.4 * np.log(0.4) + 0.6 * np.log(0.6))
    assert done.record["stopped_early"]
    assert done.record["steps"] < 60
    assert done.history["loss"][-1] < entropy
    assert all(loss >= entropy for loss in done.history["loss"][:-1])
    whole, _ = last(train(images, noisy, noise=spec, early_stopping=False, **options))
    assert whole.record["steps"] == 60
    assert not whole.record["stopped_early"]
    unknown, _ = last(train(images, noisy, **options))
    assert unknown.record["steps"] == 60


def test_strokes_say_nothing_of_the_pixels_between(task):
    from napari_metastructure.labels.strokes import simulate_strokes

    images, masks, test_images, test_masks = task
    strokes = np.stack([simulate_strokes(m, 5, 8, seed=k) for k, m in enumerate(masks)])
    done, _ = last(train(images, strokes, unannotated=True, epochs=12, **SMALL))
    assert done.model.classes == [0, 1]
    assert test_dice(done, test_images, test_masks) > 0.8
    lazy, _ = last(train(images, da.from_array(strokes), unannotated=True, epochs=12, **SMALL))
    assert same_weights(done.model, lazy.model)
