"""Sample data without a download: simulated cells with exact masks, and one real cell."""

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
    "er",
    "er_stack",
    "mitochondria",
    "mitochondria_stack",
    "nuclei",
    "nuclei_stack",
    "simulate_er",
    "simulate_fields",
    "simulate_mitochondria",
    "simulate_nuclei",
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


def cell() -> list[LayerData]:
    """Open a real cell by quantitative phase imaging, no mask (scikit-image, CC0)."""
    from skimage.data import cell as load

    source = "skimage.data.cell, CC0, Mueller et al., Optics Express 26 (2018) 10729"
    space = {"scale": (0.107, 0.107), "units": ("micrometer",) * 2, "axis_labels": ("y", "x")}
    return [(load(), {"name": "cell", "metadata": {"source": source}, **space}, "image")]


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
