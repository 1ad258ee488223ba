"""Trainings that go on from a checkpoint."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_metastructure import train
from napari_metastructure.jobs import checkpoint as checkpoints
from napari_metastructure.jobs.events import Note, Progress, Step
from napari_metastructure.learning import resume

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "channels": 4,
    "depth": 3,
    "patch_size": 32,
    "batch_size": 4,
    "min_steps": 1,
    "device": "cpu",
    "seed": 0,
}


@pytest.fixture
def task(blobs):
    return blobs(8, seed=0, size=48)


@pytest.fixture(scope="module")
def kept():
    """Unbroken trainings, with each of which several tests compare."""
    return {}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "unfinished.safetensors"


def stopped_at(job, step):
    """Run a job and stop it after a step; returns its end."""
    for event in job:
        if isinstance(event, Step) and event.step == step:
            job.stop()
    return event


def assert_same(done, other):
    ours, theirs = done.model.network.state_dict(), other.model.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert done.history["loss"] == other.history["loss"]
    assert done.history["validation"] == other.history["validation"]
    assert done.model.threshold == other.model.threshold


@pytest.mark.parametrize("length", [{"epochs": 8}, {"epochs": None}])
@pytest.mark.parametrize("stop", [1, 7, 12, 20])
def test_an_interrupted_training_equals_an_unbroken_one(
    task, file, length, stop, kept, monkeypatch
):
    monkeypatch.setattr("napari_metastructure.learning.duration._LEAST_STEPS", 20)
    monkeypatch.setattr("napari_metastructure.learning.duration._PATIENCE", 10)
    monkeypatch.setattr("napari_metastructure.learning.training._LEAST_STEPS_BETWEEN_SCORES", 6)
    config = {**SMALL, **length}
    if str(length) not in kept:
        kept[str(length)] = train(*task, **config).run(hidden=True)
    whole = kept[str(length)]
    first = stopped_at(train(*task, checkpoint=file, **config), stop)
    assert first.stopped
    events = list(train(*task, checkpoint=file, **config))
    assert any(f"after step {stop}." in e.text for e in events if isinstance(e, Note))
    assert next(e for e in events if isinstance(e, Step)).step == stop + 1
    assert_same(events[-1], whole)
    again = train(*task, checkpoint=file, **config).run(hidden=True)  # nothing is left to do
    assert_same(again, whole)


def test_a_stop_in_the_middle_of_a_validation(task, file):
    config = {**SMALL, "epochs": 4}
    whole = train(*task, **config).run(hidden=True)
    job, stopped = train(*task, checkpoint=file, **config), False
    for event in job:
        if isinstance(event, Progress) and event.activity == "validating" and not stopped:
            job.stop()
            stopped = True
    assert stopped
    assert_same(train(*task, checkpoint=file, **config).run(hidden=True), whole)


def test_another_number_of_threads_is_told(task, file):
    config = {**SMALL, "epochs": 4}
    stopped_at(train(*task, checkpoint=file, **config), 3)
    torch.set_num_threads(2)
    done = train(*task, checkpoint=file, **config).run(hidden=True)
    (note,) = [text for text in done.record["notes"] if "threads" in text]
    assert "threads has changed from 1 to 2" in note


def test_without_a_seed_the_checkpoint_has_it(task, file):
    config = {**SMALL, "epochs": 4, "seed": None}
    first = stopped_at(train(*task, checkpoint=file, **config), 3)
    done = train(*task, checkpoint=file, **config).run(hidden=True)
    assert done.record["config"]["seed"] == first.record["config"]["seed"]


def test_other_data_or_settings_are_refused_and_fresh_starts_anew(task, file):
    images, masks = task
    config = {**SMALL, "epochs": 4}
    stopped_at(train(images, masks, checkpoint=file, **config), 3)
    for change, text in [
        ({"labels": 1 - masks}, "with other labels;"),
        ({"channels": 6}, r"other settings \(channels\)"),
        ({"seed": 1}, "another seed"),
        ({"noise": {"kind": "flip", "ratio": 0.1}}, "with other noise;"),
        ({"images": images + 1, "labels": 1 - masks}, "with other images and labels;"),
    ]:
        arguments = {"images": images, "labels": masks, "checkpoint": file, **config, **change}
        with pytest.raises(ValueError, match=text):
            list(train(**arguments))
    whole = train(images, masks, **config).run(hidden=True)
    events = list(train(images, masks, checkpoint=file, fresh=True, **config))
    assert next(e for e in events if isinstance(e, Step)).step == 1
    assert_same(events[-1], whole)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x08" + b"\0" * 7 + b"{}      "])
@pytest.mark.parametrize("fresh", [False, True])
def test_files_that_are_no_checkpoint_are_refused(task, file, content, fresh):
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"unfinished\.safetensors .*(cannot be read|not a check)"):
        list(train(*task, checkpoint=file, fresh=fresh, epochs=1, **SMALL))
    assert file.read_bytes() == content


def test_a_full_disk_is_told_and_the_training_goes_on(task, file, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "write_checkpoint", full)
    events = list(train(*task, checkpoint=file, epochs=2, **SMALL))
    notes = [e.text for e in events if isinstance(e, Note) and "checkpoint" in e.text]
    assert notes == [
        "The checkpoint could not be written (No space left on device). "
        "The training continues without it."
    ]


def test_pauses_do_not_count_in_the_time_limit(task, monkeypatch):
    """The clock of the limit is the job's, which stands still in a pause."""
    monkeypatch.setattr("napari_metastructure.learning.duration._LEAST_STEPS", 20)
    monkeypatch.setattr("napari_metastructure.learning.duration._PATIENCE", 10)
    monkeypatch.setattr("napari_metastructure.jobs.job.Job.clock", lambda _: 0.0)
    done = train(*task, epochs=None, time_limit=1e-9, **SMALL).run(hidden=True)
    assert "stopped rising" in done.record["ended"]


