"""What a newcomer sees in a console: the public names, their signatures and their help."""

import inspect
import pydoc
from types import ModuleType

import pytest

import napari_metastructure as nms

NAMES = [name for name in dir(nms) if name != "__version__"]
WITH_FIELDS = {
    "train": nms.TrainingConfig,
    "segment": nms.SegmentConfig,
    "sweep": nms.SweepConfig,
    "corrupt": nms.NoiseSpec,
}


def functions():
    """Public functions and classes, also those in the public modules, by their names."""
    for name in NAMES:
        found = getattr(nms, name)
        if isinstance(found, ModuleType):
            for inner in found.__all__:
                if inspect.isroutine(getattr(found, inner)) or inspect.isclass(
                    getattr(found, inner)
                ):
                    yield f"{name}.{inner}", getattr(found, inner)
        else:
            yield name, found


def test_public_names_are_told():
    promised = {"read", "write", "noise", "NoiseSpec", "corrupt", "transition", "density"}
    promised |= {"extraction", "metrics", "train", "segment", "sweep", "load_model", "batch"}
    assert promised <= set(dir(nms)) == set(nms.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_public_names_exist(name):
    assert getattr(nms, name) is not None


@pytest.mark.parametrize(
    ("name", "found"), list(functions()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_signature_and_help(name, found):
    assert inspect.getdoc(found), f"{name} has no docstring"
    kinds = {parameter.kind for parameter in inspect.signature(found).parameters.values()}
    if name.split(".")[0] in WITH_FIELDS:
        assert inspect.Parameter.VAR_KEYWORD not in kinds
    assert pydoc.plain(pydoc.render_doc(found)).count(name.split(".")[-1])


@pytest.mark.parametrize(("name", "model"), WITH_FIELDS.items())
def test_fields_are_listed_with_their_defaults(name, model):
    function = getattr(nms, name)
    signature, text = inspect.signature(function), inspect.getdoc(function)
    for field, info in model.model_fields.items():
        if (name, field) == ("corrupt", "kind"):  # the argument spec_or_kind
            continue
        assert signature.parameters[field].default == info.default
        assert f"\n{field} : " in text
        assert f"default {info.default!r}\n" in text


def test_a_job_tells_what_to_do_with_it():
    assert ".run()" in repr(nms.train([], []))
