"""Where the networks run."""

import gc
from contextlib import nullcontext
from typing import Any

import torch

__all__ = ["PeakMemory", "autocast", "is_out_of_memory", "pick_device", "release_memory"]

_NO_MEMORY = ("MPS backend out of memory", "can't allocate memory", "not enough memory")


def pick_device(device: str = "auto") -> Any:
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


def autocast(device: Any) -> Any:
    """Mixed precision on a GPU, nothing elsewhere."""
    if device.type != "cuda":
        return nullcontext()
    half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.autocast("cuda", dtype=half)


def release_memory(device: Any) -> None:
    """Hand memory that nothing refers to any more back to the GPU.

    Without one nothing is done: collecting garbage stops every thread, a window's too.
    """
    if device.type == "cpu":
        return
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: Any) -> bool:
    """Whether an exception says that the device's memory does not suffice."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


class PeakMemory:
    """The most memory held since this was made: of the tensors on a GPU, of the process elsewhere.

    Parameters
    ----------
    device : torch.device

    Attributes
    ----------
    peak : int
        Bytes, as far as `look` was called.
    """

    def __init__(self, device: Any) -> None:
        self.device, self.peak = device, 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            from psutil import Process

            self._process = Process()

    def look(self) -> Any:
        """Measure anew; returns the peak."""
        if self.device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self.device)
        elif self.device.type == "mps":
            self.peak = max(self.peak, torch.mps.driver_allocated_memory())
        else:
            self.peak = max(self.peak, self._process.memory_info().rss)
        return self.peak
