"""Motions at other times than their own."""

import numpy as np

EVEN = 0.02  # share by which steps of time may differ and still count as equal
SINGLE_FRAME_S = 0.04


def even_times(times_s: np.ndarray) -> np.ndarray:
    """Times `(frames,)` in equal steps: the given ones if they are, else as many as their median step makes."""
    steps = np.diff(times_s)
    if len(steps) == 0 or np.abs(steps / np.median(steps) - 1).max() < EVEN:
        return times_s
    duration = times_s[-1] - times_s[0]
    return times_s[0] + np.linspace(0, duration, round(duration / np.median(steps)) + 1)


def step_of(times_s: np.ndarray) -> float:
    """Seconds from frame to frame of even times; what one picture alone is taken to last."""
    return (times_s[-1] - times_s[0]) / (len(times_s) - 1) if len(times_s) > 1 else SINGLE_FRAME_S


def resample(values: np.ndarray, times_s: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    """Interpolate `(frames, points, 3)` to other times; NaN where one of the two frames around is NaN or far away.

    Args:
        values: At `times_s`; NaN where missing.
        times_s: `(frames,)`, rising.
        at_s: `(times,)`, within `times_s`.

    Returns:
        `(times, points, 3)`; between frames that are more than two median steps apart nothing is known.
    """
    if len(times_s) == 1 or np.array_equal(times_s, at_s):
        return values.copy()
    after = np.clip(np.searchsorted(times_s, at_s), 1, len(times_s) - 1)
    before = after - 1
    span_s = times_s[after] - times_s[before]
    share = ((at_s - times_s[before]) / span_s)[:, None, None]
    early, late = values[before], values[after]
    between = (1 - share) * early + share * late
    between[span_s > 2 * np.median(np.diff(times_s))] = np.nan
    # at a frame itself its neighbour need not be known
    return np.where(share < 1e-6, early, np.where(share > 1 - 1e-6, late, between))
