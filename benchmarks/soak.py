"""Random and damaged input to whatever takes input: a result, or one sentence of our own.

    python benchmarks/soak.py --cases 10000

The strategies are those of the tests, which run a few hundred cases. Prints how many cases of each
kind ended with a result, a sentence or a failure, and the first failures; ends with 1 if there are
any.
"""

import argparse
import json
import logging
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
