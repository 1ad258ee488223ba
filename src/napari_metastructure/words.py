"""Words of sentences for the user."""

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """A number with its noun, as in "1 plane" or "3 planes"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
