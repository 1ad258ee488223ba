"""Sample data: simulated cells with exact masks, the same with noisy labels, and real images."""

from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.labels.simulation import (
    ER,
    MITOCHONDRIA,
    NUCLEI,
    simulate_er,
    simulate_fields,
    simulate_mitochondria,
    simulate_nuclei,
)

__all__ = [
    "cell",
    "cells3d",
    "er",
    "er_dilated",
    "er_flipped",
    "er_sampled",
    "er_stack",
    "mitochondria",
    "mitochondria_stack",
    "mitosis",
    "nuclei",
    "nuclei_stack",
    "real_nuclei",
    "retina",
    "simulate_er",
    "simulate_fields",
    "simulate_mitochondria",
    "simulate_nuclei",
    "tissue",
]

LayerData = tuple[np.ndarray, dict[str, Any], str]


def er() -> list[LayerData]:
    """Open 24 simulated fields of endoplasmic reticulum and their masks."""
    return _fields("ER", simulate_er, ER)


def mitochondria() -> list[LayerData]:
    """Open 24 simulated fields of mitochondria and their masks."""
    return _fields("mitochondria", simulate_mitochondria, MITOCHONDRIA)


def nuclei() -> list[LayerData]:
    """Open 24 simulated fields of nuclei and their masks."""
    return _fields("nuclei", simulate_nuclei, NUCLEI)


def er_stack() -> list[LayerData]:
    """Open a simulated z-stack of endoplasmic reticulum and its mask."""
    return _stack("ER stack", simulate_er, ER, seed=0)


def mitochondria_stack() -> list[LayerData]:
    """Open a simulated z-stack of mitochondria and its mask."""
    return _stack("mitochondria stack", simulate_mitochondria, MITOCHONDRIA, seed=0)


def nuclei_stack() -> list[LayerData]:
    """Open a simulated z-stack of nuclei and its mask."""
    return _stack("nuclei stack", simulate_nuclei, NUCLEI, seed=5)


def er_sampled() -> list[LayerData]:
    """Open simulated ER of whose object pixels a tenth is labelled."""
    return _noisy(kind="sample", fraction=0.1, seed=0)


def er_flipped() -> list[LayerData]:
    """Open simulated ER whose labels are wrong at 45 % of the pixels."""
    return _noisy(kind="flip", ratio=0.45, seed=0)


def er_dilated() -> list[LayerData]:
    """Open simulated ER whose outlines lie two pixels too far out."""
    return _noisy(kind="dilate", radius=2)


def real_nuclei() -> list[LayerData]:
    """Open a real field of nuclei by fluorescence and masks that people drew (CC0)."""
    import tifffile

    folder = Path(__file__).parent / "sample_images"
    source = "Data Science Bowl 2018, CC0, Caicedo et al., Nature Methods 16 (2019) 1247"
    common = {"axis_labels": ("y", "x"), "metadata": {"source": source}}
    image, masks = (tifffile.imread(folder / f"{name}.tif") for name in ("nuclei", "nuclei_masks"))
    return [
        (image, {"name": "real nuclei", "contrast_limits": [0.0, 120.0], **common}, "image"),
        (masks, {"name": "real nuclei labels", **common}, "labels"),
    ]


def mitosis() -> list[LayerData]:
    """Open real nuclei of human cells, no mask (scikit-image, CC0; a download of 0.3 MB).

    Raises
    ------
    OSError
        If the image cannot be downloaded.
    """
    source = "skimage.data.human_mitosis, CC0, Moffat et al., Cell 124 (2006) 1283"
    return _real("mitosis", _downloaded("human_mitosis"), source)


