"""Marker trajectories as TRC, the text file that OpenSim takes: millimetres, y up.

Source: OpenSim's documentation, "Marker (.trc) Files".
"""

from pathlib import Path

import numpy as np

from .markers import Markers

HEAD = ("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate", "OrigDataStartFrame")


def write_trc(markers: Markers, path: str | Path) -> None:
    """Write markers as TRC; a missing one is three times NaN, which all readers know for what it is.

    Args:
        markers: What to write. OpenSim's gravity points along -y, so their y should be up.
        path: File to write.
    """
    count, names = len(markers.positions), markers.names
    rate = f"{markers.rate_hz:.6f}"
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{Path(path).name}",
        "\t".join([*HEAD, "OrigNumFrames"]),
        "\t".join([rate, rate, str(count), str(len(names)), "mm", rate, "1", str(count)]),
        "Frame#\tTime\t" + "".join(f"{name}\t\t\t" for name in names),
        "\t\t" + "\t".join(f"X{number}\tY{number}\tZ{number}" for number in range(1, len(names) + 1)),
        "",
    ]
    for frame, positions in enumerate(markers.positions):
        time_s = markers.first_s + frame / markers.rate_hz
        lines.append("\t".join([str(frame + 1), f"{time_s:.6f}", *_fields(positions)]))
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii", errors="replace")


def _fields(positions: np.ndarray) -> list[str]:
    """Numbers of one frame `(markers, 3)`, none of a missing marker."""
    known = np.isfinite(positions).all(-1, keepdims=True) & np.ones(3, bool)
    return [f"{value:.3f}" if there else "NaN" for value, there in zip(positions.flat, known.flat, strict=True)]
