"""Packages for bioimage.io: what is in them, and back."""

import io
import zipfile

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from napari_metastructure import export_bioimageio, load_model
from napari_metastructure.learning.bioimageio_import import load_bioimageio
from tests.learning.packages import CASES, image, new_model

pytest.importorskip("bioimageio.spec")  # declared in the extra `testing`, so that CI has it
pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = {"name": "Blobs of a test", "authors": ["A. Biologist", "B. Physicist"]}


def content(path):
    """The description of a package, and all its files by name."""
    with zipfile.ZipFile(path) as file:
        files = {name: file.read(name) for name in file.namelist()}
    name = next(name for name in files if name.endswith(("rdf.yaml", "bioimageio.yaml")))
    return yaml.safe_load(files[name]), files


def foreign(path, tmp_path, change=lambda described: None):
    """The package as one that another program made."""
    described, files = content(path)
    del described["config"]
    change(described)
    other = tmp_path / "other.bioimageio.zip"
    with zipfile.ZipFile(other, "w") as file:
        for name, data in files.items():
            is_text = name.endswith(("rdf.yaml", "bioimageio.yaml"))
            file.writestr(name, yaml.safe_dump(described) if is_text else data)
    return other


@pytest.mark.parametrize("case", CASES)
def test_round_trip(case, tmp_path):
    model, picture = CASES[case]()
    model.threshold, model.threshold_source = 0.321, "test"
    model.record = {"operation": "train", "validation": {"dice": 0.9}, "noise": []}
    path = export_bioimageio(model, tmp_path / "blobs", picture, **TEXTS)
    assert path == tmp_path / "blobs.bioimageio.zip"
    again = load_model(path, "cpu")
    assert again.header() == model.header()
    np.testing.assert_array_equal(again.predict(picture), model.predict(picture))


@pytest.mark.parametrize("case", sorted(CASES.keys() - {"noise"}))
def test_without_our_header_it_predicts_the_same(case, tmp_path):
    model, picture = CASES[case]()
    path = export_bioimageio(model, tmp_path / "blobs", picture, **TEXTS)
    other = load_model(foreign(path, tmp_path), "cpu")
    if case == "colours":
        picture, expected = np.moveaxis(picture, -1, 0), model.predict(picture)
    else:
        expected = model.predict(picture)
    np.testing.assert_allclose(other.predict(picture), expected, atol=2e-5)


def test_what_is_in_a_package(tmp_path):
    model, picture = CASES["unet"]()
    model.record = {"operation": "train", "validation": {"dice": 0.876}, "noise": []}
    path = export_bioimageio(model, tmp_path / "x.zip", picture, license="MIT", **TEXTS)
    described, files = content(path)
    assert described["format_version"].startswith("0.5.")
    assert described["license"] == "MIT"
    assert [author["name"] for author in described["authors"]] == TEXTS["authors"]
    architecture = described["weights"]["pytorch_state_dict"]["architecture"]
    assert (architecture["callable"], architecture["import_from"]) == (
        "DynUNet",
        "monai.networks.nets",
    )
    state = torch.load(io.BytesIO(files["weights.pt"]), weights_only=True)
    assert all(type(tensor) is torch.Tensor for tensor in state.values())
    assert described["weights"]["torchscript"]["parent"] == "pytorch_state_dict"
    (source,), (result,) = described["inputs"], described["outputs"]
    before = {step["id"]: step.get("kwargs") for step in source["preprocessing"]}
    assert list(before)[:3] == ["ensure_dtype", "zero_mean_unit_variance", "clip"]
    assert before["zero_mean_unit_variance"]["axes"] == ["y", "x"]
    assert "sigmoid" in [step["id"] for step in result["postprocessing"]]
    readme = files["README.md"].decode()
    assert "## Validation" in readme
    assert "dice 0.876" in readme
    picture = Image.open(io.BytesIO(files["cover.png"]))
    assert [cover["source"] for cover in described["covers"]] == ["cover.png"]
    assert picture.width == 2 * picture.height
    test = np.load(io.BytesIO(files["test_input.npy"]))
    assert test.shape[:2] == (1, 1)
    assert np.load(io.BytesIO(files["test_output.npy"])).std() > 0


