"""What several converters read with: JSON of other people, frames of a film with their labels, cameras and lenses.

The camera matrix of a row cannot bend anything, as lenses do; it is the linear map that touches the true one at the
person, exact in the middle of the joints and off by a fraction of a pixel at their borders.

Shape vocabulary: `joints` (J). Normalised points are (x / z, y / z) in camera axes.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..formats.film import FrameReader
from .conversion import RowLabels, Skipped

LARGEST_WHOLE = 2**63 - 1  # what a column of whole numbers holds
LARGEST_SURPLUS = 0.1  # of frames that a film has more than labels
DIFFERENCE = 1e-4


def read_json(path: Path) -> Any:
    """Read a JSON file in any Unicode that a byte-order mark tells; raise `ValueError` with its name if it is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} must be a JSON file, got a broken one: {error}") from error


@dataclass(frozen=True)
class Fields:
    """An object of somebody's JSON: each field is checked as it is asked for, a `ValueError` names what is wrong."""

    where: str  # the file, and what in it
    values: Any

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise ValueError(f"{self.where}: expected a JSON object, got {_shown(self.values)}")

    def error(self, key: str, expected: str) -> ValueError:
        """Say what is wrong with a field."""
        return ValueError(f"{self.where}: `{key}` must be {expected}, got {_shown(self.values.get(key))}")

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text that may name a file."""
        value = self.values.get(key, default)
        if not isinstance(value, str) or "\0" in value:
            raise self.error(key, "a text")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """Return a whole number that a column can hold; 3.0 is one, true is not."""
        value = self.values.get(key, default)
        if not _is_number(value) or not abs(value) <= LARGEST_WHOLE or value != int(value):
            raise self.error(key, "a whole number")
        return int(value)

    def identity(self, key: str) -> int | str:
        """Return a number or a text that names something."""
        return self.text(key) if isinstance(self.values.get(key), str) else self.whole(key)

    def array(self, key: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """Return numbers in lists of this shape, None for any length; null is NaN, and so is a null row."""
        value = self.values.get(key)
        if isinstance(value, list) and len(shape) == 2:
            value = [[None] * shape[1] if row is None else row for row in value]
        try:
            if not _is_numeric(value):
                raise ValueError
            return require_shape(np.array(value, dtype=np.float64), shape, key)
        except (ValueError, OverflowError) as error:  # lists of different lengths, numbers of hundreds of digits
            raise self.error(key, f"numbers of shape {shape}") from error

    def objects(self, key: str) -> "list[Fields]":
        """Return a list of objects."""
        entries = self.values.get(key)
        if not isinstance(entries, list):
            raise self.error(key, "a list")
        return [Fields(f"{self.where}, entry {number} of `{key}`", entry) for number, entry in enumerate(entries)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_numeric(value: Any) -> bool:
    """Whether a value is a number, null, or lists of such; numpy takes texts, true and false for numbers, too."""
    return all(map(_is_numeric, value)) if isinstance(value, list) else value is None or _is_number(value)


def _shown(value: Any) -> str:
    """Return a value as a message shows it: in one line that is not too long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def require_shape(array: np.ndarray, shape: tuple[int | None, ...], name: str) -> np.ndarray:
    """Return an array of this shape, in which None stands for any length; `ValueError` for another one."""
    if array.ndim != len(shape) or any(size not in (None, got) for got, size in zip(array.shape, shape, strict=True)):
        raise ValueError(f"{name} must have the shape {shape}, got {array.shape}")
    return array


def film_rows(
    film: Path, num_labels: int, step: int, labels: Callable[[int], dict[str, Any]]
) -> Iterator[RowLabels | Skipped]:
    """Yield the row of every `step`-th frame of a film that has labels; at the end `Skipped` for labels without one.

    A `ValueError` says that the film is missing, or has so many frames more than labels that they do not belong
    together.
    """
    if not film.is_file():
        raise ValueError(f"the film {film} is missing")
    reader = FrameReader(film, step, stop=num_labels)
    num_frames = reader.info().num_frames
    if num_frames is not None and num_frames > (1 + LARGEST_SURPLUS) * num_labels + step:
        raise ValueError(f"the film {film} has {num_frames} frames and {num_labels} labels; another frame rate?")
    read, last = 0, -1
    for frame in reader:
        yield labels(frame.index) | {"image": frame.image, "frame": frame.index}
        read, last = read + 1, frame.index
    if missing := len(range(0, num_labels, step)) - read:
        yield Skipped(
            "the film ends before its labels, or has broken frames",
            f"{film} gave {read} frames of {read + missing}, the last was number {last}",
            count=missing,
        )


class Lens(NamedTuple):
    """A lens by Brown's model."""

    radial: tuple[float, ...]  # k1, k2, k3
    tangential: tuple[float, ...]  # p1, p2
    skew: float = 2.0  # factor of two of the four tangential terms: 2 in OpenCV, 1 in Human3.6M

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Move normalised points `(joints, 2)`."""
        squared = (points**2).sum(axis=-1, keepdims=True)  # (joints, 1)
        powers = squared ** np.arange(1, 1 + len(self.radial))
        swapped = np.array(self.tangential)[::-1]
        gain = 1.0 + powers @ np.array(self.radial)[:, None] + self.skew * points @ swapped[:, None]
        return points * gain + squared * swapped


def see(joints_camera: np.ndarray, intrinsics: np.ndarray, lens: Lens) -> tuple[np.ndarray, np.ndarray]:
    """Project joints `(joints, 3)` through a lens and intrinsics `(3, 3)` px behind it.

    Returns:
        Where they are seen, `(joints, 2)` px, and the camera matrix `(3, 3)` without a lens that does the same to
        first order around their middle.
    """
    matrix, centre = intrinsics[:2, :2], intrinsics[:2, 2]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # the checks say what is wrong with them
        points = joints_camera[:, :2] / joints_camera[:, 2:]
        middle = points.mean(axis=0)
        steps = DIFFERENCE * np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [0, 0]])
        right, left, below, above, bent_middle = lens(middle + steps)
        jacobian = np.stack([right - left, below - above], axis=1) / (2 * DIFFERENCE)  # (2, 2)
        tangent = np.eye(3)
        tangent[:2, :2] = matrix @ jacobian
        tangent[:2, 2] = matrix @ (bent_middle - jacobian @ middle) + centre
        return lens(points) @ matrix.T + centre, tangent


def fit_intrinsics(joints_camera: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """Fit a pinhole camera `(3, 3)` px without skew to joints `(joints, 3)` and their places `(joints, 2)` px.

    By least squares: `u = fx x / z + cx` and `v = fy y / z + cy` are two lines. `ValueError` if they are none.
    """
    slopes = joints_camera[:, :2] / joints_camera[:, 2:]  # (joints, 2)
    if len(slopes) < 2 or np.ptp(slopes, axis=0).min() < 1e-6:
        raise ValueError(f"a camera needs points that differ in x and in y, got {len(slopes)} that do not")
    focal_x, centre_x = np.polyfit(slopes[:, 0], points_px[:, 0], 1)
    focal_y, centre_y = np.polyfit(slopes[:, 1], points_px[:, 1], 1)
    return np.array([[focal_x, 0.0, centre_x], [0.0, focal_y, centre_y], [0.0, 0.0, 1.0]])
