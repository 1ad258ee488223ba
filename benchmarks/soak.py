"""Random and damaged input to whatever takes input: a result, or one sentence of our own.

    python benchmarks/soak.py --cases 10000

The strategies are those of the tests, which run a few hundred cases. Prints how many cases of each
kind ended with a result, a sentence or a failure, and the first failures; ends with 1 if there are
any.
"""

import argparse
import json
import logging
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.cli.test_damaged import DAMAGE, JSON, RECORD, damaged
from tests.files.test_fuzz import whole_files
from tests.labels.test_any_input import FUNCTIONS, PACKAGE

import napari_metastructure as nms
from napari_metastructure.cli.describe import describe
from napari_metastructure.files.read import read, read_labels
from napari_metastructure.files.settings import read_settings
from napari_metastructure.labels.density import DensityConfig
from napari_metastructure.labels.objects import ObjectsConfig
from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.runs.batch import batch
from napari_metastructure.runs.steps import SOURCE, Step

MODELS = (
    nms.NoiseSpec,
    nms.TrainingConfig,
    nms.SegmentConfig,
    nms.SweepConfig,
    DensityConfig,
    ObjectsConfig,
)
LONGEST = 2000  # characters of a sentence


def functions():
    """Public functions on arrays of any kind."""

    def act(function, arguments):
        found = function(*arguments)
        return found.compute(scheduler="synchronous") if hasattr(found, "dask") else found

    for name, (function, *strategies) in FUNCTIONS.items():
        yield name, st.tuples(st.just(function), st.tuples(*strategies)), act


def parameters():
    """Parameter models from any JSON."""
    for model in MODELS:
        values = st.dictionaries(st.sampled_from(sorted(model.model_fields)), JSON, max_size=4)
        yield model.__name__, st.tuples(st.just(model), values), lambda m, v: m.of(None, **v)


def files(folder):
    """Files cut short, with bits flipped, read as images, labels, models, settings and records."""
    kinds = {name: (content, read) for name, content in whole_files(folder).items()}
    kinds |= {f"labels {name}": (content, read_labels) for name, (content, _) in kinds.items()}
    architecture = {"network": "unet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1}
    model = SegmentationModel({**architecture, "channels": 4, "depth": 3}, [0, 1])
    model.save(folder / "m.safetensors")
    saved = (folder / "m.safetensors").read_bytes()
    kinds["m.safetensors"] = saved, lambda path: nms.load_model(path, "cpu")
    kinds["a.record.json"] = json.dumps(RECORD).encode(), describe
    kinds["settings.yaml"] = b"kind: flip\nratio: 0.3\nclasses: [1, 2]\n", read_settings
    for name, (content, function) in kinds.items():

        def act(cut, flips, name=name, content=content, function=function):
            path = folder / name.split()[-1]
            path.write_bytes(damaged(content, cut, flips))
            found = function(path)
            return np.asarray(found.data) if hasattr(found, "data") else found

        cut = st.integers(1, 300).map(lambda percent: min(percent, 100))  # most are whole
        yield name, st.tuples(cut, DAMAGE), act


def values_in_files(folder):
    """Records and settings with any JSON in them."""

    def record(name, value):
        path = folder / "b.record.json"
        path.write_text(json.dumps({**RECORD, name: value}))
        return describe(path)

    def setting(value, name):
        path = folder / name
        path.write_text(json.dumps(value))
        return read_settings(path)

    yield "record of any values", st.tuples(st.sampled_from(sorted(RECORD)), JSON), record
    yield "settings of any values", st.tuples(JSON, st.sampled_from(["s.json", "s.yaml"])), setting


def sweep_folders(folder):
    """Folders of finished sweeps, damaged, and resumed: nothing is trained for these."""
    place, whole = folder / "sweep", folder / "swept"
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (4, 32, 32)).astype(np.uint8)
    images = (labels + rng.normal(0, 0.1, labels.shape)).astype(np.float32)
    few = {"sample": (0.5,), "flip": (), "dilate": (), "random": False, "seeds": 1, "epochs": 1}
    few |= {"channels": 4, "depth": 3, "patch_size": 32, "min_steps": 1, "device": "cpu"}
    nms.sweep(images, labels, few, folder=whole).run(hidden=True)

    def resume():
        job = nms.sweep(images, labels, few, folder=place)
        for event in job:
            if getattr(event, "activity", "reading").split()[0] != "reading":
                job.stop()  # a run that counts no more would be trained again
        return event.value.summary

    yield from folders("sweep folder", whole, place, resume)


