"""Damaged records, settings and models give one sentence: no traceback, no hang, no code run."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_metastructure.files.settings import read_settings
from napari_metastructure.learning.loading import load_model
from napari_metastructure.learning.model import SegmentationModel
from tests.cli.test_main import _Main

MANY = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
RECORD = {
    "operation": "corrupt",
    "config": {"kind": "flip", "ratio": 0.2},
    "options": {},
    "inputs": {"labels": {"path": "nowhere.tif", "sha256": "0"}},
    "outputs": {"output": {"path": "a.tif", "digest": "0"}},
    "versions": {},
}
DAMAGE = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), max_size=6)


def damaged(data, cut, flips):
    """The bytes, cut short and with bits flipped."""
    data = bytearray(data[: max(1, len(data) * cut // 100)])
    for place, bit in flips:
        data[place % len(data)] ^= 1 << bit
    return bytes(data)


def is_told(*arguments):
    """A command ends well, or with one sentence."""
    found = CliRunner().invoke(_Main(), [str(argument) for argument in arguments])
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    last = found.output.strip().splitlines()[-1]
    assert found.exit_code == 0 or last.startswith("Error: ")
    assert len(last) < 2000


def sentence_of(function, *arguments):
    """What a function says of a file that it does not take; empty if it takes it."""
    try:
        function(*arguments)
    except ValueError as error:
        return str(error)
    return ""


@MANY
@given(st.sampled_from(sorted(RECORD)), JSON)
def test_records_of_wrong_types(tmp_path, name, value):
    path = tmp_path / "a.record.json"
    path.write_text(json.dumps({**RECORD, name: value}))
    is_told("info", path)
    is_told("replay", path, "--quiet")


@MANY
@given(st.integers(1, 100), DAMAGE)
def test_damaged_records(tmp_path, cut, flips):
    path = tmp_path / "a.record.json"
    path.write_bytes(damaged(json.dumps(RECORD).encode(), cut, flips))
    is_told("info", path)
    is_told("replay", path, "--quiet")


@MANY
@given(JSON, st.sampled_from(["s.json", "s.yaml"]))
def test_settings_of_any_kind(tmp_path, value, name):
    path = tmp_path / name
    path.write_text(json.dumps(value))
    assert len(sentence_of(read_settings, path)) < 2000


def test_settings_that_are_no_text(tmp_path):
    for name in ("s.yaml", "s.json"):
        (tmp_path / name).write_bytes(b"kind: fl\xbap")
        assert name in sentence_of(read_settings, tmp_path / name)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of a small model."""
    names = {"network": "unet", "spatial_dims": 2, "in_channels": 1, "out_channels": 1}
    model = SegmentationModel({**names, "channels": 4, "depth": 3}, [0, 1])
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    model.save(path)
    return path.read_bytes()


@MANY
@given(st.integers(1, 100), DAMAGE)
def test_damaged_models(tmp_path, saved, cut, flips):
    path = tmp_path / "m.safetensors"
    path.write_bytes(damaged(saved, cut, [(place % 3000, bit) for place, bit in flips]))
    text = sentence_of(load_model, path, "cpu")
    assert not text or "m.safetensors" in text
    assert len(text) < 2000


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "", "\0", "1" * 10_000])
def test_nested_and_huge(tmp_path, text):
    for name in ("a.json", "a.yaml"):
        path = tmp_path / name
        path.write_text(text)
        sentence_of(read_settings, path)
        if name == "a.json":
            is_told("info", path)
        is_told("replay", path)
