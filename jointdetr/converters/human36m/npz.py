"""Human3.6M, or another data set, from the files that mmpose's and SPIN's users have: an npz beside pictures.

The npz holds `imgname` (N), `center` (N, 2) px, `scale` (N, the square box's side divided by 200 px), `part` (N, J, 3)
pixels with a confidence, `S` (N, J, 4) metres in absolute camera space with a confidence. The cameras come as a
pickle, which is never opened: a pickle runs code. A pinhole camera is fitted to each picture's own labels instead,
which explains them within 3 px (Human3.6M's lens distortion is left out).

Pictures are numbered from 1 (`..._000001.jpg` is the first frame of its film) unless one has the number 0; frames of
rows count from 0.

Shape vocabulary: `pictures` (N), `joints` (J). Camera axes: x right, y down, z forward.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...skeleton_jointdetr import HUMAN36M
from ..conversion import Converter, Labels, Recording, Skipped
from .labels import action_of, split_of

BOX_SIDE_PER_SCALE_PX = 200.0
METRES_TO_MM = 1000.0


class PictureName(NamedTuple):
    """What `S1/S1_Directions_1.54138969/S1_Directions_1.54138969_000001.jpg` says; `number` is -1 if it has none."""

    recording: str
    subject: str
    action: str
    camera: str
    number: int


@dataclass(frozen=True)
class Human36mNpz(Converter):
    """An npz of annotations beside a folder of pictures.

    Args:
        annotations: the npz file.
        images: the folder that `imgname` is relative to.
        step: keep pictures of every `step`-th frame of the films; None keeps all that the npz has.
    """

    annotations: Path
    images: Path
    step: int | None = None
    skeleton = HUMAN36M

    def recordings(self) -> list[Recording]:
        """One for each film the pictures are from."""
        pictures: dict[str, list[int]] = {}
        for index, name in enumerate(self._names):
            pictures.setdefault(name.recording, []).append(index)
        return [
            Recording(name, self.split_of_recording(name), self.annotations, np.array(indices))
            for name, indices in sorted(pictures.items())
        ]

    def rows(self, recording: Recording) -> Iterator[Labels | Skipped]:
        """Rows of the pictures of a film."""
        for index in recording.data:
            name = self._names[index]
            frame = name.number - self._first_number if name.number >= 0 else -1
            if self.step is None or frame % self.step == 0:
                yield self._labels(index, name, frame)

    def split_of_recording(self, recording: str) -> str:
        """Split of a recording, by its subject."""
        return split_of(recording.partition("_")[0])

    def _labels(self, index: int, name: PictureName, frame: int) -> Labels | Skipped:
        """What the npz says about a picture."""
        arrays = self._arrays
        joints_camera = arrays["S"][index, :, :3] * METRES_TO_MM  # (joints, 3)
        points = arrays["part"][index, :, :2]  # (joints, 2) px
        valid_3d, valid_2d = arrays["S"][index, :, 3] > 0, arrays["part"][index, :, 2] > 0
        both = valid_3d & valid_2d
        try:
            intrinsics = fit_intrinsics(joints_camera[both], points[both])
        except ValueError as error:
            return Skipped("no camera can be fitted to the labels", f"entry {index}: {error}", frame)
        side = float(arrays["scale"][index]) * BOX_SIDE_PER_SCALE_PX
        return {
            "image": self.images / str(arrays["imgname"][index]),
            "joints_3d": joints_camera,
            "joints_3d_valid": valid_3d,
            "joints_2d": points,
            "joints_2d_valid": valid_2d,
            "visible": valid_2d,
            "intrinsics": intrinsics,
            "box": [*(arrays["center"][index] - side / 2), side, side],
            "subject": name.subject,
            "action": name.action,
            "camera": name.camera,
            "frame": frame,
        }

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        return read_annotations(self.annotations, len(self.skeleton.joints))

    @cached_property
    def _names(self) -> list[PictureName]:
        return [self.parse_name(str(name)) for name in self._arrays["imgname"]]

    @cached_property
    def _first_number(self) -> int:
        return 0 if any(name.number == 0 for name in self._names) else 1

    def parse_name(self, name: str) -> PictureName:
        """Read subject, action, camera and number from a picture's name."""
        recording, _, number = Path(name).stem.rpartition("_")
        scene, _, camera = recording.rpartition(".")
        subject, _, action = scene.partition("_")
        return PictureName(
            recording or "pictures", subject, action_of(action), camera, int(number) if number.isdigit() else -1
        )


def read_annotations(path: Path, num_joints: int) -> dict[str, np.ndarray]:
    """Read the arrays, without pickle, and check their shapes.

    Raises:
        ValueError: A key is missing, or an array is of the wrong shape.
    """
    shapes = {"imgname": (), "center": (2,), "scale": (), "part": (num_joints, 3), "S": (num_joints, 4)}
    with np.load(path, allow_pickle=False) as file:
        missing = set(shapes) - set(file.files)
        if missing:
            raise ValueError(f"{path} must have the keys {sorted(shapes)}, got {sorted(file.files)}")
        arrays = {name: file[name] for name in shapes}
    count = len(arrays["imgname"])
    for name, shape in shapes.items():
        if arrays[name].shape != (count, *shape):
            raise ValueError(f"`{name}` of {path} must have the shape {(count, *shape)}, got {arrays[name].shape}")
    return arrays


def fit_intrinsics(joints_camera: np.ndarray, points_px: np.ndarray) -> np.ndarray:
    """Fit a pinhole camera without skew to points of one picture, by least squares.

    `u = fx x / z + cx` and `v = fy y / z + cy` are two lines.

    Args:
        joints_camera: `(joints, 3)` in camera space, any unit.
        points_px: `(joints, 2)` px.

    Returns:
        `(3, 3)` intrinsics in px.

    Raises:
        ValueError: Fewer than two points, or all in one row or one column.
    """
    slopes = joints_camera[:, :2] / joints_camera[:, 2:]  # (joints, 2)
    if len(slopes) < 2 or np.ptp(slopes, axis=0).min() < 1e-6:
        raise ValueError(f"a camera needs points that differ in x and in y, got {len(slopes)} that do not")
    focal_x, centre_x = np.polyfit(slopes[:, 0], points_px[:, 0], 1)
    focal_y, centre_y = np.polyfit(slopes[:, 1], points_px[:, 1], 1)
    return np.array([[focal_x, 0.0, centre_x], [0.0, focal_y, centre_y], [0.0, 0.0, 1.0]])
