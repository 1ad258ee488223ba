"""Optimisation: a network, its optimiser and schedule, and steps over batches of patches."""

import time
from collections.abc import Generator
from typing import Any

import numpy as np
import torch

from napari_metastructure.jobs import parallel
from napari_metastructure.jobs.devices import (
    PeakMemory,
    autocast,
    is_out_of_memory,
    release_memory,
)
from napari_metastructure.jobs.events import Memory, Note

__all__ = ["Trainer", "one_cycle", "open_ended", "running_average"]

_SECONDS_BETWEEN_MEMORY_EVENTS = 2.0
_DECAY = 9  # of the average: it spans one step of 10


def one_cycle(parameters: Any, learning_rate: Any, steps: Any) -> Any:
    """AdamW, its rate rising to `learning_rate` and falling to nothing over the steps."""
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps
    )
    return optimizer, schedule


def open_ended(parameters: Any, learning_rate: float, steps: int, rate: Any) -> tuple:
    """AdamW, its rate `learning_rate` times ``rate(step)``, whatever the number of steps."""
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def running_average(network: Any) -> Any:
    """A network whose weights are the average of another one's over about its last tenth of steps.

    Where the rate is high, weights go to and fro between steps; their average does not. It
    decays polynomially, so that it follows the length of the training by itself (Shamir and Zhang
    2013, "Stochastic gradient descent for non-smooth optimization").

    Parameters
    ----------
    network : torch.nn.Module

    Returns
    -------
    torch.optim.swa_utils.AveragedModel
        To be told of each step by ``update_parameters(network)``; the network is its ``module``.
    """
    return _Average(network).eval()


class _Average(torch.optim.swa_utils.AveragedModel):
    """Pairs its weights with the network's once, not in each step, and never waits for a GPU."""

    _pairs: tuple | None = None

    @torch.no_grad()
    def update_parameters(self, model: Any) -> None:
        """Follow the network by the present share."""
        if self._pairs is None:
            self._pairs = _paired(self.module, model)
        floating, counts = self._pairs
        share = (_DECAY + 1) / (int(self.n_averaged) + 1 + _DECAY)  # at first all of it
        torch._foreach_lerp_(*floating, share)
        if counts[0]:
            torch._foreach_copy_(*counts)
        self.n_averaged += 1


def _paired(average, network):
    """Tensors of both, those of floats and those of counts (of batches)."""
    both = [[*module.parameters(), *module.buffers()] for module in (average, network)]
    floats = [tensor.is_floating_point() for tensor in both[0]]
    return tuple(
        [[tensor for tensor, found in zip(tensors, floats) if found == kind] for tensors in both]
        for kind in (True, False)
    )


