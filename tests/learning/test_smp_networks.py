"""Networks of segmentation-models-pytorch: what is said without it, and, with it, that they work.

The library is in no default environment: tox run -e networks.
"""

import numpy as np
import pytest

import napari_metastructure as nms
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.learning.networks import build
from napari_metastructure.learning.smp_networks import SMP, is_smp, missing_library

pytestmark = pytest.mark.usefixtures("one_thread")

GENERAL = "smp:unet/resnet18"
QUICK = {"epochs": 1, "min_steps": 2, "batch_size": 2, "patch_size": 64, "seed": 0, "device": "cpu"}
installed = missing_library(GENERAL) is None
with_library = pytest.mark.skipif(not installed, reason="segmentation-models-pytorch is missing")


# ------------------------------------------------------------------------ without the library


@pytest.mark.skipif(installed, reason="segmentation-models-pytorch is installed")
@pytest.mark.parametrize("name", [*SMP, GENERAL])
def test_a_missing_library_is_named(name):
    sentence = f"The network {name} needs segmentation-models-pytorch: pip install "
    assert missing_library(name).startswith(sentence)
    with pytest.raises(ImportError, match=r"napari-metastructure\[networks\]"):
        build(name)
    with pytest.raises(ImportError, match="needs segmentation-models-pytorch"):
        nms.train(np.eye(64), np.eye(64, dtype=int), network=name, **QUICK).run(hidden=True)


def test_a_torchvision_that_does_not_fit_is_explained(monkeypatch):
    import builtins

    def failing(name, *arguments, **options):
        if name.startswith("segmentation_models"):
            raise RuntimeError("operator torchvision::nms does not exist\nmore")
        return imported(name, *arguments, **options)

    imported = builtins.__import__
    module = "napari_metastructure.learning.smp_networks"
    monkeypatch.setattr(f"{module}.missing_library", lambda name: None)
    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(
        ImportError, match="versions of torchvision and torch do not match"
    ) as error:
        build("hrnet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"network": "vnet"}, "or smp:ARCHITECTURE/ENCODER, not 'vnet'"),
        ({"network": "smp:unet"}, "or smp:ARCHITECTURE/ENCODER, not 'smp:unet'"),
        ({"network": "hrnet", "spatial_dims": 3}, r"hrnet is for planes \(2-D\) only"),
        ({"network": GENERAL, "patch_size": 96}, "multiple of 64"),
        ({"network": "unet", "pretrained": True}, "no pretrained weights for unet"),
    ],
)
def test_what_does_not_fit_is_refused(values, text):
    with pytest.raises(ValueError, match=text):
        TrainingConfig(**values)


def test_the_width_and_depth_are_their_own():
    config = TrainingConfig(network="deeplabv3plus", channels=4, depth=3)
    assert config.multiple == (32, 32)
    assert config.architecture((64, 64))["depth"] == 6
    assert not any(map(is_smp, ("unet", "segresnet", "smp:", "other/one")))


# --------------------------------------------------------------------------- with the library


@with_library
@pytest.mark.parametrize("name", [*SMP, GENERAL, "smp:fpn/tu-resnet18"])
@pytest.mark.parametrize(("in_channels", "out_channels"), [(1, 1), (4, 5)])
def test_one_map_per_class_of_any_channels(name, in_channels, out_channels):
    import torch

    before = torch.get_rng_state()
    first, same = (
        build(name, in_channels=in_channels, out_channels=out_channels, seed=3).eval()
        for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    image = torch.randn(2, in_channels, 64, 96)
    with torch.no_grad():
        assert first(image).shape == (2, out_channels, 64, 96)
        assert torch.equal(first(image), same(image))


@with_library
@pytest.mark.parametrize("name", ["smp:none/resnet18", "smp:unet/none"])
def test_unknown_parts_are_refused(name):
    with pytest.raises(ValueError, match="cannot build smp:") as error:
        build(name)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"planes \(2-D\) only"):
        build(GENERAL, spatial_dims=3)


@with_library
@pytest.mark.parametrize("name", [*SMP, GENERAL])
def test_trained_saved_and_gone_on_from(name, blobs, tmp_path):
    images, masks = blobs(2, seed=0, size=70)
    done = nms.train(images, masks, network=name, **QUICK).run(hidden=True)
    done.model.save(tmp_path / "model.safetensors")
    again = nms.load_model(tmp_path / "model.safetensors")
    np.testing.assert_allclose(again.predict(images[0]), done.model.predict(images[0]), atol=1e-3)
    further = nms.train(images, masks, model=again, **QUICK).run(hidden=True)
    assert further.model.architecture["network"] == name
