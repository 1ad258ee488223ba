"""Exported packages, run by the library that other programs use: ``tox run -e zoo``.

In an environment of its own, as bioimageio.core asks for older releases than we do.
"""

import numpy as np
import pytest

from napari_metastructure import export_bioimageio
from tests.learning.packages import CASES

core = pytest.importorskip("bioimageio.core", reason="it has an environment of its own: zoo")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("default"),  # of others, about each other
]


@pytest.mark.parametrize("case", CASES)
def test_prediction_is_ours(case, tmp_path):
    from bioimageio.spec import load_model_description

    model, picture = CASES[case]()
    path = export_bioimageio(
        model, tmp_path / "x", picture, name="Test model", authors=["A. Biologist"]
    )
    described = load_model_description(path)
    whole = whole_planes(model, picture)
    expected = model.predict(whole)
    if len(model.classes) > 2:
        expected = np.moveaxis(model.undo_noise(expected), 0, -model.spatial_dims - 1)
    for format in ("pytorch_state_dict", "torchscript"):
        if getattr(described.weights, format) is None:
            continue
        summary = core.test_model(described, weight_format=format)
        assert summary.status == "passed", summary.format()
        found = run(described, format, channels_first(model, whole))
        found = found.reshape(expected.shape)
        assert np.abs(found - expected).max() < 1e-4
        print(f"{case}, {format}: largest difference {np.abs(found - expected).max():.1e}")


def whole_planes(model, picture):
    """The first plane or volume, cut to sides that the network takes as they are."""
    axes = model.spatial_dims + (model.channel_axis is not None)
    while picture.ndim > axes:
        picture = picture[0]
    least = [side // step * step for side, step in zip(picture.shape, model.multiple)]
    whole = picture[tuple(slice(side) for side in least)]
    short = [max(0, 9 * step - side) for side, step in zip(whole.shape, model.multiple)]
    missing = [(0, m) for m in short] + [(0, 0)] * (whole.ndim - model.spatial_dims)
    return np.pad(whole, missing, mode="reflect")


def channels_first(model, whole):
    channels = np.moveaxis(whole, -1, 0) if model.channel_axis is not None else whole[np.newaxis]
    return channels[np.newaxis]


def run(described, format, tensor):
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model

    with create_prediction_pipeline(described, weight_format=format) as pipeline:
        sample = create_sample_for_model(described, inputs={"image": tensor})
        result = pipeline.predict_sample_without_blocking(
            sample,
            skip_input_padding=True,  # it would see mirrored pixels where we see the image's end
            skip_output_cropping=True,
        )
    return next(iter(result.members.values())).data.values
