import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import napari_metastructure as nms
from napari_metastructure.plugin import samples

FIELDS = [samples.er, samples.mitochondria, samples.nuclei]
STACKS = [samples.er_stack, samples.mitochondria_stack, samples.nuclei_stack]


@cache
def opened(sample):
    """Layer tuples of a sample, and the processor time to make them."""
    start = time.process_time()
    layers = sample()
    return layers, time.process_time() - start


# Foreground, Otsu's and Li's Dice over all fields. The same on real images of 256 x 256, measured:
# ER 0.26, 0.63, 0.79; mitochondria 0.10, 0.73, 0.66; nuclei 0.16, 0.92, 0.92.
DIFFICULTY = [
    (samples.er, (0.15, 0.40), (0.55, 0.72), (0.70, 0.84)),
    (samples.mitochondria, (0.05, 0.16), (0.65, 0.82), (0.58, 0.78)),
    (samples.nuclei, (0.08, 0.35), (0.90, 0.98), (0.90, 0.98)),
]


@pytest.mark.parametrize(("sample", "fraction", "otsu", "li"), DIFFICULTY)
def test_as_difficult_as_real_images(sample, fraction, otsu, li):
    from skimage.filters import threshold_li, threshold_otsu

    (images, *_), (masks, *_) = opened(sample)[0]
    assert fraction[0] < masks.mean() < fraction[1]
    assert masks.mean((1, 2)).min() > 0.01
    assert (images == 65535).mean() < 1e-4
    for threshold, (low, high) in [(threshold_otsu, otsu), (threshold_li, li)]:
        found = np.stack([image > threshold(image) for image in images])
        dice = 2 * (found & (masks > 0)).sum() / (found.sum() + masks.sum())
        assert low < dice < high, threshold.__name__


@pytest.mark.parametrize("sample", FIELDS + STACKS)
def test_simulated_layers(sample):
    layers = pytest.importorskip("napari.layers")
    parts, seconds = opened(sample)
    assert seconds < 10
    image, labels = (layers.Layer.create(*part) for part in parts)
    assert isinstance(image, layers.Image)
    assert isinstance(labels, layers.Labels)
    assert labels.name == f"{image.name} labels"
    assert image.data.shape == labels.data.shape
    assert image.axis_labels == labels.axis_labels
    assert image.units == labels.units
    assert str(image.units[-1]) == "micrometer"
    np.testing.assert_array_equal(image.scale, labels.scale)
    assert image.metadata == labels.metadata
    low, high = image.contrast_limits
    assert low < high < image.data.max()


@pytest.mark.parametrize("sample", STACKS)
def test_stacks_are_anisotropic(sample):
    data, attributes, _ = opened(sample)[0][0]
    assert data.ndim == 3
    assert attributes["axis_labels"] == ("z", "y", "x")
    assert attributes["scale"][0] > attributes["scale"][1] == attributes["scale"][2]


@pytest.mark.parametrize("sample", [samples.nuclei, *STACKS])
def test_the_metadata_says_how_to_simulate_it_again(sample):
    (image, attributes, _), (mask, *_) = opened(sample)[0]
    module, call = attributes["metadata"]["source"].rsplit(".", 1)
    assert module == "napari_metastructure.samples"
    assert nms.samples is samples
    assert f"seed={attributes['metadata']['seed']})" in call
    again = eval(call, vars(samples))
    np.testing.assert_array_equal(again[0], image)
    np.testing.assert_array_equal(again[1], mask)


def test_all_samples_share_a_viewer():
    components = pytest.importorskip("napari.components")
    viewer = components.ViewerModel()
    for sample in [*FIELDS, *STACKS, samples.cell]:
        for data, attributes, kind in opened(sample)[0]:
            getattr(viewer, f"add_{kind}")(data, **attributes)
    assert len(viewer.layers) == 13


def test_cell_ships_with_scikit_image(monkeypatch):
    import skimage

    def refuse(*_):
        raise AssertionError("a sample must not use the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    [(image, attributes, kind)] = samples.cell()
    assert (image.shape, image.dtype, kind) == ((660, 550), np.uint8, "image")
    assert attributes["units"] == ("micrometer", "micrometer")
    assert (Path(skimage.__file__).parent / "data" / "cell.png").exists()


REAL = {"retina": (700, 700, 3), "tissue": (512, 512, 3)}


@pytest.mark.parametrize("name", REAL)
def test_real_samples_ship_with_scikit_image(name, monkeypatch):
    def refuse(*_):
        raise AssertionError("this sample must not use the network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    [(image, attributes, kind)] = getattr(samples, name)()
    assert (image.shape, image.dtype, kind) == (REAL[name], np.uint8, "image")
    assert "skimage.data." in attributes["metadata"]["source"]
    layer = pytest.importorskip("napari.layers").Layer.create(image, attributes, kind)
    assert layer.rgb


def test_real_nuclei_come_with_masks():
    layers = pytest.importorskip("napari.layers")
    image, masks = (layers.Layer.create(*part) for part in samples.real_nuclei())
    assert (
        (image.data.shape, image.data.dtype)
        == (masks.data.shape, np.uint8)
        == ((512, 512), np.uint8)
    )
    assert set(np.unique(masks.data)) == {0, 1}
    inside = masks.data > 0
    assert image.data[inside].mean() > 2 * image.data[~inside].mean()
    assert masks.name == f"{image.name} labels"
    assert "CC0" in image.metadata["source"]


@pytest.mark.parametrize("error", [ConnectionError("no route"), ModuleNotFoundError("pooch")])
def test_a_download_that_fails_is_one_sentence(error, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr("skimage.data.human_mitosis", fail, raising=False)
    with pytest.raises(OSError, match=r"could not be downloaded.*Tissue or Retina, which needs no"):
        samples.mitosis()


def test_a_downloaded_stack_has_its_voxels(monkeypatch):
    stack = np.ones((6, 2, 8, 8), np.uint16) * np.array([1, 2], np.uint16)[:, None, None]
    monkeypatch.setattr("skimage.data.cells3d", lambda: stack, raising=False)
    [(image, attributes, kind)] = samples.cells3d()
    assert (image.shape, image.max(), image.min(), kind) == ((6, 8, 8), 2, 2, "image")  # nuclei
    assert (attributes["scale"], attributes["axis_labels"]) == ((0.29, 0.26, 0.26), ("z", "y", "x"))


def test_a_download_is_an_image(monkeypatch):
    monkeypatch.setattr("skimage.data.human_mitosis", lambda: np.ones((8, 8)), raising=False)
    [(_, attributes, kind)] = samples.mitosis()
    assert (attributes["name"], kind) == ("mitosis", "image")
    assert "CC0" in attributes["metadata"]["source"]


@pytest.mark.parametrize(
    ("sample", "noise"),
    [
        (samples.er_sampled, {"kind": "sample", "fraction": 0.1}),
        (samples.er_flipped, {"kind": "flip", "ratio": 0.45}),
        (samples.er_dilated, {"kind": "dilate", "radius": 2}),
    ],
)
def test_noisy_labels_carry_their_noise(sample, noise):
    from napari_metastructure.plugin.layers import noise_of

    layers = pytest.importorskip("napari.layers")
    image, clean, noisy = (layers.Layer.create(*part) for part in sample())
    assert image.data.shape == clean.data.shape == noisy.data.shape
    assert not clean.visible
    [found] = noise_of(noisy)
    assert noise.items() <= found.items()
    assert (noisy.data != clean.data).any()


def test_import_is_light():
    code = (
        "import sys, napari_metastructure.plugin.samples;"
        "print({'napari', 'qtpy', 'torch', 'scipy', 'skimage'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
