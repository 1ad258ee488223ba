"""The base of the parameter models: what a field takes, and how the console shows it."""

import inspect
from typing import Literal

import pytest

from napari_metastructure.parameters import Field, Parameters, kind_of, with_fields_of, words


class Tea(Parameters):
    """How to make tea."""

    leaves: Literal["g", "b"] = Field(
        "g",
        title="Leaves",
        description="What is put into the pot.",
        json_schema_extra=words({"g": "green"}),
    )
    minutes: float = Field(3.0, gt=0, le=10, title="Minutes", description="Time to draw.")
    cups: int = Field(2, ge=2, le=8, multiple_of=2, title="Cups")
    sugar: int | None = Field(None, ge=0, title="Sugar")
    label: str = Field(title="Label")
    dates: int | tuple[int, ...] = Field(0)


@with_fields_of(Tea, leave_out=["label"])
def brew(water, *, dates=1, **params):
    """Make tea.

    Parameters
    ----------
    water : float
        Litres.
    **params
        Fields of `Tea`.

    Returns
    -------
    str
    """
    return params


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("leaves", "{'g', 'b'}"),
        ("minutes", "float above 0 to 10"),
        ("cups", "int from 2 to 8 and a multiple of 2"),
        ("sugar", "int at least 0 or None"),
        ("label", "str"),
        ("dates", "int or sequence"),
    ],
)
def test_kind_in_words(name, text):
    assert kind_of(Tea.model_fields[name]).text == text


def test_choices_have_words():
    assert kind_of(Tea.model_fields["leaves"]).choices == {"g": "green", "b": "b"}
    assert kind_of(Tea.model_fields["cups"]).choices == {}


def test_docstring_of_a_model_lists_its_fields():
    assert Tea.__doc__.startswith("How to make tea.\n\nParameters\n----------\nleaves : {'g', 'b'}")
    assert "minutes : float above 0 to 10, default 3.0\n    Time to draw." in Tea.__doc__
    assert "label : str, required\n    Label" in Tea.__doc__


def test_function_shows_the_fields_in_place_of_params():
    signature = inspect.signature(brew)
    assert list(signature.parameters) == ["water", "dates", "leaves", "minutes", "cups", "sugar"]
    assert signature.parameters["minutes"].default == 3.0
    assert signature.parameters["minutes"].annotation is float
    assert signature.parameters["dates"].default == 1  # the function's own
    before, after = inspect.getdoc(brew).split("minutes : float above 0 to 10, default 3.0")
    assert "Fields of `Tea`.\nleaves" in before
    assert after.endswith("Returns\n-------\nstr")
    assert "label" not in before + after


def test_function_itself_is_unchanged():
    assert brew(1, minutes=4) == {"minutes": 4}
