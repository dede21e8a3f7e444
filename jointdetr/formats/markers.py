"""Motions as marker trajectories in files: TRC, the text that OpenSim takes, and C3D, the binary file of laboratories.

Sources: OpenSim's documentation, "Marker (.trc) Files"; "The C3D File Format", https://www.c3d.org
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .motions import PoseMotion, at_even_times, step_of

Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""From x right, y up, z towards the viewer to x right, y away from the viewer, z up."""
MOST_FRAMES = 65535  # that the header of a C3D file can count
Y_UP = np.array([1.0, -1.0, -1.0])  # from x right, y down, z forward


@dataclass(frozen=True)
class Markers:
    """Named points through time, in even steps."""

    names: tuple[str, ...]  # without spaces
    rate_hz: float
    first_s: float  # time of the first frame
    positions: np.ndarray  # (frames, markers, 3) mm: x right, y up, z towards the viewer; NaN where missing


def markers_of(motion: PoseMotion) -> Markers:
    """Joints as markers, at even times, in axes x right, y up, z towards the camera.

    They are measured from the camera where `root_camera` is known. Without it the root stays at x = z = 0, and the
    lowest joint of the film touches the ground y = 0.
    """
    if motion.missing.all():
        raise ValueError(f"person {motion.person}: no joint has a position in any frame.")
    motion = at_even_times(motion)
    positions = (motion.joints if motion.joints_camera is None else motion.joints_camera) * Y_UP
    if motion.root_camera is None:
        positions[..., 1] -= np.nanmin(positions[..., 1])
    names = tuple("_".join(name.split()) for name in motion.skeleton.joints)
    return Markers(names, 1 / step_of(motion.times_s), float(motion.times_s[0]), positions)


def describe(markers: Markers) -> str:
    """What the reader of a file should know: how long and how fast, and which markers are missing at times."""
    frames = len(markers.positions)
    words = f"{frames} frames at {markers.rate_hz:.4g} Hz"
    missing = np.isnan(markers.positions).any(-1).sum(0)
    counts = [f"{name} in {count}" for name, count in zip(markers.names, missing, strict=True) if count]
    return f"{words}; missing: {', '.join(counts)}" if counts else words


def write_trc(markers: Markers, path: str | Path) -> None:
    """Write markers as TRC, in millimetres; a missing one is NaN, which all readers know."""
    count, names = len(markers.positions), markers.names
    rate = f"{markers.rate_hz:.6f}"
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{Path(path).name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        "\t".join([rate, rate, str(count), str(len(names)), "mm", rate, "1", str(count)]),
        "Frame#\tTime\t" + "".join(f"{name}\t\t\t" for name in names),
        "\t\t" + "\t".join(f"X{number}\tY{number}\tZ{number}" for number in range(1, len(names) + 1)),
        "",
    ]
    for frame, positions in enumerate(markers.positions):
        time_s = markers.first_s + frame / markers.rate_hz
        numbers = [f"{value:.3f}" if np.isfinite(value) else "NaN" for value in positions.flat]
        lines.append("\t".join([str(frame + 1), f"{time_s:.6f}", *numbers]))
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii", errors="replace")


def write_c3d(markers: Markers, path: str | Path) -> None:
    """Write markers as C3D by the package c3d, as modelled points in millimetres; a missing one has the residual -1.

    They are turned to x right, y away from the viewer, z up, as POINT:X_SCREEN and Y_SCREEN say.
    """
    first = round(markers.first_s * markers.rate_hz) + 1  # C3D counts from 1
    last = first + len(markers.positions) - 1
    if last > MOST_FRAMES:
        raise ValueError(f"{path}: a C3D file counts at most {MOST_FRAMES} frames, got frames {first} to {last}")
    try:
        import c3d
    except ImportError as error:
        raise ImportError('writing C3D files needs `pip install "jointdetr[biomechanics]"`') from error
    known = np.isfinite(markers.positions).all(-1)  # (frames, markers)
    points = np.zeros((*known.shape, 5), dtype=np.float32)  # place, residual and cameras of each
    points[..., :3] = np.where(known[..., None], markers.positions @ Z_UP.T, 0.0)
    points[..., 3] = np.where(known, 0.0, -1.0)  # modelled, as no marker was seen, or not there
    writer = c3d.Writer(point_rate=markers.rate_hz, analog_rate=0.0, point_units="mm")
    writer.set_point_labels(list(markers.names))
    writer.set_screen_axis("+X", "+Z")
    writer.set_start_frame(first)
    writer.add_frames([(of_frame, np.zeros((0, 1))) for of_frame in points])
    with open(path, "wb") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No analog data")  # there is none to be had
        writer.write(file)
