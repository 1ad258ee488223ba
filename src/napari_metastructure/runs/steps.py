"""What is repeated on other files: a model, or what records tell of, one step after the other."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_metastructure.files.fingerprint import fingerprint
from napari_metastructure.files.records import read_record
from napari_metastructure.files.results import MODEL
from napari_metastructure.runs.operations import config_of
from napari_metastructure.runs.run import repeatable

__all__ = ["OUTPUTS", "SOURCE", "Step", "plan"]

OUTPUTS = {
    "probabilities": "Probabilities",
    "objects": "Objects, numbered one by one",
    "table": "One table of all objects",
}
"""What can be asked of a batch besides labels, and what forms call it."""

SOURCE = "<file>"
"""As an input of a step: the file itself."""

_PACKAGE = ".zip"  # of bioimage.io
_MAIN = {"predict": "images", "segment": "images", "corrupt": "labels", "density": "labels"}
_MAIN |= {"measure": "labels"}
_NAMES = {  # of the folders of results
    ("corrupt", "output"): "noisy",
    ("density", "output"): "density",
    ("measure", "output"): "tables",
    ("measure", "summary"): "summaries",
    ("predict", "output"): "labels",
    ("segment", "output"): "labels",
    ("segment", "model"): "models",
}


@dataclass(frozen=True)
class Step:
    """An operation to be done on each file.

    Attributes
    ----------
    operation : str
        Name in `operations.OPERATIONS`.
    inputs : dict of {str: path, SOURCE or tuple}
        By role; a tuple is the number of an earlier step, and the role of its output.
    outputs : dict of {str: str}
        By role, the folder of its results.
    config : Parameters, optional
    options : dict
    """

    operation: str
    inputs: dict
    outputs: dict
    config: Any = None
    options: dict = field(default_factory=dict)

    @property
    def redraws(self) -> bool:
        """Whether each file should get random numbers of its own."""
        return self.operation == "corrupt"

    def ending(self, role: str) -> str:
        """Of the files of an output."""
        if role == "model":
            return MODEL
        return ".csv" if self.operation == "measure" and role != "objects" else ".ome.tif"

    def identity(self) -> dict:
        """What must be the same for two batches to be one, as JSON can hold it."""
        config = None if self.config is None else self.config.model_dump(mode="json")
        known = {"operation": self.operation, "config": config, "options": self.options}
        inputs = dict(self.inputs)
        if "model" in inputs:
            inputs["model"] = fingerprint(inputs["model"])["sha256"]
        return known | {"inputs": inputs, "outputs": self.outputs}


def plan(
    sources: Sequence[Any],
    outputs: Collection[str] = ("table",),
    *,
    objects: Any = None,
    device: str | None = None,
) -> list[Step]:
    """The steps that models and records stand for, in the order of their making.

    A step takes what an earlier one gives where the record says so; labels to be measured are
    those of the step before; else it takes the file itself.

    Parameters
    ----------
    sources : sequence of path
        Models (.safetensors, or packages of bioimage.io) or records (.record.json).
    outputs : collection of {"probabilities", "objects", "table"}
        What to make besides what the records tell; the table where images are segmented.
    objects : ObjectsConfig, optional
        How labels are split into objects, where no record tells it.
    device : str, optional
        In place of that of the records.

    Raises
    ------
    ValueError, FileNotFoundError
        With one sentence, if a source cannot be repeated on other files.
    """
    if not sources:
        raise ValueError("Give a model, or the record of a run, to repeat on the files.")
    unknown = set(outputs) - set(OUTPUTS)
    if unknown:
        raise ValueError(f"There is no output {unknown.pop()!r}; there are: {', '.join(OUTPUTS)}.")
    records = _in_order([_record(source) for source in sources])
    steps: list[Step] = []
    places: dict[str, Any] = {}
    for record in records:
        steps.append(_step(record, steps, places, outputs, device))
    operations = {step.operation for step in steps}
    wanted = "objects" in outputs or ("table" in outputs and operations & {"predict", "segment"})
    if wanted and "measure" not in operations:
        steps.append(_measuring(steps, objects))
    if "objects" in outputs:
        steps = [
            replace(step, outputs={**step.outputs, "objects": "objects"})
            if step.operation == "measure"
            else step
            for step in steps
        ]
    return steps


def _in_order(records):
    """Records as they were made: each after those whose results it took.

    What takes labels, perhaps of other files, comes after all that makes them of images.
    """

    def place(record):
        return _MAIN[record["operation"]] != "images", record.get("started", "")

    waiting, order = sorted(records, key=place), []
    while waiting:
        made = [{str(out["path"]) for out in record["outputs"].values()} for record in waiting]
        for number, record in enumerate(waiting):
            taken = {str(source["path"]) for source in record["inputs"].values()}
            if not any(taken & outputs for outputs in made[:number] + made[number + 1 :]):
                break
        else:
            number = 0  # results were written over since
        order.append(waiting.pop(number))
    return order


def _record(source):
    """The record of a source; for a model, that of a prediction."""
    path = Path(source).expanduser()
    if path.suffix in (MODEL, _PACKAGE):
        if not path.is_file():
            raise FileNotFoundError(f"There is no model {path}.")
        inputs = {"model": {"path": str(path.resolve())}}
        return {
            "operation": "predict",
            "inputs": inputs,
            "outputs": {},
            "options": {},
            "config": {},
        }
    record = read_record(path)
    _check_model(record)
    model = record["outputs"].get("model", {}).get("path")
    if record["operation"] == "train":
        raise ValueError(
            f"{path.name} is the record of a training; give its model, {model}, to apply it."
        )
    if record["operation"] not in _MAIN:
        raise ValueError(
            f"{path.name} is the record of an operation, {record['operation']}, that cannot be "
            "used in a batch."
        )
    if {"strokes", "labels"} & set(record["inputs"]) and record["operation"] == "segment":
        hint = f"give its model, {model}" if model else "repeat it with --model, and give the model"
        raise ValueError(
            f"{path.name} was trained on strokes or labels of its own images, which do not fit "
            f"others; {hint}."
        )
    return record


def _check_model(record):
    known = record["inputs"].get("model")
    if known and fingerprint(known["path"])["sha256"] != known["sha256"]:
        raise ValueError(
            f"The model {known['path']} has changed since it was recorded; give the model itself, "
            "in place of the record."
        )


def _step(record, steps, places, outputs, device):
    """The step of a record; `places` tells what stands for its files."""
    operation, number = record["operation"], len(steps)
    inputs = {}
    for role in dict.fromkeys([_MAIN[operation], *record["inputs"]]):
        path = str(record["inputs"].get(role, {}).get("path", ""))
        if role == "model":
            inputs[role] = path
            continue
        inputs[role] = places.get(path) or _input(operation, role, steps, path)
        places[path] = inputs[role]
    names = {role: _NAMES.get((operation, role), role) for role in _roles(record, outputs)}
    if {name for step in steps for name in step.outputs.values()} & set(names.values()):
        names = {role: f"{name}_{number + 1}" for role, name in names.items()}
    for role, output in record["outputs"].items():
        if role in names:
            places[str(output["path"])] = number, role
    options = repeatable(record)
    config = _config(record)
    if device is not None and operation == "predict":
        options["device"] = device
    elif device is not None and operation == "segment":
        config = type(config).of(config, device=device)
    return Step(operation, inputs, names, config, options)


def _config(record):
    """The recorded parameters; a pixel size that was that of the recorded file is left to each."""
    config = config_of(record)
    if record.get("pixel_size") == "of the file":
        return type(config)(**config.model_dump(exclude={"scale"}))
    return config


def _input(operation, role, steps, path):
    """What a step takes where no earlier record tells of its input."""
    labelled = _last_labels(steps)
    if role == "labels" and labelled is not None:
        return labelled
    if role == _MAIN[operation] or (role == "images" and labelled is not None):
        return SOURCE
    raise ValueError(f"The {role} of a recorded step, {path}, do not fit other files.")


def _roles(record, outputs):
    """The outputs of a step: those of its record, and those that are asked for."""
    always = {"predict": ["output"], "segment": ["output"], "measure": ["output", "summary"]}
    roles = [*always.get(record["operation"], ()), *record["outputs"]]
    if record["operation"] in ("predict", "segment") and "probabilities" in outputs:
        roles.append("probabilities")
    return dict.fromkeys(roles)


def _last_labels(steps):
    for number in reversed(range(len(steps))):
        if steps[number].operation in ("predict", "segment", "corrupt"):
            return number, "output"
    return None


def _measuring(steps, config):
    """A step that measures the last labels."""
    from napari_metastructure.labels.objects import ObjectsConfig

    labels = _last_labels(steps)
    if labels is None:
        raise ValueError("No step gives labels, so there are no objects to measure.")
    inputs = {"labels": labels}
    if steps[labels[0]].operation != "corrupt":
        inputs["images"] = SOURCE
    names = {role: _NAMES["measure", role] for role in ("output", "summary")}
    options = {"numbered": False, "skeleton": False}
    return Step("measure", inputs, names, config or ObjectsConfig(), options)
