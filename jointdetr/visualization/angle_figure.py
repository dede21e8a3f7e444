"""Joint angles through time as a figure: left blue, right orange, the middle grey, with bands of their uncertainty.

Shape vocabulary: frames.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..motion.angles import MIDDLE_ANGLES, SIDE_ANGLES, JointAngles
from .figures import COLORS

COLUMNS = 4
PANEL_INCHES = (3.0, 1.9)
BAND_ALPHA = 0.2
LEAST_SPAN_DEGREES = 20.0  # of a panel, so that noise does not look like movement


def angle_figure(angles: JointAngles) -> Figure:
    """Draw one person's angles in degrees over the film's seconds, with a band of one standard deviation.

    Returns:
        A figure with a panel for each angle, left and right of a limb in one; `savefig` writes it.
    """
    panels = [*SIDE_ANGLES, *MIDDLE_ANGLES]
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(PANEL_INCHES[0] * COLUMNS, PANEL_INCHES[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, COLUMNS, sharex=True)
    for panel, name in zip(axes.flat, panels, strict=True):
        sides = ("left", "right") if name in SIDE_ANGLES else ("middle",)
        for side in sides:
            _draw(panel, angles, name if side == "middle" else f"{side}_{name}", COLORS[side])
        _finish(panel, name.replace("_", " "))
    for panel in axes[-1]:
        panel.set_xlabel("seconds")
    figure.legend(axes[0, 0].get_lines(), ["left", "right"], loc="outside upper right", ncols=2, frameon=False)
    figure.suptitle(f"Joint angles of person {angles.person + 1}, degrees", x=0.01, ha="left")
    return figure


def _draw(panel: Axes, angles: JointAngles, name: str, color: str) -> None:
    """A line, broken where nothing is known and where an angle goes round, and its band."""
    degrees = _broken_at_turns(angles[name])
    deviation = angles.uncertainty[:, angles.names.index(name)]
    panel.plot(angles.times_s, degrees, color=color, linewidth=1.2, marker="." if len(degrees) == 1 else None)
    low, high = degrees - deviation, degrees + deviation
    panel.fill_between(angles.times_s, low, high, color=color, alpha=BAND_ALPHA, linewidth=0)


def _broken_at_turns(degrees: np.ndarray) -> np.ndarray:
    """Angles with a gap after each frame from which they go round from 180 to -180."""
    jumps = np.flatnonzero(np.abs(np.diff(degrees)) > 180)
    broken = degrees.copy()
    broken[jumps] = np.nan
    return broken


def _finish(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize="medium", loc="left")
    panel.grid(color="#dde1e6", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    low, high = panel.get_ylim()
    room = (LEAST_SPAN_DEGREES - (high - low)) / 2
    if room > 0:
        panel.set_ylim(low - room, high + room)
