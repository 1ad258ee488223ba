import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from napari_metastructure import load_model
from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.learning.networks import NETWORKS

pytestmark = pytest.mark.usefixtures("one_thread")

KEY = "napari_metastructure"


def new_model(classes=(0, 1), network="unet", spatial_dims=2, seed=0):
    return SegmentationModel(
        {
            "network": network,
            "spatial_dims": spatial_dims,
            "in_channels": 1,
            "out_channels": 1 if len(classes) == 2 else len(classes),
            "channels": 4,
            "depth": 3,
        },
        classes,
        seed=seed,
    )


def image(*shape):
    return np.random.default_rng(0).normal(size=shape)


def test_a_model_says_what_it_is():
    assert repr(new_model()) == "<SegmentationModel: unet, 2-D, classes [0, 1]>"


# ----------------------------------------------------------------- saved and loaded


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("classes", "spatial_dims"), [((0, 255), 2), ((0, 1, 2, 7), 3)])
def test_round_trip(tmp_path, network, classes, spatial_dims):
    model = new_model(classes, network, spatial_dims)
    model.network.to(memory_format=torch.channels_last if spatial_dims == 2 else None)
    model.threshold, model.threshold_source, model.flips = 0.123, "test", True
    model.inverted = len(classes) == 2
    model.transition = (0.5 * np.eye(len(classes)) + 0.5 / len(classes)).tolist()
    model.record = {"operation": "train", "config": {"epochs": 3}, "validation": None}
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = load_model(path, "cpu")
    for name in ("architecture", "classes", "threshold", "threshold_source", "inverted"):
        assert getattr(loaded, name) == getattr(model, name)
    for name in ("transition", "flips", "record"):
        assert getattr(loaded, name) == getattr(model, name)
    assert not loaded.network.training
    picture = image(*(19, 22, 21)[-spatial_dims:])
    np.testing.assert_allclose(loaded.predict(picture), model.predict(picture), atol=1e-6)
    np.testing.assert_array_equal(loaded.segment(picture), model.segment(picture))


def test_header_is_plain_json(tmp_path):
    """Readable without this package: what the model is and what it was made with."""
    new_model().save(tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="np") as file:
        header = json.loads(file.metadata()[KEY])
    assert header["architecture"]["network"] == "unet"
    assert header["normalisation"] == "robust z-score per plane"
    assert header["classes"] == [0, 1]
    assert set(header["versions"]) >= {"napari-metastructure", "torch", "monai", "numpy"}


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    new_model().save(tmp_path / "model.safetensors")
    load_model(tmp_path / "model.safetensors", "cpu")


# ----------------------------------------------------------------- refused


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    new_model().save(path)
    return path


def change_header(path, change):
    """Write the file anew, its header changed."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()[KEY])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = change(header) or header
    save_file(weights, path, metadata={KEY: json.dumps(header)})


def refused(path):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load_model(path)
    text = str(caught.value)
    assert text.startswith("model.safetensors ")
    assert "\n" not in text
    return text


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_model(tmp_path / "model.safetensors")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04K\x01.", bytes(1000), b"\xff" * 1000])
def test_not_a_model_file(saved, content):
    saved.write_bytes(content)
    assert "safetensors file" in refused(saved)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.999])
def test_cut_short(saved, share):
    saved.write_bytes(saved.read_bytes()[: int(share * saved.stat().st_size)])
    assert "is damaged" in refused(saved)


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {KEY: "{}"}, {KEY: "[1]"}, {KEY: "7"}]
)
def test_foreign_safetensors(saved, metadata):
    save_file({"weight": torch.zeros(3)}, saved, metadata=metadata)
    assert "is not a model saved by napari-metastructure" in refused(saved)


def test_header_that_is_no_json(saved):
    save_file({"weight": torch.zeros(3)}, saved, metadata={KEY: "{not json"})
    assert "is damaged" in refused(saved)


def test_later_version(saved):
    change_header(saved, lambda header: header.update(format_version=2))
    assert "was saved by a later version; please upgrade" in refused(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.pop("format_version"),
        lambda header: header.pop("architecture"),
        lambda header: header.pop("threshold"),
        lambda header: header.update(format_version="x"),
        lambda header: header.update(classes=None),
        lambda header: header.update(classes=["a", "b"]),
        lambda header: header.update(classes=[0, 1, 2]),
        lambda header: header.update(architecture=[1, 2]),
        lambda header: header["architecture"].update(channels=8),
        lambda header: header["architecture"].update(channels=0),
        lambda header: header["architecture"].update(depth=1),
        lambda header: header["architecture"].update(depth="deep"),
        lambda header: header["architecture"].update(spatial_dims=4),
        lambda header: header["architecture"].update(network="rm -rf"),
        lambda header: header["architecture"].update(surprise=1),
    ],
    ids=range(15),
)
def test_parts_that_do_not_fit(saved, change):
    change_header(saved, lambda header: change(header) and None)
    assert "is damaged: its parts do not fit" in refused(saved)


# ----------------------------------------------------------------- decisions


def test_threshold_decides_between_two_classes():
    model = new_model((0, 255))
    model.threshold = 0.3
    probability = np.array([[0.1, 0.3, 0.31, 0.9]], np.float32)
    labels = model.decide(probability)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, [[0, 0, 255, 255]])
    np.testing.assert_array_equal(model.decide(probability, 0.5), [[0, 0, 0, 255]])


def test_labels_come_in_the_smallest_type():
    assert new_model((0, 1, 300)).decide(np.zeros((3, 2, 2))).dtype == np.uint16


def test_inverted_output_is_turned_over():
    model = new_model()
    plain = model.predict(image(20, 20))
    model.inverted = True
    np.testing.assert_allclose(model.predict(image(20, 20)), 1 - plain, atol=1e-6)


def test_most_probable_of_several_classes():
    model = new_model((0, 2, 5))
    clean = np.array([[0.6, 0.2, 0.1], [0.3, 0.7, 0.2], [0.1, 0.1, 0.7]])  # class, pixel
    np.testing.assert_array_equal(model.decide(clean), [0, 2, 5])


@pytest.mark.parametrize("ratio", [0.45, 0.9])
def test_known_noise_is_undone_first(ratio):
    """Flipped by 90 %, the true class of three is the least likely one."""
    model = new_model((0, 2, 5))
    shares = np.array([[0, 0.6, 0.4], [0.5, 0, 0.5], [0.3, 0.7, 0]])  # of what flips
    matrix = ratio * shares + (1 - ratio) * np.eye(3)
    clean = np.array([[0.9, 0.05, 0.2], [0.05, 0.9, 0.3], [0.05, 0.05, 0.5]])
    noisy = matrix.T @ clean
    assert (model.decide(noisy) == [0, 2, 5]).all() == (ratio < 0.6)
    model.transition = matrix.tolist()
    np.testing.assert_allclose(model.undo_noise(noisy), clean, atol=1e-12)
    np.testing.assert_array_equal(model.decide(noisy), [0, 2, 5])
    np.testing.assert_array_equal(model.decide(noisy.reshape(3, 3, 1, 1)).ravel(), [0, 2, 5])


def test_segment_is_predict_and_decide():
    model = new_model((0, 1, 2))
    picture = image(3, 20, 24)
    labels = model.segment(picture)
    assert labels.shape == picture.shape
    np.testing.assert_array_equal(labels, model.decide(model.predict(picture)))