class Trainer:
    """A network, its optimiser and its schedule; steps over batches of patches.

    Parameters
    ----------
    network : torch.nn.Module
    loss : callable
        ``loss(logits, target)`` of `losses`.
    steps : int
        Length of the schedule.
    learning_rate : float
        Highest rate.
    device : torch.device
    optimise : callable, optional
        ``optimise(parameters, learning_rate, steps)`` returns the optimiser and its schedule; by
        default AdamW and one cycle.
    compile : bool
        Translate the network with `torch.compile`; where that fails, a note says so.
    averaging : bool
        Keep a `running_average` of the network.

    Attributes
    ----------
    average : torch.optim.swa_utils.AveragedModel or None
    logits : torch.Tensor
        Output of the last step, before the weights moved.
    parts : int
        In how many parts a batch is done, one after the other, its gradients being summed: 1 as
        long as memory suffices.
    memory : PeakMemory
    notes : list of str
        What went otherwise than asked for.
    """

    def __init__(
        self,
        network: Any,
        loss: Any,
        *,
        steps: Any,
        learning_rate: Any,
        device: Any,
        optimise: Any = None,
        compile: bool = False,
        averaging: bool = False,
    ) -> None:
        self.device = device
        self.memory_format = torch.channels_last
        if next(p for p in network.parameters() if p.ndim > 3).ndim == 5:
            self.memory_format = torch.channels_last_3d
        network = parallel.synchronise(network, device)
        self.network = network.to(device, memory_format=self.memory_format)
        self.average = running_average(self.network) if averaging else None
        self._shared = parallel.shared_network(self.network, device)
        self.loss = loss
        self.logits: Any = None
        self.parts = 1
        self.memory, self.notes = PeakMemory(device), []
        self._pending_notes, self._next_memory_event = [], 0.0
        self._compiled = self._compile() if compile and parallel.size() == 1 else None
        optimise = optimise or one_cycle
        self.optimizer, self.schedule = optimise(network.parameters(), learning_rate, steps)
        self.scaler = torch.amp.GradScaler(
            enabled=device.type == "cuda" and not torch.cuda.is_bf16_supported()
        )

    def step(self, images: Any, targets: Any) -> Any:
        """One optimisation step on numpy arrays; returns the loss.

        Raises
        ------
        FloatingPointError
            If the loss is not finite.
        RuntimeError
            If not even one patch fits in memory.
        """
        if not self.network.training:
            self.network.train()
        images = torch.from_numpy(images).to(self.device, memory_format=self.memory_format)
        targets = torch.from_numpy(targets).to(self.device)
        value = None
        while value is None:
            try:
                value = self._gradients(images, targets)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            if value is None:  # out of the except clause, so that the failed tensors are gone
                self._halve(len(images))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        if self.device.type != "cuda":  # a GPU keeps the peak itself, and asking takes its time
            self.memory.look()
        return value

    def state(self) -> tuple[dict[str, Any], dict]:
        """What it takes to go on from here: tensors by name, and values that JSON holds."""
        networks = {"network": self.network, "average": self.average}
        tensors = {
            f"{name}.{key}": tensor
            for name, network in networks.items()
            if network is not None
            for key, tensor in network.state_dict().items()
        }
        optimizer = self.optimizer.state_dict()
        for number, values in optimizer["state"].items():
            tensors |= {f"optimizer.{number}.{key}": tensor for key, tensor in values.items()}
        schedule = self.schedule.state_dict()
        return tensors, {
            "optimizer": optimizer["param_groups"],
            "schedule": {name: value for name, value in schedule.items() if not callable(value)},
            "scaler": self.scaler.state_dict(),
            "parts": self.parts,
            "notes": self.notes,
        }

    def take_up(self, tensors: dict[str, Any], values: dict) -> None:
        """Go on from a `state` of a trainer made alike."""
        found: dict[str, dict] = {"network": {}, "average": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            kind, key = name.split(".", 1)
            found[kind][key] = tensor
        self.network.load_state_dict(found["network"])
        if self.average is not None:
            self.average.load_state_dict(found["average"])
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict] = {}
        for name, tensor in found["optimizer"].items():
            number, key = name.split(".")
            weight = weights[int(number)]
            if tensor.shape == weight.shape:  # in the weight's order in memory, as it was
                tensor = torch.empty_like(weight, dtype=tensor.dtype).copy_(tensor)
            moments.setdefault(int(number), {})[key] = tensor.detach()
        self.optimizer.load_state_dict({"state": moments, "param_groups": values["optimizer"]})
        self.schedule.load_state_dict(values["schedule"])
        self.scaler.load_state_dict(values["scaler"])
        self.parts, self.notes[:] = values["parts"], values["notes"]

    def pending_events(self) -> Generator[Any, Any, Any]:
        """What happened since the last step: generator of `Note` and, at times, `Memory`."""
        while self._pending_notes:
            self.notes.append(self._pending_notes.pop(0))
            yield Note(self.notes[-1])
        if time.perf_counter() >= self._next_memory_event:
            self._next_memory_event = time.perf_counter() + _SECONDS_BETWEEN_MEMORY_EVENTS
            yield Memory(self.memory.look(), str(self.device))

    def _gradients(self, images, targets):
        """Loss and gradients of a batch, in as many parts as memory asks for."""
        self.optimizer.zero_grad(set_to_none=True)
        logits, total = [], 0.0
        for part, target in zip(images.chunk(self.parts), targets.chunk(self.parts)):
            share = len(part) / len(images)
            with autocast(self.device):
                logits.append(self._forward(part))
                loss, scaled = parallel.global_loss(self.loss, logits[-1], target)
            self.scaler.scale(scaled * share if share < 1 else scaled).backward()
            logits[-1] = logits[-1].detach()
            value = loss.item()  # a GPU is waited for once, when all its work is under way
            if not np.isfinite(value):
                raise FloatingPointError("The loss is no longer finite; lower the learning rate.")
            total += share * value
        self.logits = torch.cat(logits) if len(logits) > 1 else logits[0]
        return total

    def _halve(self, batch_size):
        """Do the batches in twice as many parts from now on."""
        self.optimizer.zero_grad(set_to_none=True)
        self.logits = None
        release_memory(self.device)
        if parallel.size() > 1 or self.parts >= batch_size:
            what = "Even one patch" if parallel.size() == 1 else "The batch"
            raise RuntimeError(
                f"{what} does not fit in the memory of {self.device}: use a smaller patch_size "
                "or batch_size, or fewer channels."
            )
        self.parts = min(2 * self.parts, batch_size)
        if self._compiled is not None:  # what a graph returns lasts only until it runs again
            self._without_compiler(RuntimeError("batches are split"))
        self._pending_notes.append(
            f"{self.device} ran out of memory: each batch of {batch_size} patches is now split "
            f"into {self.parts} parts."
        )

    def _forward(self, images):
        if self._compiled is None:
            return self._shared(images)
        try:
            return self._compiled(images)
        except Exception as error:  # whatever a compiler may fail with
            if is_out_of_memory(error):
                raise
            self._without_compiler(error)
            return self._shared(images)

    def _compile(self):
        mode = "reduce-overhead" if self.device.type == "cuda" else None  # launches take the time
        try:
            return torch.compile(self.network, mode=mode)
        except Exception as error:
            self._without_compiler(error)
        return None

    def _without_compiler(self, error):
        self._compiled = None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        self._pending_notes.append(
            f"The network could not be compiled ({reason}); the training continues without it."
        )
