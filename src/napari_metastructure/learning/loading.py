"""Models from files, whatever their kind."""

from pathlib import Path

from napari_metastructure.learning.bioimageio_import import is_package, load_bioimageio
from napari_metastructure.learning.model import SegmentationModel, read_model

__all__ = ["load_model"]


def load_model(path: str | Path, device: str = "auto") -> SegmentationModel:
    """Read a model that `SegmentationModel.save` wrote, or a package of bioimage.io.

    Parameters
    ----------
    path : str or path
        A ``.safetensors`` file, of which nothing is executed, or the zip of a package, see
        `bioimageio_import.load_bioimageio`.
    device : str
        Where to put the network: "auto", "cpu", "cuda:0", "mps".

    Returns
    -------
    SegmentationModel

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If a package of bioimage.io needs a library that is not installed.
    ValueError
        If the file is damaged, is no model that can be used here or comes from a later version.
    """
    path = Path(path).expanduser()
    if is_package(path):
        return load_bioimageio(path).to(device)
    return read_model(path, device)
