import numpy as np
import pytest
import torch

from napari_metastructure.events import Progress, Result
from napari_metastructure.model import SegmentationModel
from napari_metastructure.networks import NETWORKS
from napari_metastructure.prediction import predict, predict_tiles

pytestmark = pytest.mark.usefixtures("one_thread")


class Logits(torch.nn.Module):
    """Stands in for a network: a function of the image, one output channel per bias."""

    def __init__(self, function, biases=(0.0,)):
        super().__init__()
        self.function = function
        self.biases = torch.nn.Parameter(torch.tensor(biases))
        self.shapes = []

    def forward(self, x):
        self.shapes.append(tuple(x.shape))
        return self.function(x) + self.biases.reshape(1, -1, *[1] * (x.ndim - 2))


def run(network, image, **tiling):
    tiles = predict_tiles(network, image, **{"multiple": 8, **tiling})
    seen = []
    while True:
        try:
            seen.append(next(tiles))
        except StopIteration as end:
            return end.value, seen


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    """A network with a reach of about 20 pixels, and statistics of its own."""

    def make(name, spatial_dims):
        made = SegmentationModel(
            {
                "network": name,
                "spatial_dims": spatial_dims,
                "in_channels": 1,
                "out_channels": 1,
                "channels": 4,
                "depth": 3,
            },
            [0, 1],
            seed=0,
        )
        with torch.no_grad():
            for _ in range(30):
                made.network.train()(torch.from_numpy(noise(2, 1, *[16] * spatial_dims)))
        return made

    return make


# ----------------------------------------------------------------- tiles


@pytest.mark.parametrize(
    "shape", [(5, 7), (64, 64), (65, 40), (130, 301), (9, 33, 20), (40, 7, 70)]
)
@pytest.mark.parametrize("overlap", [0, 0.1, 0.5, 0.9])
def test_pixelwise_network_is_the_same_in_tiles_of_any_size(shape, overlap):
    image = noise(*shape)
    probability, _ = run(Logits(lambda x: 2 * x), image, tile=32, overlap=overlap)
    assert probability.shape == (1, *shape)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability[0], 1 / (1 + np.exp(-2 * image)), atol=1e-6)


@pytest.mark.parametrize("shape", [(70, 90), (20, 40, 50)])
def test_constant_network_stays_constant(shape):
    probability, _ = run(Logits(lambda x: 0 * x, (1.0, 2.0, 4.0)), noise(*shape), tile=32)
    expected = np.exp([1, 2, 4]) / np.exp([1, 2, 4]).sum()
    assert probability.shape == (3, *shape)
    for channel, value in zip(probability, expected):
        np.testing.assert_allclose(channel, value, rtol=1e-6)


def test_tiles_are_of_the_wanted_size_on_the_network_grid():
    places = Logits(lambda x: x)
    image = np.arange(101 * 203, dtype=np.float32).reshape(101, 203)
    corners = []
    places.function = lambda x: corners.extend(x[:, 0, 0, 0].tolist()) or 0 * x
    run(places, image, tile=38, overlap=0.25, batch_size=3)
    assert {shape[2:] for shape in places.shapes} == {(40, 40)}
    assert max(shape[0] for shape in places.shapes) == 3
    rows, columns = np.divmod(np.array(corners).astype(int), 203)
    assert (rows % 8 == 0).all()
    assert (columns % 8 == 0).all()
    assert max(np.diff(np.unique(columns))) <= 30  # at least a quarter in common


def test_progress_counts_tiles():
    _, seen = run(Logits(lambda x: x), noise(64, 64), tile=32, overlap=0, batch_size=3)
    assert seen == [(3, 4), (4, 4)]


@pytest.mark.parametrize(("shape", "side"), [((512, 40), 512), ((100, 8, 8), 96)])
def test_default_tile(shape, side):
    network = Logits(lambda x: x)
    run(network, noise(*shape))
    assert {s[2] for s in network.shapes} == {side}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("shape", "tile", "overlap"),
    [((201, 163), 112, 0.6), ((20, 60, 131), 96, 0.7)],
)
def test_tiles_with_enough_context_give_the_whole_image(model, name, shape, tile, overlap):
    """Everywhere: only tiles that see as much as the whole image does have a say."""
    made = model(name, len(shape))
    image = noise(*shape)
    whole = made.predict(image, tile=256)
    tiled = made.predict(image, tile=tile, overlap=overlap)
    assert whole.std() > 0.01
    np.testing.assert_allclose(tiled, whole, atol=2e-4)


def test_little_overlap_stays_close(model):
    made = model("unet", 2)
    image = noise(201, 163)
    difference = abs(made.predict(image, tile=64) - made.predict(image, tile=256))
    assert difference.mean() < 0.03
    assert difference.max() > 0


def test_flips_average_the_mirror_images():
    slope = torch.linspace(-3, 3, 32)

    def function(x):
        return 0 * x + slope[: x.shape[-1]]  # brighter to the right, whatever the image

    plain, _ = run(Logits(function), noise(32, 32))
    flipped, _ = run(Logits(function), noise(32, 32), flips=True)
    assert plain[0, :, -1].mean() > 0.9
    np.testing.assert_allclose(flipped, 0.5, atol=1e-6)


# ----------------------------------------------------------------- the model's predict


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("spatial_dims", "shape"),
    [(2, (3, 5)), (2, (2, 3, 17, 21)), (3, (2, 9, 11)), (3, (2, 5, 8, 13))],
)
def test_predicts_images_and_stacks_of_any_size(model, name, spatial_dims, shape):
    made = model(name, spatial_dims)
    image = (100 * noise(*shape)).astype(np.int16)
    probability = made.predict(image)
    assert probability.shape == shape
    assert probability.dtype == np.float32
    one = made.predict(image[0]) if len(shape) > spatial_dims else probability
    np.testing.assert_allclose(probability[0] if len(shape) > spatial_dims else one, one, atol=1e-5)


def test_brightness_and_contrast_do_not_matter(model):
    made = model("unet", 2)
    image = noise(40, 40)
    np.testing.assert_allclose(made.predict(7 * image + 100), made.predict(image), atol=1e-4)


def test_prediction_leaves_the_network_as_it_was(model):
    made = model("unet", 2)
    before = {name: value.clone() for name, value in made.network.state_dict().items()}
    for training in (True, False):
        made.network.train(training)
        made.predict(noise(40, 40))
        assert made.network.training == training
    assert all(
        torch.equal(value, before[name]) for name, value in made.network.state_dict().items()
    )


def test_prediction_as_a_job(model):
    made = model("unet", 2)
    image = noise(3, 40, 40)
    *progress, result = predict(made, image, tile=32)
    assert [p.done for p in progress] == list(range(1, 13))
    assert progress[-1] == Progress("predicting", 12, 12)
    np.testing.assert_array_equal(result.value, made.predict(image, tile=32))

    job = predict(made, image, tile=32)
    next(job)
    job.stop()
    assert list(job) == [Result(None, stopped=True)]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((8, 8), np.nan), "NaN or infinity"),
        (np.zeros(8), "fewer than 2 axes"),
        (np.zeros((0, 8)), "no pixels"),
    ],
)
def test_images_that_cannot_be_predicted(model, image, message):
    with pytest.raises(ValueError, match=message):
        model("unet", 2).predict(image)