def batch_folders(folder):
    """Folders of finished batches, damaged, and resumed."""
    place, whole, images = folder / "batch", folder / "batched", folder / "inputs"
    images.mkdir()
    for number in range(2):
        np.save(images / f"{number}.npy", np.arange(64, dtype=np.uint8).reshape(8, 8) % 2)
    step = Step("corrupt", {"labels": SOURCE}, {"output": "noisy"}, nms.NoiseSpec(kind="flip"))
    batch(images, [step], whole).run(hidden=True)
    yield from folders(
        "batch folder", whole, place, lambda: batch(images, [step], place).run(hidden=True).summary
    )


def folders(name, whole, place, resume):
    """Two kinds of damage: files cut short, with bits flipped, and other values in their JSON."""
    files = sorted(
        path.relative_to(whole)
        for path in whole.rglob("*")
        if path.is_file() and path.stat().st_size
    )
    texts = [file for file in files if file.suffix in (".json", ".jsonl")]

    def restored():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(whole, place)

    def cut_or_flip(file, cut, flips):
        restored()
        (place / file).write_bytes(damaged((whole / file).read_bytes(), cut, flips))
        return resume()

    def replace(file, number, key, value):
        restored()
        lines = (whole / file).read_text().splitlines()
        if file.suffix == ".json":
            lines = ["".join(lines)]
        changed = json.loads(lines[number % len(lines)])
        names = sorted(changed)
        inner = changed
        while names and isinstance(inner[names[key % len(names)]], dict) and key % 3:
            inner = inner[names[key % len(names)]]
            names = sorted(inner)
        if names:
            inner[names[key % len(names)]] = value
        lines[number % len(lines)] = json.dumps(changed)
        (place / file).write_text("\n".join(lines) + "\n")
        return resume()

    part = st.tuples(st.sampled_from(files), st.integers(1, 100), DAMAGE)
    yield f"{name}, damaged", part, cut_or_flip
    counts = st.integers(0, 50)
    value = st.tuples(st.sampled_from(texts), counts, counts, JSON)
    yield f"{name}, values", value, replace


def outcome(act, arguments):
    """What became of a case: "result", "sentence", or what failed, in words."""
    try:
        act(*arguments)
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        at = traceback.extract_tb(error.__traceback__)[-1].filename
        if not at.startswith(PACKAGE):
            return f"{at} says {error}"[:300]
        if len(str(error)) >= LONGEST or "\n" in str(error):
            return f"not one sentence: {str(error)[:200]!r}"
        return "sentence"
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} of {Path(at.filename).name}:{at.lineno}: {error}"[:300]
    return "result"


def soak(strategy, act, cases, start):
    """Counts of what became of the cases, and the failures with their arguments."""
    counts, failures = Counter(), {}

    @seed(start)
    @settings(
        max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(strategy)
    def one(arguments):
        found = outcome(act, arguments)
        kind = found if found in ("result", "sentence") else "failure"
        counts[kind] += 1
        if kind == "failure":
            failures.setdefault(found, repr(arguments)[:300])

    one()
    return counts, failures


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds with this in their names")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    total = Counter()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        kinds = [*functions(), *parameters(), *files(folder), *values_in_files(folder)]
        kinds += [*sweep_folders(folder), *batch_folders(folder)]
        kinds = [kind for kind in kinds if asked.only in kind[0]]
        each = max(1, asked.cases // len(kinds))
        print(f"{'':28s}{'result':>8s}{'sentence':>10s}{'failure':>9s}")
        for name, strategy, act in kinds:
            counts, failures = soak(strategy, act, each, asked.seed)
            total += counts
            numbers = counts["result"], counts["sentence"], counts["failure"]
            print("{:28s}{:8d}{:10d}{:9d}".format(name, *numbers), flush=True)
            for found, arguments in list(failures.items())[:3]:
                print(f"    {found}\n        {arguments}")
    print(f"{total.total()} cases, {total['failure']} failures")
    sys.exit(bool(total["failure"]))


if __name__ == "__main__":
    main()
