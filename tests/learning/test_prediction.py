import numpy as np
import pytest
import torch

from napari_metastructure.jobs.events import Progress, Result
from napari_metastructure.learning.model import SegmentationModel
from napari_metastructure.learning.networks import NETWORKS
from napari_metastructure.learning.prediction import predict, predict_tiles

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


def test_mirror_images_can_be_stopped_between():
    """Four of a tile of a volume take seconds."""
    network = Logits(lambda x: x)
    tiles = predict_tiles(network, noise(32, 32), multiple=8, flips=True)
    for mirrored in (1, 2, 3):
        assert next(tiles) == (0, 1)
        assert len(network.shapes) == mirrored
    assert next(tiles) == (1, 1)
    assert len(network.shapes) == 4


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
    *events, result = predict(made, image, tile=32)
    progress = [event for event in events if isinstance(event, Progress)]
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


# ----------------------------------------------------------------- larger than memory


class Kept:
    """What can be written on by index, and notes how."""

    def __init__(self, shape, dtype=np.float32, chunks=None):
        self.array = np.full(shape, 7, dtype)
        self.shape, self.dtype, self.ndim = shape, self.array.dtype, len(shape)
        self.chunks = chunks or (1,) * len(shape)
        self.written = []

    def __setitem__(self, where, block):
        self.written.append(where)
        self.array[where] = block


@pytest.mark.parametrize(
    ("spatial_dims", "shape", "slabs"),
    [(2, (2, 150, 40), 8), (2, (150, 70), 4), (3, (130, 20, 33), 5)],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_is_done_is_written_at_once_and_is_the_same(
    model, spatial_dims, shape, slabs, batch_size
):
    made, image = model("unet", spatial_dims), noise(*shape)
    options = {"tile": 40, "overlap": 0.3, "batch_size": batch_size}
    out = Kept(shape)
    assert made.predict(image, out=out, **options) is out
    np.testing.assert_array_equal(out.array, made.predict(image, **options))
    assert len(out.written) >= (slabs if batch_size == 1 else 2)
    out = Kept(shape, chunks=(1, 64, 64))
    made.predict(image, out=out, **options)
    np.testing.assert_array_equal(out.array, made.predict(image, **options))
    if spatial_dims == 2:
        assert all(where[-1].start % 64 == 0 for where in out.written)


def test_planes_are_read_when_their_turn_comes(model):
    zarr = pytest.importorskip("zarr")
    made, image = model("unet", 2), noise(3, 70, 90)
    lazy = zarr.create_array(zarr.storage.MemoryStore(), data=image, chunks=(1, 40, 40))
    expected = made.predict(image, tile=40)
    out, read = Kept(image.shape), []
    usual = type(lazy).__getitem__
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(lazy), "__getitem__", lambda *a: read.append(a[1]) or usual(*a))
        for plane, *_ in made.predicting(lazy, out=out, tile=40):
            assert {where[0].start for where in read} == set(range(plane + 1))
        assert len(read) == 3 * 6  # each chunk once
    np.testing.assert_allclose(out.array, expected, atol=1e-6)


@pytest.mark.parametrize("classes", [[0, 1], [0, 3, 7]])
def test_labels_alone(classes):
    made = SegmentationModel(
        {
            "network": "unet",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 1 if len(classes) == 2 else len(classes),
            "channels": 4,
            "depth": 3,
        },
        classes,
        seed=0,
    )
    image = noise(2, 50, 60)
    expected = made.segment(image)
    found = made.predict(image, labels=True)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 1
    out = Kept(image.shape, np.uint8)
    made.predict(image, out=out, labels=True, tile=64)
    np.testing.assert_array_equal(out.array, expected)
    out = Kept((*image.shape,) if len(classes) == 2 else (len(classes), *image.shape), np.float16)
    np.testing.assert_allclose(made.predict(image, out=out).array, made.predict(image), atol=1e-3)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((8, 9), np.float32), r"shape \(8, 8\), but out has \(8, 9\)"),
        (np.zeros((8, 8), np.uint8), "Probabilities need an out of floats, not uint8"),
    ],
)
def test_out_that_does_not_fit(model, out, message):
    with pytest.raises(ValueError, match=message):
        model("unet", 2).predict(np.ones((8, 8)), out=out)


def test_result_in_a_file_is_marked_partial_until_it_is_whole(model, tmp_path):
    pytest.importorskip("zarr")
    from napari_metastructure.files.ome_zarr import create_image, open_image

    made, image = model("unet", 2), noise(3, 40, 40)
    whole = create_image(tmp_path / "whole.ome.zarr", image.shape, "float32")
    *_, result = predict(made, image, out=whole)
    assert result == Result(whole)
    opened = open_image(tmp_path / "whole.ome.zarr")
    assert opened.complete
    assert opened.record["operation"] == "predict"
    np.testing.assert_array_equal(opened[:], made.predict(image))

    part = create_image(tmp_path / "part.ome.zarr", image.shape, "float32")
    job = predict(made, image, out=part)
    next(job)
    job.stop()
    assert list(job) == [Result(part, stopped=True)]
    opened = open_image(tmp_path / "part.ome.zarr", missing="fill")
    assert not opened.complete
    np.testing.assert_array_equal(opened[0], made.predict(image[0]))


def test_memory_map_is_written_on(model, tmp_path):
    made, image = model("unet", 2), noise(2, 40, 40)
    out = np.memmap(tmp_path / "out", np.float32, "w+", shape=image.shape)
    made.predict(image, out=out)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "out", np.float32), out.ravel())
    np.testing.assert_array_equal(out, made.predict(image))
