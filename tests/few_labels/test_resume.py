"""Segmentations whose training goes on from a checkpoint."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import napari_metastructure as nms
from napari_metastructure.jobs.checkpoint import read_checkpoint, read_state, write_checkpoint
from napari_metastructure.jobs.events import Note, Progress, Step
from napari_metastructure.labels.strokes import simulate_strokes
from napari_metastructure.learning import resume

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "channels": 4,
    "depth": 3,
    "patch_size": 32,
    "batch_size": 4,
    "epochs": 1,
    "min_steps": 8,
    "seed": 0,
    "device": "cpu",
}
ROUNDS = {**SMALL, "rounds": 2, "start": "otsu", "polarity": "bright", "ems": True}


@pytest.fixture
def images(blobs):
    return blobs(3)[0]


@pytest.fixture
def strokes(blobs):
    masks = blobs(3)[1]
    strokes = np.zeros_like(masks)
    for plane in (0, 2):
        strokes[plane] = simulate_strokes(masks[plane], 8, 8, seed=0)
    return strokes


@pytest.fixture
def file(tmp_path):
    return tmp_path / "unfinished.safetensors"


@pytest.fixture(scope="module")
def kept():
    """Unbroken trainings, with each of which several tests compare."""
    return {}


def unbroken(kept, images, **task):
    if str(task) not in kept:
        kept[str(task)] = nms.segment(images, **task).run(hidden=True)
    return kept[str(task)]


def stop_when(job, has_come):
    """Run a job and stop it at the first event for which this holds; returns its end."""
    stopped = False
    for event in job:
        if not stopped and has_come(event):
            job.stop()
            stopped = True
    assert stopped
    return event


def at_step(number):
    return lambda event: isinstance(event, Step) and event.step == number


def at(activity):
    return lambda event: isinstance(event, Progress) and event.activity == activity


def assert_same(done, other):
    ours, theirs = done.model.network.state_dict(), other.model.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert done.history == other.history
    assert done.model.threshold == other.model.threshold
    for mine, yours in zip(done.masks + done.probabilities, other.masks + other.probabilities):
        np.testing.assert_array_equal(mine, yours)
    passing = ("started", "seconds", "peak_memory")
    records = ({k: v for k, v in d.record.items() if k not in passing} for d in (done, other))
    assert next(records) == next(records)


def steps_of(events):
    return [event.step for event in events if isinstance(event, Step)]


@pytest.mark.parametrize(
    ("moment", "first"),
    [
        (at("start labels"), 1),
        (at("extracting meta-structure"), 1),
        (at_step(1), 2),
        (at_step(5), 6),
        (at_step(8), 9),
        (at("refining the labels"), 9),
        (at_step(11), 12),
        (at_step(16), None),
        (at("predicting"), None),
    ],
    ids=["start", "extracting", "1", "5", "8", "refining", "11", "16", "predicting"],
)
def test_without_labels_an_interrupted_training_equals_an_unbroken_one(
    images, file, moment, first, kept
):
    whole = unbroken(kept, images, **ROUNDS)
    assert len(whole.history["loss"]) == 16
    assert stop_when(nms.segment(images, checkpoint=file, **ROUNDS), moment).stopped
    events = list(nms.segment(images, checkpoint=file, **ROUNDS))
    assert steps_of(events)[:1] == ([] if first is None else [first])
    assert_same(events[-1], whole)
    assert_same(nms.segment(images, checkpoint=file, **ROUNDS).run(hidden=True), whole)


@pytest.mark.parametrize(
    ("moment", "first"),
    [
        (at("learning the strokes"), 1),
        (at("labels for the network"), 1),
        (at_step(3), 4),
        (at("comparing on held-out strokes"), 9),
        (at_step(10), 11),
        (at_step(12), None),
    ],
    ids=["strokes", "labels", "3", "comparing", "10", "12"],
)
def test_with_strokes_an_interrupted_training_equals_an_unbroken_one(
    images, strokes, file, moment, first, kept, monkeypatch
):
    monkeypatch.setattr("napari_metastructure.few_labels.taught._MARGIN", 1)  # the network's result
    task = {"strokes": strokes, **SMALL}
    whole = unbroken(kept, images, **task)
    assert whole.record["held_out"]["pixels"]
    assert len(whole.history["loss"]) == 12
    stop_when(nms.segment(images, checkpoint=file, **task), moment)
    events = list(nms.segment(images, checkpoint=file, **task))
    assert steps_of(events)[:1] == ([] if first is None else [first])
    assert_same(events[-1], whole)


def test_going_on_from_a_model_can_be_resumed_with_it_or_without(images, strokes, file):
    task = {"strokes": strokes, **SMALL}
    model = nms.segment(images, **task).run(hidden=True).model
    whole = nms.segment(images, model=model, **task).run(hidden=True)
    stop_when(nms.segment(images, model=model, checkpoint=file, **task), at_step(2))
    kept = file.read_bytes()
    for given in ({"model": model}, {}):
        file.write_bytes(kept)
        done = nms.segment(images, checkpoint=file, **given, **task).run(hidden=True)
        assert_same(done, whole)
    file.write_bytes(kept)
    with pytest.raises(ValueError, match="with other model;"):
        list(nms.segment(images, model=whole.model, checkpoint=file, **task))


def test_the_state_counts_the_steps_of_all_that_is_to_come(images, strokes, file):
    for task, total in (({"strokes": strokes, **SMALL}, 12), (ROUNDS, 16)):
        stop_when(nms.segment(images, checkpoint=file, fresh=True, **task), at_step(3))
        state = read_state(file)
        assert (state["operation"], state["step"], state["total"]) == ("segment", 3, total)


def test_other_data_or_settings_are_refused_and_fresh_starts_anew(images, strokes, file):
    task = {"images": images, "strokes": strokes, "checkpoint": file, **SMALL}
    stop_when(nms.segment(**task), at_step(3))
    other = strokes.copy()
    other[0, 0, 0] = 3 - other[0, 0, 0]
    for change, text in [
        ({"images": images + 1}, "with other images;"),
        ({"strokes": other}, "with other strokes;"),
        ({"strokes": None}, "with other strokes;"),
        ({"channels": 6}, r"other settings \(channels\)"),
        ({"seed": 1}, "another seed"),
    ]:
        with pytest.raises(ValueError, match=text):
            list(nms.segment(**{**task, **change}))
    with pytest.raises(ValueError, match="is of segment, not of train"):
        list(nms.train(images, (strokes > 1).astype(int), checkpoint=file, **SMALL))
    assert steps_of(nms.segment(**task, fresh=True))[0] == 1


def test_labels_that_are_no_longer_drawn_alike_are_refused(images, file, monkeypatch):
    stop_when(nms.segment(images, checkpoint=file, **ROUNDS), at_step(3))
    found = read_checkpoint(file)
    found[1]["training"]["part_labels"] = "another version's"
    write_checkpoint(file, *found)
    with pytest.raises(ValueError, match="labels that were drawn in another way"):
        list(nms.segment(images, checkpoint=file, **ROUNDS))


@pytest.mark.parametrize(
    ("moment", "task"),
    [
        (at("extracting meta-structure"), ROUNDS),
        (at("start labels"), {**SMALL, "mode": "paper", "start": "otsu"}),
    ],
    ids=["robust", "paper"],
)
def test_a_stop_before_the_training_is_taken_up_leaves_what_is_kept(
    images, file, moment, task, kept
):
    whole = unbroken(kept, images, **task)
    stop_when(nms.segment(images, checkpoint=file, **task), at_step(2))
    before = file.read_bytes()
    done = stop_when(nms.segment(images, checkpoint=file, **task), moment)
    assert done.stopped
    assert not done.history["loss"]
    assert file.read_bytes() == before
    file.unlink()
    stop_when(nms.segment(images, checkpoint=file, **task), moment)
    assert not file.exists()
    file.write_bytes(before)
    assert_same(nms.segment(images, checkpoint=file, **task).run(hidden=True), whole)


@pytest.mark.parametrize("stop", [1, 4, 6, 9])
@pytest.mark.parametrize("ems", [True, False])
def test_the_published_mode_resumes_in_the_middle_of_an_epoch(images, file, stop, ems, kept):
    task = {**SMALL, "mode": "paper", "epochs": 3, "batch_size": 4, "ems": ems}
    whole = unbroken(kept, images, **task)
    assert len(whole.history["loss"]) == 9  # 3 batches an epoch
    stop_when(nms.segment(images, checkpoint=file, **task), at_step(stop))
    events = list(nms.segment(images, checkpoint=file, **task))
    assert steps_of(events)[:1] == ([] if stop == 9 else [stop + 1])
    assert_same(events[-1], whole)
    assert_same(nms.segment(images, checkpoint=file, **task).run(hidden=True), whole)


def test_settled_labels_of_the_published_mode_stay_settled(images, file):
    task = {**SMALL, "mode": "paper", "epochs": 50, "learning_rate": 1e-9, "patch_size": 64}
    task |= {"ems": False, "batch_size": 3}  # one batch an epoch, always of the same tiles
    first = nms.segment(images, checkpoint=file, **task).run(hidden=True)
    assert first.history["rounds"][-1]["label_change"] == 0
    assert_same(nms.segment(images, checkpoint=file, **task).run(hidden=True), first)


def test_a_full_disk_is_told_and_the_training_goes_on(images, file, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "write_checkpoint", full)
    monkeypatch.setattr(resume, "_SECONDS_BETWEEN", 0)
    events = list(nms.segment(images, checkpoint=file, **ROUNDS))
    notes = [e.text for e in events if isinstance(e, Note) and "checkpoint" in e.text]
    assert notes == [
        "The checkpoint could not be written (No space left on device). "
        "The training continues without it."
    ]
    assert "No space left on device" in str(events[-1].record["notes"])


def test_the_time_limit_is_for_the_training_not_for_pauses(images, file):
    limited = {**ROUNDS, "rounds": 1, "time_limit": 5}
    job = nms.segment(images, checkpoint=file, **limited)
    for event in job:
        if isinstance(event, Step) and event.step == 2:
            time.sleep(5.1)  # as in a pause
    assert event.record["steps"] == 8
    stop_when(nms.segment(images, checkpoint=file, fresh=True, **limited), at_step(2))
    found = read_checkpoint(file)
    assert 0 < found[1]["training"]["spent"] < 5
    found[1]["training"]["spent"] = 5.0
    write_checkpoint(file, *found)
    done = nms.segment(images, checkpoint=file, **limited).run(hidden=True)
    assert done.record["steps"] == 2
    assert any("time limit of 5 s" in note for note in done.record["notes"])


SCRIPT = """
import json, sys
import numpy as np, torch
torch.set_num_threads(1)
import napari_metastructure as nms
from napari_metastructure.learning import resume
resume._SECONDS_BETWEEN = 0
images, strokes = np.load(sys.argv[1]), np.load(sys.argv[2])
task = json.loads(sys.argv[4])
nms.segment(images, strokes=strokes, checkpoint=sys.argv[3], **task).run(hidden=True)
"""


def test_killed(images, strokes, file, tmp_path):
    """A kill leaves a whole checkpoint, and the end is that of an unbroken training."""
    task = {**SMALL, "min_steps": 60}
    inputs = [tmp_path / "images.npy", tmp_path / "strokes.npy"]
    for path, array in zip(inputs, (images, strokes)):
        np.save(path, array)
    given = [*map(str, inputs), str(file), json.dumps(task)]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *given])
    deadline = time.monotonic() + 100
    while (read_state(file) or {}).get("step", 0) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it had not ended by itself
    events = list(nms.segment(images, strokes=strokes, checkpoint=file, **task))
    assert steps_of(events)[0] > 2
    assert_same(events[-1], nms.segment(images, strokes=strokes, **task).run(hidden=True))
    assert [path.name for path in tmp_path.glob(".*")] == []
