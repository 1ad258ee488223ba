"""How long a job still takes, from the pace of late."""

__all__ = ["TimeLeft"]

_HALF_LIFE = 10.0  # s: older steps count less
_SECONDS, _STEPS = 2.0, 5  # measured before an estimate means something


class TimeLeft:
    """Seconds that an activity still takes.

    Only the time between two looks at the same activity counts: what a job does between its steps,
    and pauses, change no estimate.
    """

    def __init__(self) -> None:
        self._last: tuple[str, int, float] | None = None
        self._paces: dict[str, list[float]] = {}

    def interrupt(self) -> None:
        """Leave out the time until the next look, as of a pause."""
        self._last = None

    def look(self, activity: str, done: int, total: int, now: float) -> float | None:
        """The estimate, from what is done now.

        Parameters
        ----------
        activity : str
        done, total : int
            Steps of it.
        now : float
            Seconds of a clock that never goes back.

        Returns
        -------
        float or None
            Seconds; None as long as fewer than 5 steps or 2 seconds are measured.
        """
        last, self._last = self._last, (activity, done, now)
        pace = self._paces.setdefault(activity, [0.0, 0.0, 0.0, 0.0])
        if last is not None and last[0] == activity and done >= last[1]:
            steps, seconds = done - last[1], now - last[2]
            fades = 0.5 ** (seconds / _HALF_LIFE)
            pace[:2] = fades * pace[0] + steps, fades * pace[1] + seconds
            pace[2:] = pace[2] + steps, pace[3] + seconds
        if pace[2] < _STEPS or pace[3] < _SECONDS or not pace[0]:
            return None
        return pace[1] / pace[0] * (total - done)