@pytest.mark.parametrize(
    ("case", "formats"),
    [
        ("classes", {"pytorch_state_dict", "torchscript"}),
        ("inverted", {"torchscript"}),  # MONAI has no attention U-Net of batch normalisation
        ("mirrors", {"torchscript"}),
        ("noise", {"torchscript"}),
    ],
)
def test_a_state_dict_only_where_monai_builds_the_whole(case, formats, tmp_path):
    model, picture = CASES[case]()
    described, _ = content(export_bioimageio(model, tmp_path / "x", picture, **TEXTS))
    assert set(described["weights"]) == formats


def test_outliers_that_other_programs_count_are_told(tmp_path):
    model, picture = CASES["unet"]()
    picture[0, 30, 30] = 60000
    with pytest.warns(UserWarning, match="leaves outliers out"):
        path = export_bioimageio(model, tmp_path / "x", picture, **TEXTS)
    assert "differ from the plugin's by at most" in content(path)[1]["README.md"].decode()


def test_a_test_image_without_objects(tmp_path):
    model, picture = CASES["unet"]()
    bias = [p for p in model.network.parameters() if p.shape == (1,)][-1]
    with torch.no_grad():
        bias -= 7
    assert model.predict(picture).max() < 0.05
    path = export_bioimageio(model, tmp_path / "x", picture, **TEXTS)
    (asked,) = content(path)[0]["config"]["bioimageio"]["reproducibility_tolerance"]
    assert 0 < asked["absolute_tolerance"] < 5e-4
    np.testing.assert_array_equal(load_model(path, "cpu").predict(picture), model.predict(picture))
    with torch.no_grad():
        bias -= 12
    with pytest.raises(ValueError, match="finds nothing at all in the middle of the image"):
        export_bioimageio(model, tmp_path / "y", picture, **TEXTS)
    assert not list(tmp_path.glob("y*"))


def test_a_small_image_is_filled_up(tmp_path):
    path = export_bioimageio(new_model(), tmp_path / "x", image(20, 17), **TEXTS)
    test = np.load(io.BytesIO(content(path)[1]["test_input.npy"]))
    assert test.shape == (1, 1, 36, 36)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ({"name": "x"}, "name"),
        ({"authors": [" "]}, "at least one author"),
        ({"license": "mine"}, "license should be an identifier of SPDX, such as .* MIT.$"),
    ],
)
def test_texts_that_the_format_refuses(texts, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        export_bioimageio(new_model(), tmp_path / "x", image(40, 40), **{**TEXTS, **texts})
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match="needs volumes"):
        export_bioimageio(new_model(spatial_dims=3), tmp_path / "x", image(40, 40), **TEXTS)
    missing = changed_pixels(image(40, 40))
    with pytest.raises(ValueError, match="NaN or infinity"):
        export_bioimageio(new_model(), tmp_path / "x", missing, **TEXTS)


def changed_pixels(picture):
    picture[20, 20] = np.nan
    return picture


def test_a_classifier_of_strokes_cannot_be_packaged(tmp_path):
    model = new_model()
    model.record = {"operation": "segment", "result": "classifier"}
    with pytest.raises(ValueError, match="other programs cannot run"):
        export_bioimageio(model, tmp_path / "x", image(40, 40), **TEXTS)


def test_without_the_library_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bioimageio.spec", None)
    with pytest.raises(ImportError, match=r"napari-metastructure\[bioimageio\]"):
        export_bioimageio(new_model(), tmp_path / "x", image(40, 40), **TEXTS)


# ------------------------------------------------------------------------------- other models


