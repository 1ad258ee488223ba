"""Where the networks run."""

import gc
from contextlib import nullcontext

import torch

__all__ = ["autocast", "pick_device", "release_memory"]


def pick_device(device="auto"):
    """The torch device of a name such as "auto", "cpu", "cuda:0" or "mps".

    Raises
    ------
    ValueError
        If this machine has no such device.
    """
    has_mps = torch.backends.mps.is_available()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"There is no device {device!r}; use auto, cpu, cuda:0 or mps.") from None
    count = {"cpu": 1, "mps": int(has_mps), "cuda": torch.cuda.device_count()}.get(chosen.type, 0)
    if (chosen.index or 0) >= count:
        raise ValueError(f"This machine has no device {device!r}; use auto or cpu.")
    return chosen


def autocast(device):
    """Mixed precision on a GPU, nothing elsewhere."""
    if device.type != "cuda":
        return nullcontext()
    half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.autocast("cuda", dtype=half)


def release_memory(device):
    """Hand memory that nothing refers to any more back to the GPU."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
