"""What is in a file: an image, a model or a record, in a few lines."""

import warnings
from pathlib import Path
from typing import Any

from napari_metastructure.files.pairs import folder_layout
from napari_metastructure.files.read import read, read_pair
from napari_metastructure.files.records import read_record
from napari_metastructure.files.results import MODEL
from napari_metastructure.words import counted

__all__ = ["describe"]


def describe(path: str | Path) -> Any:
    """Lines of text on an image, a folder, a model, a record, or the results of many runs."""
    path = Path(path)
    if (path / "sweep.csv").is_file():
        return _sweep(path)
    if (path / "batch.json").is_file():
        return _batch(path)
    if path.suffix == MODEL or _is_package(path):
        return _model(path)
    if path.suffix == ".json":
        return _record(path)
    if path.suffix == ".csv":
        return _table(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        lines = _pair(path) if folder_layout(path) else _pixels(read(path))
    said = [str(w.message) for w in caught if w.category is UserWarning]
    return lines + list(dict.fromkeys(said))


def _pair(path):
    said: list[str] = []
    images, labels = read_pair(path, say=said.append)
    parts = ("images", images), ("labels", labels)
    lines = [f"{what}: {line}" for what, pixels in parts for line in _pixels(pixels)]
    return [f"images and labels, {len(images.names)} of each", *said, *lines]


def _is_package(path):
    if path.suffix != ".zip":
        return False
    from napari_metastructure.learning.bioimageio_import import is_package

    return is_package(path)


def _pixels(pixels):
    arrays = pixels.arrays
    shapes = sorted({array.shape for array in arrays})
    shape = " x ".join(map(str, shapes[0]))
    lines = [f"{shape} ({pixels.axes}), {arrays[0].dtype}"]
    if len(shapes) > 1:
        lines = [f"{len(arrays)} arrays of {len(shapes)} shapes ({pixels.axes}), {arrays[0].dtype}"]
    sizes = [
        f"{axis} {size:g} {unit}"
        for axis, size, unit in zip(pixels.axes, pixels.scale, pixels.units)
        if unit != "pixel"
    ]
    if sizes:
        lines.append("pixel size: " + ", ".join(sizes))
    if len(pixels.names) > 1:
        lines.append(f"names: {pixels.names[0]} to {pixels.names[-1]}")
    if not pixels.complete:
        lines.append("partial: the run that makes it has not finished")
    if pixels.record:
        lines.append(f"made by: {pixels.record.get('operation', 'this program')}")
    return lines


def _model(path):
    from napari_metastructure.learning.loading import load_model

    model = load_model(path, "cpu")
    made = model.record
    network = {**model.architecture}
    lines = [
        f"{network.pop('network')}, " + ", ".join(f"{k} {v}" for k, v in network.items()),
        f"classes: {', '.join(map(str, model.classes))}",
    ]
    if len(model.classes) == 2:
        lines.append(f"threshold {model.threshold:.3f}: {model.threshold_source}")
    if model.by_classifier:
        lines.append("the classifier of the strokes predicts, not the network")
    if model.inverted:
        lines.append("its output is inverted")
    if model.caution:
        lines.append(model.caution)
    if made:
        when, how = made.get("started", "?"), made.get("operation", "?")
        lines.append(f"made by {how} on {when}, {made.get('steps', '?')} steps")
        scores = made.get("validation") or {}
        if scores:
            told = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
            against = made.get("validated_on") or "validation labels"
            lines.append(f"compared with the {against}, noisy or not: {told}")
    return lines


def _table(path):
    import pandas as pd

    table = pd.read_csv(path)
    return [f"table of {len(table)} rows", f"columns: {', '.join(table.columns)}"]


def _sweep(folder):
    import pandas as pd

    from napari_metastructure.sweep.report import summary

    table = pd.read_csv(folder / "sweep.csv").astype(object)
    rows = table.where(table.notna(), None).to_dict("records")
    return [f"a sweep of {counted(len(rows), 'run')}, with the report sweep.html", summary(rows)]


def _batch(folder):
    tables = [path for path in (folder / "objects.csv", folder / "summary.csv") if path.is_file()]
    told = [f"{path.name}: {line}" for path in tables for line in _table(path)]
    return ["results of a batch, a folder for each kind of output", *told]


def _record(path):
    record = read_record(path)
    lines = [f"{record['operation']} on {record.get('started')}, {record.get('seconds')} s"]
    for kind in ("inputs", "outputs"):
        for role, known in record.get(kind, {}).items():
            lines.append(f"{kind[:-1]} {role}: {known['path']}")
    settings = ", ".join(f"{k} {v}" for k, v in record["config"].items() if v is not None)
    lines.append(f"settings: {settings}" if settings else "no settings")
    lines += [f"{what}: yes" for what in ("stopped", "partial") if record.get(what)]
    return lines
