"""How long a job goes on after Stop, in every phase: stops each job at many moments.

    python benchmarks/stop.py --planes 20 --side 2048 --moments 8 --jobs segment train

Prints the delay from `Job.stop` to the job's last event, and the phase in which it was stopped.
The goal is 1 s.
"""

import argparse
import threading
import time

import numpy as np
from _timing import tubes

import napari_metastructure as nms
from napari_metastructure.jobs.events import Progress

GOAL = 1.0  # s


def images_and_labels(planes, side):
    """A noisy stack of tubes, uint8, and its labels."""
    rng = np.random.default_rng(0)
    labels = np.stack([tubes((side, side), seed) for seed in range(min(planes, 4))])
    labels = np.resize(labels, (planes, side, side))
    images = np.empty(labels.shape, np.uint8)
    for image, label in zip(images, labels):
        image[:] = np.clip(60 + 80.0 * label + rng.normal(0, 30, label.shape), 0, 255)
    return images, labels


def strokes_on(labels):
    """A few strokes on the first plane: 1 background, 2 object."""
    strokes = np.zeros(labels.shape, np.uint8)
    rows = slice(20, 60), slice(20, labels.shape[2] - 20)
    strokes[0][rows] = labels[0][rows] + 1
    return strokes


def jobs(images, labels):
    """Functions that make the jobs, by name."""
    short = {"seed": 0, "device": "cpu", "epochs": 1, "min_steps": 4, "channels": 8, "depth": 3}

    def predict():
        from napari_metastructure.learning.prediction import predict

        done = nms.train(images[:1, :256, :256], labels[:1, :256, :256], **short).run(hidden=True)
        return predict(done.model, images)

    return {
        "train": lambda: nms.train(images, labels, seed=0, device="cpu"),
        "segment": lambda: nms.segment(images, seed=0, device="cpu"),
        "strokes": lambda: nms.segment(images, strokes=strokes_on(labels), seed=0, device="cpu"),
        "sweep": lambda: nms.sweep(images, labels, seeds=1, sample=[0.5], **short),
        "predict": predict,
    }


def stopped(job, seconds):
    """Stop a job after so many seconds; returns (delay, phase), or None if it had ended."""
    last, errors = ["nothing"], []

    def drive():
        try:
            for event in job:
                last[0] = event.activity if isinstance(event, Progress) else type(event).__name__
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=drive, daemon=True)
    thread.start()
    thread.join(seconds)
    if not thread.is_alive():
        return None
    phase, begun = last[0], time.perf_counter()
    job.stop()
    thread.join()
    return time.perf_counter() - begun, f"{phase}{''.join(f' ({e})' for e in errors)}"


def main():
    """Print a line for each stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=20)
    parser.add_argument("--side", type=int, default=2048)
    parser.add_argument("--moments", type=int, default=8)
    parser.add_argument("--first", type=float, default=0.5, help="seconds to the first stop")
    parser.add_argument("--factor", type=float, default=2, help="from one moment to the next")
    parser.add_argument("--jobs", nargs="+", default=None)
    asked = parser.parse_args()
    images, labels = images_and_labels(asked.planes, asked.side)
    makers, worst = jobs(images, labels), 0.0
    print(f"{images.shape} {images.dtype}\n{'job':10s}{'stopped at':>11s}{'delay':>9s}  phase")
    for name in asked.jobs or makers:
        for moment in asked.first * asked.factor ** np.arange(asked.moments):
            found = stopped(makers[name](), moment)
            if found is None:
                print(f"{name:10s}{moment:9.1f} s    had ended", flush=True)
                break
            worst = max(worst, found[0])
            print(f"{name:10s}{moment:9.1f} s{found[0]:7.2f} s  {found[1]}", flush=True)
    print(f"worst {worst:.2f} s, goal {GOAL:g} s")


if __name__ == "__main__":
    main()
