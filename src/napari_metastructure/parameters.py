"""The base of every parameter model.

One pydantic model per operation makes the form and its tooltips, the command
line options, the console signature and the run record. Each field has a title
(the form's label), a description (the tooltip) and its bounds.
"""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = ["Field", "Parameters"]


class Parameters(BaseModel):
    """Immutable, strict about names, and brief about what is wrong.

    Raises
    ------
    ValueError
        One sentence that names each field that does not fit, and why.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ValueError(_one_sentence(type(self), error)) from None

    @classmethod
    def of(cls, config=None, **values):
        """The given config (a model, a mapping or None) with some values replaced."""
        base = config.model_dump(exclude_unset=True) if isinstance(config, BaseModel) else config
        return cls(**{**(base or {}), **values})


def _one_sentence(model, error):
    problems = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"]) or "parameters"
        if problem["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            problems.append(f"there is no parameter {name!r} (there are: {known})")
            continue
        if problem["type"] == "missing":
            problems.append(f"{name} is missing")
            continue
        reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        if problem["type"] == "value_error":
            problems.append(reason.rstrip("."))
        else:
            problems.append(f"{name} should be {reason}, not {problem['input']!r}")
    return f"{model.__name__}: {'; '.join(problems)}."