def cells3d() -> list[LayerData]:
    """Open a real z-stack of nuclei, no mask (scikit-image; a download of 10 MB).

    Raises
    ------
    OSError
        If the image cannot be downloaded.
    """
    source = "skimage.data.cells3d()[:, 1], Allen Institute for Cell Science"
    nuclei = _downloaded("cells3d")[:, 1]
    space = {
        "scale": (0.29, 0.26, 0.26),
        "units": ("micrometer",) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    return [(nuclei, {"name": "cells", "metadata": {"source": source}, **space}, "image")]


def _downloaded(name):
    """An image that scikit-image downloads once and checks by its hash."""
    import skimage.data

    try:
        return getattr(skimage.data, name)()
    except Exception as error:  # no connection, no pooch, no space: whatever the libraries raise
        raise OSError(
            "This sample could not be downloaded. Connect to the internet and try again, or "
            "open the sample Tissue or Retina, which needs no download "
            f"({type(error).__name__})."
        ) from None


def retina() -> list[LayerData]:
    """Open real vessels of a human retina, in colour, no mask (scikit-image, CC0)."""
    from skimage.data import retina as load

    source = "skimage.data.retina()[300:1000, 350:1050], CC0, Häggström, WikiJournal of Medicine 1"
    return _real("retina", load()[300:1000, 350:1050].copy(), source)


def tissue() -> list[LayerData]:
    """Open real stained tissue of the colon, in colour, no mask (scikit-image, free)."""
    from skimage.data import immunohistochemistry as load

    return _real("tissue", load(), "skimage.data.immunohistochemistry, no known restrictions")


def cell() -> list[LayerData]:
    """Open a real cell by quantitative phase imaging, no mask (scikit-image, CC0)."""
    from skimage.data import cell as load

    source = "skimage.data.cell, CC0, Mueller et al., Optics Express 26 (2018) 10729"
    space = {"scale": (0.107, 0.107), "units": ("micrometer",) * 2, "axis_labels": ("y", "x")}
    return [(load(), {"name": "cell", "metadata": {"source": source}, **space}, "image")]


def _real(name, pixels, source):
    axes = ("y", "x")
    options = {"rgb": pixels.ndim == 3, "axis_labels": axes, "metadata": {"source": source}}
    return [(pixels, {"name": name, **options}, "image")]


def _noisy(**noise):
    """Simulated ER, its masks (hidden) and labels with noise, of which the layer's record tells."""
    from napari_metastructure.files.fingerprint import digest
    from napari_metastructure.labels.noise import NoiseSpec, corrupt
    from napari_metastructure.plugin.layers import RECORD

    image, (mask, common, _) = er()
    spec = NoiseSpec(**noise)
    labels = corrupt(mask, spec)
    record = {
        "operation": "corrupt",
        "source": common["name"],
        "noise": [spec.model_dump(mode="json")],
        "whole": True,
        "changed": float((labels != mask).mean()),
        "digest": digest(labels),
    }
    name = f"{common['name']} {spec.summary()}"
    metadata = {**common["metadata"], RECORD: record}
    return [
        image,
        (mask, {**common, "visible": False}, "labels"),
        (labels, {**common, "name": name, "metadata": metadata}, "labels"),
    ]


def _fields(name, simulate, optics, seed=0):
    images, masks = simulate_fields(simulate, seed=seed)
    space = {
        "scale": (1.0, optics.pixel, optics.pixel),
        "units": ("pixel", "micrometer", "micrometer"),
        "axis_labels": ("field", "y", "x"),
    }
    how = f"simulate_fields({simulate.__name__}, {len(images)}, seed={seed})"
    return _layers(name, images, masks, space, how, seed)


def _stack(name, simulate, optics, seed):
    image, mask = simulate((16, 256, 256), seed=seed)
    space = {
        "scale": (optics.step, optics.pixel, optics.pixel),
        "units": ("micrometer",) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    how = f"{simulate.__name__}({image.shape}, seed={seed})"
    return _layers(name, image, mask, space, how, seed)


def _layers(name, image, mask, space, how, seed):
    common = {"metadata": {"source": f"napari_metastructure.samples.{how}", "seed": seed}, **space}
    limits = [float(limit) for limit in np.percentile(image, [0.5, 99.7])]
    return [
        (image, {"name": name, "contrast_limits": limits, **common}, "image"),
        (mask, {"name": f"{name} labels", **common}, "labels"),
    ]
