import pytest
import torch

from napari_metastructure.jobs.devices import pick_device
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.learning.networks import NETWORKS, build
from napari_metastructure.learning.smp_networks import SMP
from napari_metastructure.parameters import kind_of

pytestmark = pytest.mark.usefixtures("one_thread")


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("spatial_dims", "channels", "depth", "out_channels", "sides"),
    [
        (2, 4, 4, 1, (24, 40)),
        (2, 2, 3, 5, (16, 12)),
        (2, 3, 6, 1, (32, 64)),
        (3, 4, 3, 3, (4, 8, 12)),
        (3, 2, 4, 1, (8, 16, 8)),
    ],
)
def test_one_map_per_output_channel(name, spatial_dims, channels, depth, out_channels, sides):
    network = build(
        name, spatial_dims=spatial_dims, channels=channels, depth=depth, out_channels=out_channels
    )
    logits = network(torch.randn(2, 1, *sides))
    assert logits.shape == (2, out_channels, *sides)
    logits.mean().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_width_and_depth_add_weights(name):
    small = count(build(name, channels=4, depth=3))
    assert 3.5 * small < count(build(name, channels=8, depth=3)) < 4.5 * small
    assert 3 * small < count(build(name, channels=4, depth=4))


@pytest.mark.parametrize("name", NETWORKS)
def test_several_image_channels(name):
    network = build(name, in_channels=3, channels=4, depth=3)
    assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("name", NETWORKS)
def test_seed_sets_the_weights_and_leaves_the_global_state(name):
    before = torch.get_rng_state()
    first, same, other = (build(name, channels=4, depth=3, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [torch.cat([p.ravel() for p in n.parameters()]) for n in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_pixels_out_of_reach_have_no_influence(name, spatial_dims):
    """In evaluation mode nothing is pooled over the whole image, as tiled prediction needs."""
    network = build(name, spatial_dims=spatial_dims, channels=2, depth=3, seed=0).eval()
    image = torch.zeros(1, 1, *[8] * (spatial_dims - 1), 96)
    bright = image.clone()
    bright[..., :8] = 100
    with torch.no_grad():
        change = (network(bright) - network(image)).abs().flatten(0, -2).amax(0)
    assert change[:8].max() > 0
    assert change[-32:].max() == 0


def test_unknown_network():
    with pytest.raises(ValueError, match="no network 'vnet'; there are: unet, "):
        build("vnet")


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type in ("cpu", "cuda", "mps")
    for device in ("cuda:99", "xpu", "meta"):
        with pytest.raises(ValueError, match=f"This machine has no device '{device}'"):
            pick_device(device)
    with pytest.raises(ValueError, match="no device 'gpu'; use auto, cpu, cuda:0 or mps"):
        pick_device("gpu")


def test_every_network_can_be_chosen():
    kind = kind_of(TrainingConfig.model_fields["network"])
    assert list(kind.choices) == [*NETWORKS, *SMP]
    assert kind.choices["unet"] == "U-Net"
