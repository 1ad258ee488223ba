"""Any input to the public functions of labels gives a result, or a sentence of our own."""

import os
import traceback
import warnings
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import napari_metastructure as nms
from napari_metastructure.arrays.labels import count_classes
from napari_metastructure.labels import density, extraction, metrics, noise, objects, transition

PACKAGE = str(Path(nms.__file__).parent)
EXAMPLES = int(os.environ.get("EXAMPLES", 15))  # of each function; more for a search
DTYPES = ["?", "u1", "i1", "u2", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "U1", "O"]
AWKWARD = [None, "1", -1, 0, 1, 2, 0.5, 3, 1e300, np.nan, np.inf, 10**12, (), (1, 2), [[1.0]]]
MATRICES = [
    np.eye(2),
    np.full((2, 2), 0.5),
    np.eye(3),
    [[np.nan, np.nan], [0, 1]],
    np.zeros((0, 0)),
]


@st.composite
def arrays(draw, dtypes=DTYPES):
    """An array of any shape and type, laid out in any way."""
    shape = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 7]), max_size=5)))
    dtype, seed = np.dtype(draw(st.sampled_from(dtypes))), draw(st.integers(0, 5))
    rng = np.random.default_rng(seed)
    top = draw(st.sampled_from([1, 2, 3, 255, 1000, 2**63 + 5]))
    values = rng.integers(0, 2, shape) if top == 1 else rng.integers(0, 3, shape)
    array = np.asarray(values)
    if dtype.kind == "f":
        array = array / 2
        holes = draw(st.sampled_from([None, np.nan, np.inf, -np.inf]))
        if holes is not None:
            array = np.where(rng.random(shape) < 0.3, holes, array)
    elif dtype.kind in "iu" and top <= np.iinfo(dtype).max:
        array = np.where(array == 2, np.array(top, dtype), array.astype(dtype))
    if dtype.kind == "i" and draw(st.booleans()):
        array = np.where(rng.random(shape) < 0.2, draw(st.sampled_from([-1, -5])), array)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.asarray(array).astype(dtype)
    return laid_out(
        array, draw(st.sampled_from(["plain", "view", "locked", "dask", "list", "masked"]))
    )


def laid_out(array, how):
    if how == "view" and array.ndim:
        return np.repeat(array, 2, axis=-1)[..., ::2][..., ::-1]
    if how == "locked":
        array.setflags(write=False)
    if how == "dask" and array.dtype.kind != "O":
        return da.from_array(array, chunks=2)
    if how == "list":
        return array.tolist()
    return np.ma.masked_array(array, np.zeros(array.shape, bool)) if how == "masked" else array


labels = arrays()
awkward = st.sampled_from(AWKWARD)
matrices = st.sampled_from([*MATRICES, *AWKWARD])
FUNCTIONS = {
    "sample": (noise.sample, labels, awkward),
    "flip": (noise.flip, labels, awkward),
    "flip_num_classes": (lambda a, n: noise.flip(a, 0.5, num_classes=n, seed=0), labels, awkward),
    "flip_classes": (lambda a, n: noise.flip(a, 0.5, classes=n), labels, awkward),
    "flip_ignored": (lambda a, n: noise.flip(a, 0.5, ignore_label=n), labels, awkward),
    "flip_seed": (lambda a, n: noise.flip(a, 0.5, seed=n), labels, awkward),
    "transition": (noise.transition, labels, matrices),
    "random_labels": (noise.random_labels, st.sampled_from([*AWKWARD[:9], (2, 3)]), awkward),
    "shift": (noise.shift, labels, awkward),
    "dilate": (noise.dilate, labels, awkward),
    "erode": (noise.erode, labels, awkward),
    "skeletonize": (lambda a, n: noise.skeletonize(a, spatial_dims=n), labels, awkward),
    "corrupt": (nms.corrupt, labels, st.sampled_from(["flip", "random", "dilate", "?", None, 3])),
    "of": (transition.of, st.sampled_from(["flip", "sample", "random", "erode", None]), awkward),
    "estimate": (transition.estimate, labels, labels),
    "count": (transition.count, labels, labels, awkward),
    "rank": (transition.rank, matrices),
    "verdict": (transition.verdict, matrices, awkward),
    "judge": (transition.judge, labels, labels),
    "displacement": (transition.displacement, labels, labels),
    "observed": (density.observed, labels, awkward),
    "expected": (density.expected, labels, matrices, awkward),
    "residual": (density.residual, labels, labels, matrices, awkward),
    "kept": (density.kept, labels, labels),
    "extract": (lambda a, n: extraction.extract(a, shift=n), labels, awkward),
    "evaluate": (metrics.evaluate, labels, labels),
    "compare": (nms.compare, labels, labels),
    "compare_objects": (
        lambda a, b, how: nms.compare(a, b, objects=how),
        labels,
        labels,
        st.sampled_from(["numbered", "components"]),
    ),
    "split": (lambda a, n: objects.split(a, spatial_dims=n), labels, st.sampled_from([None, 2, 3])),
    "split_scale": (lambda a, n: objects.split(a, scale=n), labels, awkward),
    "split_sizes": (
        lambda a, n: objects.split(a, min_size=n, smoothing=n, drop_border=True, fill_holes=True),
        labels,
        awkward,
    ),
    "split_watershed": (
        lambda a, how: objects.split(a, method="watershed", seeds=how),
        labels,
        st.sampled_from(["distance", "probability"]),
    ),
    "measure": (objects.measure, labels, labels),
    "measure_scale": (lambda a, n: objects.measure(a, scale=n, skeleton=True), labels, awkward),
    "summary": (objects.summary, labels, awkward),
}


def answer(function, *arguments):
    """What a function says, read from its array; None if it refuses in a sentence of our own."""
    try:
        found = function(*arguments)
        return found.compute(scheduler="synchronous") if hasattr(found, "dask") else found
    except (ValueError, TypeError) as error:
        check_is_our_own(error)
        return None


def check_is_our_own(error):
    """Whether an error was raised by this package, in one short sentence."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    assert frame.filename.startswith(PACKAGE), f"{frame.filename}:{frame.lineno} says {error}"
    assert "\n" not in str(error)
    assert len(str(error)) < 500


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_result_or_a_sentence(name):
    function, *strategies = FUNCTIONS[name]

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.tuples(*strategies))
    def try_it(arguments):
        answer(function, *arguments)

    try_it()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise.flip(np.eye(4, dtype=int), 0.1, num_classes=10**12), "between 2 and 65536"),
        (lambda: transition.of("flip", 10**12), "between 1 and 1000"),
        (lambda: noise.dilate(np.eye(4, dtype=int), "1"), "radius must be a number, not '1'"),
        (lambda: noise.shift(np.eye(4, dtype=int), 1e300), "at most a million"),
        (lambda: transition.rank(None), "must be square"),
        (lambda: noise.flip(np.ma.masked_array(np.eye(4, dtype=int)), 0.1), "filled"),
        (lambda: noise.sample(np.eye(4, dtype=int), "half"), "fraction must be a number"),
        (lambda: noise.erode(np.eye(4, dtype=int), 1, classes=["a"]), "list of label values"),
        (lambda: noise.flip(np.full((4, 4), 2**63, np.uint64), 0.1), "smaller than"),
    ],
)
def test_one_sentence(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_classes_are_counted_alike_in_any_array():
    labels = np.random.default_rng(0).integers(-1, 5, (30, 40))
    for chunks in (7, (30, 1)):
        for one, other in zip(count_classes(labels), count_classes(da.from_array(labels, chunks))):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
