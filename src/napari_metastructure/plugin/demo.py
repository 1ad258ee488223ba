"""The main job in a real napari window, through the same dock widgets that a user clicks.

Sample images are opened, their labels corrupted in two ways, a network trained on each, and each
segmentation scored on images that no training has seen.
"""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from napari_metastructure.plugin.system_packages import has_display, how_to_install, missing

__all__ = ["run"]

_TITLE = "Meta-structure segmentation"
_PLUGIN = "napari-metastructure"
_CORRUPTIONS = ({"kind": "sample", "fraction": 0.1}, {"kind": "flip", "ratio": 0.45})
_CHANNELS = 8
_HELD_BACK = 0.25
_TIME_LIMIT = 3600  # seconds per training


def run(
    output: str | Path = "demo",
    sample: str = "er",
    epochs: int = 40,
    keep_open: bool | None = None,
) -> Any:
    """Run the demo; leaves a screenshot, the layers and a table of scores.

    Parameters
    ----------
    output : str or path
        Folder for the results, made if need be.
    sample : str
        Key of a sample set: "er", "mitochondria" or "nuclei".
    epochs : int
        Length of each training.
    keep_open : bool, optional
        Leave the window open at the end; by default where there is a display.

    Returns
    -------
    list of dict
        One row of scores per training.

    Raises
    ------
    RuntimeError
        If Qt or system libraries that the window needs are missing, or if it fails on a virtual
        display.
    """
    _check_for_window()
    if not has_display():
        return _on_virtual_display(output, sample, epochs)
    import napari

    keep_open = "NAPARI_METASTRUCTURE_VIRTUAL" not in os.environ if keep_open is None else keep_open
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer(title=_TITLE)
    viewer.window.resize(1600, 1000)
    viewer.open_sample(_PLUGIN, sample)
    image, clean = viewer.layers[0], viewer.layers[1]
    noisy = _corrupt(viewer, clean)
    rows = [_train_and_score(viewer, image, labels, clean, epochs) for labels in [clean, *noisy]]
    for layer in viewer.layers:
        layer.visible = layer is image or layer is viewer.layers[-1]
    viewer.dims.set_current_step(0, image.data.shape[0] - 1)
    _process_events(1)
    viewer.screenshot(folder / "window.png", canvas_only=False, flash=False)
    _write(folder, viewer, rows)
    if keep_open:
        napari.run()
    else:
        viewer.close()
    return rows


def _check_for_window():
    """Refuse before anything is done, where napari could not open its window."""
    try:
        import qtpy  # noqa: F401
    except ImportError as error:
        raise RuntimeError(
            "The demo needs a napari window, and there is no Qt here; install it: "
            'pip install "napari[all]"'
        ) from error
    if absent := missing():
        raise RuntimeError(how_to_install(absent))


def _on_virtual_display(output, sample, epochs):
    """Run the demo again under Xvfb."""
    command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24", sys.executable]
    command += ["-m", "napari_metastructure", "demo", "--output", str(output)]
    command += ["--sample", sample, "--epochs", str(epochs)]
    environment = {**os.environ, "NAPARI_METASTRUCTURE_VIRTUAL": "1", "LIBGL_ALWAYS_SOFTWARE": "1"}
    if subprocess.run(command, env=environment).returncode:
        raise RuntimeError("The demo on the virtual display failed; the reason is printed above.")
    with open(Path(output) / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def _corrupt(viewer, clean):
    """A layer per corruption, made with the corruption dock."""
    _, dock = viewer.window.add_plugin_dock_widget(_PLUGIN, "Corrupt labels", tabify=True)
    made = []
    for corruption in _CORRUPTIONS:
        dock.labels.value = clean
        for name, value in {**corruption, "seed": "0"}.items():
            dock.form[name].value = value
        _say(f"corrupting the labels: {dock.spec().summary()}")
        dock.panel.run_button.click()
        _wait(lambda: not dock.panel.running)
        made.append(viewer.layers[-1])
    return made


def _train_and_score(viewer, image, labels, clean, epochs):
    """Train on one labels layer with the training dock, and score the validation images."""
    window, dock = viewer.window.add_plugin_dock_widget(_PLUGIN, "Train segmentation", tabify=True)
    window.show()
    window.raise_()
    dock.image.value, dock.labels.value = image, labels
    values = {"epochs": epochs, "seed": "0"}
    advanced = {"channels": _CHANNELS, "validation_fraction": _HELD_BACK}
    for form, settings in ((dock.form, values), (dock.advanced, advanced)):
        for name, value in settings.items():
            form[name].value = value
    _say(f"training on {labels.name!r}")
    started = time.monotonic()
    dock.panel.run_button.click()
    _wait(lambda: not dock.panel.running)
    seconds = time.monotonic() - started
    segmentation, probability = viewer.layers[-1], viewer.layers[-2]
    dock.result.value, dock.reference.value = probability, clean
    dock.score_button.click()
    _wait(dock.score_button.isEnabled)
    row = _scores(labels.name, clean.data, segmentation.data, probability.data)
    row |= {
        "threshold": round(dock.models.model.threshold, 3),
        "by": dock.models.model.threshold_source,
    }
    row |= {"seconds": round(seconds)}
    _say(f"  Dice {row['dice']} on the validation images, AUC {row['auc']}, {row['seconds']} s")
    return row


def _scores(name, truth, segmentation, probability):
    from napari_metastructure.labels.metrics import evaluate

    held_back = slice(len(truth) - max(1, round(_HELD_BACK * len(truth))), None)
    own = evaluate(truth[held_back], segmentation[held_back])
    best = evaluate(truth[held_back], probability[held_back])
    scores = {"dice": own["dice"], "best_dice": best["dice"], "auc": best["auc"]}
    return {"trained on": name, **{key: round(value, 3) for key, value in scores.items()}}


def _write(folder, viewer, rows):
    from napari_metastructure.plugin.layers import write_ome_tiff

    for layer in viewer.layers:
        name = "".join(c if c.isalnum() else "_" for c in layer.name).strip("_")
        write_ome_tiff(folder / f"{name}.ome.tif", layer)
    with open(folder / "scores.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    _say(f"window.png, scores.csv and {len(viewer.layers)} layers are in {folder.resolve()}")
    _say(
        "Next: open your own image in napari, then Plugins ▸ Meta-structure segmentation; or, on "
        "files: napari-metastructure segment IMAGES -o masks.ome.tif"
    )


def _wait(done):
    deadline = time.monotonic() + _TIME_LIMIT
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"The demo waited more than {_TIME_LIMIT} s for one step.")
        _process_events(0.02)
    _process_events(0.1)


def _process_events(seconds):
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


def _say(text):
    print(text, flush=True)
