"""Trainings killed at random moments, resumed until they are done, and compared with unbroken ones.

    python benchmarks/kills.py --kills 200

Four kinds in turn: `train`, and `segment` with strokes, without labels and as published. Each is a
process of its own, killed by SIGKILL at a moment drawn evenly from the first half of the time that
the unbroken training takes, reading and prediction included, and started again until it comes to
its end. Prints how many were killed, went on from a checkpoint, were refused, ended otherwise than
the unbroken one, and how many files were left behind; ends with 1 if there are refusals,
differences or files.
"""

import argparse
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

KINDS = ("train", "segment with strokes", "segment without labels", "segment as published")
SMALL = {"channels": 4, "depth": 3, "patch_size": 32, "batch_size": 4, "device": "cpu", "seed": 0}
SECONDS_BETWEEN = 0.1  # checkpoints


def task():
    """Images, masks and strokes on two of the images."""
    from scipy.ndimage import gaussian_filter

    from napari_metastructure.labels.strokes import simulate_strokes

    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=(4, 64, 64)), (0, 3, 3))
    masks = (field > 0.5 * field.std()).astype(np.uint8)
    images = rng.normal(1000 + 400.0 * masks, 150).clip(0).astype(np.uint16)
    strokes = np.zeros_like(masks)
    for plane in (0, 2):
        strokes[plane] = simulate_strokes(masks[plane], 8, 8, seed=0)
    return images, masks, strokes


def job_of(kind, checkpoint):
    """The training of a kind, kept in a file."""
    import napari_metastructure as nms

    images, masks, strokes = task()
    if kind == "train":
        return nms.train(images, masks, checkpoint=checkpoint, epochs=80, **SMALL)
    if kind == "segment as published":
        paper = {**SMALL, "mode": "paper", "epochs": 100}
        return nms.segment(images, checkpoint=checkpoint, **paper)
    params = {**SMALL, "epochs": 2, "min_steps": 300}
    if kind == "segment with strokes":
        return nms.segment(images, strokes=strokes, checkpoint=checkpoint, **params)
    return nms.segment(images, checkpoint=checkpoint, rounds=2, start="otsu", **params)


def sha(*arrays):
    """Digest of arrays."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def work(kind, checkpoint, end):
    """What the process does: says "begun", "resumed" or "refused", and writes its end as JSON."""
    import torch

    from napari_metastructure.jobs.events import Note, Step
    from napari_metastructure.learning import resume

    torch.set_num_threads(1)
    for event in job_of(kind, None):  # imports on the way take longer than the training
        if isinstance(event, Step):
            break
    resume._SECONDS_BETWEEN = SECONDS_BETWEEN
    print("begun", flush=True)
    try:
        for event in job_of(kind, checkpoint):
            if isinstance(event, Note) and "resumes after step" in event.text:
                print("resumed", flush=True)
    except ValueError as error:
        print(f"refused: {error}", flush=True)
        sys.exit(1)
    found = {
        "weights": sha(*(w.numpy() for w in event.model.network.state_dict().values())),
        "losses": event.history["loss"],
        "history": event.history,
        "threshold": event.model.threshold,
        "masks": sha(*(event.masks or [])),
        "probabilities": sha(*(event.probabilities or [])),
    }
    Path(end).write_text(json.dumps(found))


class Process:
    """A training in a process of its own."""

    def __init__(self, kind, folder):
        self.checkpoint, self.end = folder / "kept.safetensors", folder / "end.json"
        command = [sys.executable, __file__, "--work", kind, str(self.checkpoint), str(self.end)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline().strip() != "begun":
            raise RuntimeError(f"{kind} does not begin.")
        self.clock, self.said = time.perf_counter(), []
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self):
        self.said = [line.strip() for line in self.process.stdout]

    def finish(self, seconds=None):
        """Wait for the end, or kill it after so many seconds; returns the seconds it took."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        taken = time.perf_counter() - self.clock
        self.listener.join()
        return taken

    @property
    def killed(self):
        """Whether it was killed before its end."""
        return self.process.returncode == -signal.SIGKILL

    def found(self):
        """What came out."""
        return json.loads(self.end.read_text())


def differing(found, expected):
    """Names of what is not the same."""
    return [name for name in expected if found[name] != expected[name]]


def soak(kinds, kills, seed, keep):
    """Kill, resume and compare; returns the counts by kind."""
    rng, counts = np.random.default_rng(seed), {kind: Counter() for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        unbroken = {kind: _unbroken(kind, Path(folder) / f"whole {kind}") for kind in kinds}
        number = 0
        while sum(count["kills"] for count in counts.values()) < kills:
            kind, number = kinds[number % len(kinds)], number + 1
            seconds, expected = unbroken[kind]
            own = Path(folder) / str(number)
            own.mkdir()
            _one_training(kind, own, seconds, expected, rng, counts[kind])
            shown = ", ".join(f"{value} {name}" for name, value in counts[kind].items())
            print(f"{kind}: {shown}", flush=True)
            if counts[kind].pop("to be kept", 0) and keep is not None:
                (own / "expected.json").write_text(json.dumps(expected))
                shutil.move(own, Path(keep) / f"{kind} {number}")
    return counts


def _unbroken(kind, folder):
    """Seconds and end of a training that nobody kills."""
    folder.mkdir()
    process = Process(kind, folder)
    return process.finish(), process.found()


def _one_training(kind, folder, seconds, expected, rng, count):
    """Kill and resume one training until it ends; counts what happened."""
    process, starts = Process(kind, folder), folder / "starts"
    starts.mkdir()
    while True:
        process.finish(rng.uniform(0, seconds / 2))
        count["resumed"] += "resumed" in process.said
        refused = [line for line in process.said if line.startswith("refused")]
        if refused or not process.killed:
            break
        count["kills"] += 1
        if process.checkpoint.exists():  # to look into, should the end differ
            shutil.copy(process.checkpoint, starts / f"{len(list(starts.iterdir()))}.safetensors")
        process = Process(kind, folder)
    count["trainings"] += 1
    if refused or process.process.returncode:
        count["refused"] += 1
        count["to be kept"] += 1
        print(f"  {refused or 'failed'}")
        return
    count["ended"] += 1
    other = differing(process.found(), expected)
    if other:
        count["ends that differ"] += 1
        count["to be kept"] += 1
        losses = process.found()["losses"], expected["losses"]
        first = next((k for k, (a, b) in enumerate(zip(*losses), 1) if a != b), None)
        print(f"  differs in {', '.join(other)}; first loss that differs: step {first}")
    known = {process.checkpoint, process.end, starts}
    count["files left"] += len(set(folder.iterdir()) - known)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds with this in their names")
    parser.add_argument("--keep", help="folder for the files of trainings that went wrong")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(*asked.work)
        return
    kinds = [kind for kind in KINDS if asked.only in kind]
    counts = soak(kinds, asked.kills, asked.seed, asked.keep)
    names = ("kills", "resumed", "refused", "ended", "ends that differ", "files left")
    print(f"{'':24s}" + "".join(f"{name:>18s}" for name in names))
    for kind, count in counts.items():
        print(f"{kind:24s}" + "".join(f"{count[name]:18d}" for name in names))
    bad = ("refused", "ends that differ", "files left")
    sys.exit(any(count[name] for count in counts.values() for name in bad))


if __name__ == "__main__":
    main()
