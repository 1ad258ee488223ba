"""One training by several processes, as ``torchrun`` starts them: one global batch, one model.

Every process draws the same places for the whole batch but cuts only its own slots. Batch
normalisation and the loss see the whole batch, and the gradients are summed, so that the course of
the training is that of one process with the whole batch, up to rounding. Without ``torchrun``
nothing here does anything.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import distributed, nn

__all__ = [
    "SyncBatchNorm",
    "global_loss",
    "joined",
    "own_device",
    "own_slots",
    "rank",
    "same",
    "shared_network",
    "size",
    "stopping",
    "sum_tallies",
    "synchronise",
    "total",
]


def _is_on():
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if _is_on() else 0


def size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _is_on() else 1


def own_device(device: Any) -> Any:
    """Of several GPUs the one for this process."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return device


@contextmanager
def joined(job: Any, device: Any) -> Iterator[Any]:
    """Join the processes that torchrun has started, for the time of a job; gives the job.

    Whether it is stopping is then agreed on by all processes, see `stopping`.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or not distributed.is_available() or _is_on():
        yield job
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield _SharedJob(job)
    finally:
        distributed.destroy_process_group()


class _SharedJob:
    """A job of which all processes think alike."""

    def __init__(self, job):
        self.job, self.stopping = job, False

    @property
    def preview(self):
        return self.job.preview if rank() == 0 else None

    def clock(self):
        return self.job.clock()

    def agree(self):
        wish = torch.tensor(float(self.job.stopping), device=_device())
        distributed.all_reduce(wish, distributed.ReduceOp.MAX)
        self.stopping = bool(wish)


def stopping(job: Any) -> bool:
    """Whether the job was asked to end, in any of the processes; all must call this together."""
    if size() > 1:
        job.agree()
    return job.stopping


def same(value: Any) -> Any:
    """The value that the first process has, such as a seed."""
    if size() == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def own_slots(batch_size: int) -> slice:
    """This process's slots of a global batch that holds `batch_size` for each process."""
    return slice(rank() * batch_size, (rank() + 1) * batch_size)


def total(values: np.ndarray) -> np.ndarray:
    """The sum of what each process has."""
    if size() == 1:
        return values
    summed = torch.from_numpy(values).to(_device())
    distributed.all_reduce(summed)
    return summed.cpu().numpy()


def sum_tallies(tallies: Any) -> None:
    """Add up, in place, the `metrics.Tally` that each process has filled."""
    if size() == 1 or not tallies:
        return
    counts = np.stack([part for tally in tallies for part in (tally._positive, tally._negative)])
    pairs = total(counts).reshape(len(tallies), 2, -1)
    for tally, (positive, negative) in zip(tallies, pairs):
        tally._positive, tally._negative = positive, negative


def shared_network(network: Any, device: Any) -> Any:
    """The network as all processes train it: gradients are averaged over them."""
    if size() == 1:
        return network
    devices = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, devices, broadcast_buffers=False)


def global_loss(loss: Any, logits: Any, target: Any) -> Any:
    """The loss of the global batch; its gradient is that of this process's part, times `size()`.

    `DistributedDataParallel` averages the gradients, so their sum needs that factor.

    Returns
    -------
    loss : torch.Tensor
        The same number in every process.
    scaled : torch.Tensor
        What to call ``backward`` on.
    """
    if size() == 1:
        value = loss(logits, target)
        return value, value
    parts = _gathered(logits.detach())
    parts[rank()] = logits
    value = loss(torch.cat(parts), torch.cat(_gathered(target)))
    return value, value * size()


def _gathered(tensor):
    tensor = tensor.contiguous()
    parts = [torch.empty_like(tensor) for _ in range(size())]
    distributed.all_gather(parts, tensor)
    return parts


def _device():
    if distributed.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


# ------------------------------------------------------------------------ batch normalisation


def synchronise(network: Any, device: Any) -> Any:
    """Let the batch normalisation of a network see the global batch; changes it in place."""
    if size() == 1:
        return network
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                setattr(module, name, SyncBatchNorm.of(child))
    return network


class SyncBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batches of all processes.

    `torch.nn.SyncBatchNorm` does the same, on GPUs only.
    """

    @classmethod
    def of(cls, layer: Any) -> Any:
        """One with the parameters and running statistics of a layer of torch."""
        made = cls(layer.num_features, layer.eps, layer.momentum, layer.affine)
        made.weight, made.bias = layer.weight, layer.bias
        made.running_mean, made.running_var = layer.running_mean, layer.running_var
        made.num_batches_tracked = layer.num_batches_tracked
        return made

    def _check_input_dim(self, input):
        pass

    def forward(self, input: Any) -> Any:
        """Normalise a batch by the moments of the global batch."""
        if not self.training or size() == 1:
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1] + [1] * (input.ndim - 2)
        count = input.numel() // input.shape[1] * size()
        mean = _Sum.apply(input.sum(axes)) / count
        centred = input - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        gain = self.weight * (variance + self.eps).rsqrt()
        return centred * gain.view(shape) + self.bias.view(shape)


class _Sum(torch.autograd.Function):
    """Sum over all processes, forth and back."""

    @staticmethod
    def forward(context, tensor):
        tensor = tensor.clone()
        distributed.all_reduce(tensor)
        return tensor

    @staticmethod
    def backward(context, gradient):
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient
