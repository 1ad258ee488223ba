"""Generators that report progress and return a result, driven to their end."""

from collections.abc import Generator
from typing import Any

__all__ = ["run_out", "run_until_stopped"]


def run_out(generator: Any) -> Any:
    """Run a generator to its end; returns its value."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def run_until_stopped(job: Any, generator: Any, event: Any) -> Generator[Any, Any, Any]:
    """Run a generator to its end and return its value; None if the job is stopped before.

    Itself a generator: it yields `event` after each step.
    """
    while not job.stopping:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
        yield event
    generator.close()
    return None
