"""Marker trajectories as C3D, the binary file of motion laboratories, by the package c3d: millimetres, z up.

Source: "The C3D File Format", https://www.c3d.org
"""

import warnings
from pathlib import Path
from types import ModuleType

import numpy as np

from .markers import Markers

Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""From x right, y up, z towards the viewer to x right, y away from the viewer, z up."""
MOST_FRAMES = 65535  # that the header can count
MISSING = -1.0  # residual of a point that is not there
MODELLED = 0.0  # residual of a point that no marker was seen for, as all of ours


def write_c3d(markers: Markers, path: str | Path) -> None:
    """Write markers as C3D, as modelled points; a missing one has the residual -1.

    Args:
        markers: What to write; turned to x right, y away from the viewer, z up, as POINT:X_SCREEN and Y_SCREEN say.
        path: File to write.

    Raises:
        ImportError: The package c3d is not installed.
        ValueError: There are more frames than a file can count.
    """
    first = round(markers.first_s * markers.rate_hz) + 1  # C3D counts from 1
    last = first + len(markers.positions) - 1
    if last > MOST_FRAMES:
        raise ValueError(f"{path}: a C3D file counts at most {MOST_FRAMES} frames, got frames {first} to {last}")
    writer = _package().Writer(point_rate=markers.rate_hz, analog_rate=0.0, point_units="mm")
    writer.set_point_labels(list(markers.names))
    writer.set_screen_axis("+X", "+Z")
    writer.set_start_frame(first)
    nothing = np.zeros((0, 1))
    writer.add_frames([(points, nothing) for points in _points(markers)])
    with open(path, "wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No analog data")  # there is none to be had
        writer.write(file)


def _points(markers: Markers) -> np.ndarray:
    """Place, residual and cameras of each point: `(frames, markers, 5)`."""
    known = np.isfinite(markers.positions).all(-1)  # (frames, markers)
    points = np.zeros((*known.shape, 5), dtype=np.float32)
    points[..., :3] = np.where(known[..., None], markers.positions @ Z_UP.T, 0.0)
    points[..., 3] = np.where(known, MODELLED, MISSING)
    return points


def _package() -> ModuleType:
    """The package that knows the format."""
    try:
        import c3d
    except ImportError as error:
        raise ImportError('writing C3D files needs `pip install "jointdetr[biomechanics]"`') from error
    return c3d