def test_a_checkpoint_is_replaced_whole(file, monkeypatch):
    checkpoints.write_checkpoint(file, {"a": torch.ones(3)}, {"step": 1})
    monkeypatch.setattr(checkpoints.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28)))
    with pytest.raises(OSError):  # noqa: PT011
        checkpoints.write_checkpoint(file, {"a": torch.zeros(3)}, {"step": 2})
    tensors, state = checkpoints.read_checkpoint(file)
    assert state == {"step": 1}
    assert torch.equal(tensors["a"], torch.ones(3))
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_a_kill_left_beside_a_checkpoint_is_removed(task, file):
    left = file.with_name(f".{file.name}.123.part")
    left.write_bytes(b"half")
    other = file.with_name(".other.safetensors.123.part")
    other.write_bytes(b"half")
    train(*task, checkpoint=file, epochs=1, **SMALL).run(hidden=True)
    assert sorted(file.parent.iterdir()) == [other, file]


REPLACING = """
import os, sys, time
file, end = sys.argv[1], time.monotonic() + 3
while time.monotonic() < end:
    for number in range(2):
        os.link(f"{file}.{number}", f"{file}.next")
        os.replace(f"{file}.next", file)
"""


def test_a_checkpoint_read_while_it_is_replaced_is_one_of_them(file):
    for number in range(2):
        tensors, state = {"a": torch.full((1 + number,), float(number))}, {"step": number}
        checkpoints.write_checkpoint(f"{file}.{number}", tensors, state)
    checkpoints.write_checkpoint(file, tensors, state)
    with subprocess.Popen([sys.executable, "-c", REPLACING, str(file)]) as process:
        while process.poll() is None:
            tensors, state = checkpoints.read_checkpoint(file)
            assert tensors["a"].tolist() == [state["step"]] * (1 + state["step"])


def test_the_state_is_read_without_torch(file):
    checkpoints.write_checkpoint(file, {"a": torch.ones(3)}, {"step": 7})
    code = (
        "import sys; from napari_metastructure.jobs.checkpoint import read_state;"
        "print(read_state(sys.argv[1]), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(file)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "{'step': 7} False"


SCRIPT = """
import json, sys
import numpy as np, torch
torch.set_num_threads(1)
from napari_metastructure import train
from napari_metastructure.learning import resume
resume._SECONDS_BETWEEN = 0.0
images, masks = np.load("x.npy"), np.load("y.npy")
for name in sys.argv[1:]:
    done = train(images, masks, checkpoint=f"{name}.checkpoint", epochs=20, channels=4, depth=3,
                 patch_size=32, batch_size=4, min_steps=1, device="cpu", seed=0).run(hidden=True)
    done.model.save(f"{name}.safetensors")
    print(json.dumps([done.history["loss"], done.model.threshold]))
"""


def test_killed_at_several_moments(task, tmp_path):
    """A kill leaves a whole checkpoint, and the end is that of an unbroken training."""
    for name, array in zip(("x", "y"), task):
        np.save(tmp_path / f"{name}.npy", array)

    def begin(*names):
        command = [sys.executable, "-c", SCRIPT, *names]
        return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path, text=True)

    def step():
        file = tmp_path / "killed.checkpoint"
        return checkpoints.read_state(file)["step"] if file.exists() else 0

    for least in (1, 16):
        process = begin("killed")
        deadline = time.monotonic() + 100
        while step() < least and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert least <= step() < 80
    ends = begin("killed", "whole").communicate()[0].splitlines()
    assert len(ends) == 2
    assert ends[0] == ends[1]
    killed, whole = (load_file(tmp_path / f"{name}.safetensors") for name in ("killed", "whole"))
    differing = {
        name: float((killed[name] - whole[name]).abs().max())
        for name in whole
        if not torch.equal(killed[name], whole[name])
    }
    assert differing == {}
