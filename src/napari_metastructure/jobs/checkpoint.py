"""A long job's state in one file, written whole, so that it can go on after a stop or a crash."""

import json
import os
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

__all__ = ["read_checkpoint", "read_state", "remove_remnants", "write_checkpoint"]

_KEY = "napari_metastructure_checkpoint"
_LARGEST_STATE = 2**27  # characters of JSON


def write_checkpoint(path: str | Path, tensors: dict[str, Any], state: dict) -> None:
    """Write a checkpoint; a kill at any moment leaves the one before or this one, whole.

    Parameters
    ----------
    path : path
        A ``.safetensors`` file, replaced if it is there.
    tensors : dict of {str: torch.Tensor}
    state : dict
        Values that JSON holds (infinity too).

    Raises
    ------
    OSError
        If it cannot be written.
    """
    from safetensors.torch import save

    path = Path(path).expanduser()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        with open(temporary, "wb") as file:
            file.write(save(tensors, {_KEY: json.dumps(state)}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_remnants(path: str | Path) -> None:
    """Remove what kills in the middle of writing a checkpoint have left beside it."""
    path = Path(path).expanduser()
    for left in path.parent.glob(f".{escape(path.name)}.*.part"):
        with suppress(OSError):
            left.unlink()


def read_checkpoint(path: str | Path) -> tuple[dict[str, Any], dict] | None:
    """Tensors and state of a checkpoint; None if there is no file.

    Raises
    ------
    ValueError
        If the file is damaged or no checkpoint, in one sentence.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = Path(path).expanduser()
    if not path.exists():
        return None
    try:
        data = path.read_bytes()  # at once: its file may be replaced between two looks
        tensors = load(data)
        end = 8 + int.from_bytes(data[:8], "little")
        state = _state_in(json.loads(data[8:end]).get("__metadata__"))
        if state is None:
            raise ValueError(f"{path} is not a checkpoint; choose another name for it.")
        return tensors, state
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"The checkpoint {path} cannot be read ({reason}).") from None


def read_state(path: str | Path) -> dict | None:
    """State of a checkpoint without its tensors; None if it is no checkpoint, or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:  # docks look here, and torch takes long to import
            return _state_in(file.metadata())
    except (SafetensorError, OSError, json.JSONDecodeError):
        return None


def _state_in(metadata):
    text = (metadata or {}).get(_KEY)
    if text is None or len(text) > _LARGEST_STATE:
        return None
    state = json.loads(text)
    return state if isinstance(state, dict) else None