@pytest.fixture
def package(tmp_path):
    model, picture = CASES["unet"]()
    return export_bioimageio(model, tmp_path / "blobs", picture, **TEXTS)


def no_script(described):
    del described["weights"]["torchscript"]


def test_a_state_dict_of_monai(package, tmp_path):
    model, picture = CASES["unet"]()
    other = load_bioimageio(foreign(package, tmp_path, no_script))
    np.testing.assert_allclose(other.predict(picture), model.predict(picture), atol=2e-5)
    assert other.segment(picture).dtype == np.uint8


def test_no_code_of_a_package_is_run(package, tmp_path):
    def change(described):
        no_script(described)
        state = described["weights"]["pytorch_state_dict"]
        state["architecture"] = {"callable": "system", "import_from": "os", "kwargs": {}}

    with pytest.raises(ValueError, match="no weights that can be used here"):
        load_bioimageio(foreign(package, tmp_path, change))


def test_a_range_of_percentiles(package, tmp_path):
    def change(described):
        described["inputs"][0]["preprocessing"] = [
            {
                "id": "scale_range",
                "kwargs": {"axes": ["y", "x"], "min_percentile": 1, "max_percentile": 99},
            }
        ]

    other = load_bioimageio(foreign(package, tmp_path, change))
    plane = image(40, 44)
    low, high = np.percentile(plane, (1, 99))
    scaled = torch.from_numpy((plane - low) / (high - low + 1e-6))[None, None].float()
    with torch.inference_mode():
        expected = new_model().network.eval()(scaled).sigmoid()[0, 0].numpy()
    np.testing.assert_allclose(other.predict(plane), expected, atol=2e-5)


def test_tiles_of_the_only_size(package, tmp_path):
    def change(described):
        for axis in described["inputs"][0]["axes"][2:]:
            axis["size"] = 60

    model, other = new_model(), load_bioimageio(foreign(package, tmp_path, change))
    plane = image(60, 60)
    np.testing.assert_allclose(other.predict(plane), model.predict(plane), atol=2e-5)
    assert other.predict(image(70, 130)).shape == (70, 130)
    assert other.predict(image(20, 30)).shape == (20, 30)


def unknown_step(described):
    described["inputs"][0]["preprocessing"] = [
        {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 1, "std": 2}},
        {"id": "zero_mean_unit_variance"},
    ]


def other_axes(described):
    described["inputs"][0]["axes"].pop(1)


def stardist(described):
    described["outputs"][0]["postprocessing"] = [{"id": "binarize", "kwargs": {"threshold": 0.5}}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (unknown_step, "zero_mean_unit_variance"),
        (other_axes, "has the axes batch, y, x"),
        (stardist, "binarize"),
    ],
)
def test_what_cannot_be_used_is_said(package, tmp_path, change, said):
    with pytest.raises(ValueError, match=said):
        load_bioimageio(foreign(package, tmp_path, change))


def test_images_that_are_too_small_are_refused(package, tmp_path):
    other = load_bioimageio(foreign(package, tmp_path))
    with pytest.raises(ValueError, match="at least 36 x 36"):
        other.predict(image(20, 40))


def test_a_damaged_package(package, tmp_path):
    _, files = content(package)
    damaged = tmp_path / "damaged.zip"
    with zipfile.ZipFile(damaged, "w") as file:
        for name, data in files.items():
            file.writestr(name, data[:1000] if name.startswith("weights") else data)
    with pytest.raises(ValueError, match=r"damaged\.zip is damaged"):
        load_model(damaged)


def test_a_packaged_model_is_not_packed_again(package, tmp_path):
    other = load_model(foreign(package, tmp_path), "cpu")
    with pytest.raises(ValueError, match="share that file"):
        export_bioimageio(other, tmp_path / "x", image(40, 40), **TEXTS)
    with pytest.raises(ValueError, match="copy that file"):
        other.save(tmp_path / "x.safetensors")
