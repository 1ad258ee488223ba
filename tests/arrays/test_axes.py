"""What the axes of an image mean, and networks that follow the shape of voxels."""

import dask.array as da
import numpy as np
import pytest
import torch

from napari_metastructure.arrays.axes import Layout, channels_first, multiples, strides
from napari_metastructure.few_labels.configs import SegmentConfig
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.learning.networks import build


@pytest.mark.parametrize(
    ("shape", "known", "said"),
    [
        ((64, 48), {}, "1 plane of 64 x 48, trained as 2-D"),
        ((20, 256, 256), {}, "20 planes of 256 x 256, trained as 2-D"),
        ((20, 256, 256), {"axis_labels": "tyx"}, "20 frames of 256 x 256, trained as 2-D"),
        (
            (51, 120, 122),
            {"spatial_dims": 3, "scale": (2.18, 1, 1)},
            "51 planes as one volume of 51 x 120 x 122, voxel z:y:x 2.18:1:1, trained as 3-D",
        ),
        (
            (5, 20, 64, 64),
            {"axis_labels": ("time", "z", "y", "x")},
            "5 frames x 20 planes of 64 x 64, trained as 2-D",
        ),
        (
            (5, 20, 64, 64),
            {"axis_labels": "tzyx", "spatial_dims": 3, "scale": (9, 1, 0.5, 0.5)},
            "5 frames, each a volume of 20 x 64 x 64, voxel z:y:x 2:1:1, trained as 3-D",
        ),
        ((3, 64, 48), {"axis_labels": "cyx"}, "1 plane of 64 x 48, 3 channels, trained as 2-D"),
        (
            (3, 64, 48),
            {"labels_shape": (64, 48), "channel": 1},
            "1 plane of 64 x 48, channel 1 of 0 to 2, trained as 2-D",
        ),
        (
            (7, 2, 64, 48),
            {"channel_axis": 1, "channel": "mean"},
            "7 planes of 64 x 48, mean of 2 channels, trained as 2-D",
        ),
        ((64, 48, 4), {"rgb": True}, "1 plane of 64 x 48, 3 colours, trained as 2-D"),
        ((64, 48), {"spatial_dims": 3}, "1 plane of 64 x 48, trained as 2-D"),
        ((3, 64, 48), {"axis_labels": ("-3", "-2", "-1")}, "3 planes of 64 x 48, trained as 2-D"),
    ],
)
def test_a_form_says_what_was_understood(shape, known, said):
    assert Layout.of(shape, **known).describe() == said


@pytest.mark.parametrize("kind", [np.asarray, da.asarray])
def test_what_the_network_sees(kind):
    image = kind(np.arange(5 * 3 * 8 * 9).reshape(5, 3, 8, 9))
    layout = Layout.of(image.shape, channel_axis=1)
    assert layout.label_shape == (5, 8, 9)
    assert layout.input_axis == 1
    assert layout.taken(image).shape == image.shape
    one = Layout.of(image.shape, channel_axis=1, channel=2)
    assert one.input_axis is None
    np.testing.assert_array_equal(one.taken(image), image[:, 2])
    mean = Layout.of(image.shape, channel_axis=1, channel="mean").taken(image)
    np.testing.assert_allclose(mean, np.asarray(image).mean(1))
    colours = Layout.of((8, 9, 4), rgb=True)
    assert colours.taken(np.zeros((8, 9, 4))).shape == (8, 9, 3)
    np.testing.assert_array_equal(channels_first(image, 1, 2), image)
    assert channels_first(image, 1, 3).shape == (3, 5, 8, 9)
    assert channels_first(image, -1).shape == (5, 9, 3, 8)


@pytest.mark.parametrize(
    ("image", "axis", "says"), [((3, 8, 8), 3, "no axis 3"), ((8, 8), 0, "too small")]
)
def test_axes_that_are_not_there(image, axis, says):
    with pytest.raises(ValueError, match=says):
        channels_first(np.zeros(image), axis)


@pytest.mark.parametrize(
    ("anisotropy", "expected"),
    [(1, (8, 8, 8)), (1.9, (8, 8, 8)), (2.18, (4, 8, 8)), (5, (2, 8, 8)), (20, (1, 8, 8))],
)
def test_coarse_axes_are_halved_later(anisotropy, expected):
    assert multiples(4, 3, anisotropy) == expected
    config = TrainingConfig(spatial_dims=3, anisotropy=anisotropy)
    assert config.multiple == expected
    assert all(side % m == 0 for side, m in zip(config.patch_shape, expected))
    z, y, x = config.patch_shape
    assert y == x == config.patch_size
    assert abs(z * anisotropy - y) <= max(expected[0], 1) * anisotropy / 2
    network = build("unet", spatial_dims=3, channels=2, anisotropy=anisotropy, seed=0).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 1, expected[0], 16, 16)).shape[2:] == (expected[0], 16, 16)


def test_a_coarse_axis_is_seen_only_where_it_is_halved():
    assert strides(4, 3, 2.18) == [(1, 2, 2), (2, 2, 2), (2, 2, 2)]
    network = build("unet", spatial_dims=3, channels=2, depth=3, anisotropy=3, seed=0)
    kernels = [m.kernel_size for m in network.modules() if isinstance(m, torch.nn.Conv3d)]
    assert kernels[0] == (1, 3, 3)
    assert (3, 3, 3) in kernels
    cubes = build("unet", spatial_dims=3, channels=2, depth=3, seed=0)
    assert all(
        m.kernel_size[0] in (1, 3) and len(set(m.kernel_size)) == 1
        for m in cubes.modules()
        if isinstance(m, torch.nn.Conv3d)
    )


def test_networks_that_take_voxels_for_cubes():
    config = TrainingConfig(network="segresnet", spatial_dims=3, anisotropy=4)
    assert config.multiple == (8, 8, 8)
    assert config.architecture((8, 8, 8))["anisotropy"] == 1
    assert config.patch_shape == (16, 64, 64)


def test_volumes_get_smaller_patches():
    assert (TrainingConfig().patch_size, TrainingConfig().batch_size) == (128, 8)
    volumes = TrainingConfig(spatial_dims=3)
    assert (volumes.patch_size, volumes.batch_size) == (64, 2)
    assert TrainingConfig(spatial_dims=3, patch_size=32).patch_size == 32
    paper = SegmentConfig(mode="paper", spatial_dims=3)
    assert (paper.patch_size, paper.batch_size, paper.channels) == (64, 2, 64)
