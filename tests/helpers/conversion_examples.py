"""A converter of its own files, and people to convert: what the tests of conversion share."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from jointdetr.converters.conversion import Converter, Recording, RowLabels, Skipped
from jointdetr.skeleton_jointdetr import HUMAN36M

INTRINSICS = np.array([[300.0, 0, 64], [0, 310, 64], [0, 0, 1]])

# A person who faces the camera, knees a little bent forward: mm relative to the pelvis, x right, y down, z forward.
STANDING = np.array(
    [
        (0, 0, 0),
        (-130, 0, 0),
        (-140, 430, -60),
        (-140, 860, 0),
        (130, 0, 0),
        (140, 430, -60),
        (140, 860, 0),
        (0, -240, 0),
        (0, -480, 0),
        (0, -590, -30),
        (0, -700, 0),
        (150, -450, 0),
        (200, -170, 20),
        (220, 60, -60),
        (-150, -450, 0),
        (-200, -170, 20),
        (-220, 60, -60),
    ],
    dtype=np.float64,
)


def person(frame: int) -> np.ndarray:
    """Camera-space joints `(17, 3)` mm of someone who turns a little with each frame and wavers."""
    angle = 0.05 * frame
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    noise = np.random.default_rng(frame).normal(0, 5, STANDING.shape)
    return (STANDING + noise) @ turn.T + [20.0 * (frame % 7), -100, 5000]


def project(joints: np.ndarray, intrinsics: np.ndarray = INTRINSICS) -> np.ndarray:
    """Pinhole projection `(joints, 2)`."""
    homogeneous = joints @ intrinsics.T
    return homogeneous[..., :2] / homogeneous[..., 2:]


def jpeg(shade: int, size: tuple[int, int] = (128, 128)) -> bytes:
    """A plain picture."""
    stream = io.BytesIO()
    Image.new("RGB", size, (shade % 256, 90, 90)).save(stream, "JPEG")
    return stream.getvalue()


def good_labels(frame: int) -> dict:
    """What a converter may say of a frame without fault."""
    joints = person(frame)
    return {
        "image": jpeg(frame),
        "joints_3d": joints,
        "joints_2d": project(joints),
        "intrinsics": INTRINSICS,
        "subject": "S1",
        "action": "turn",
        "camera": "front",
        "frame": frame,
    }


@dataclass(frozen=True)
class Turning(Converter):
    """People who turn: each `*.json` of the source has the number of its first frame, of its frames, and a fault."""

    source: Path
    step: int = 1
    skeleton = HUMAN36M

    def recordings(self) -> list[Recording]:
        """One for each file, named SPLIT-NAME.json."""
        files = sorted(self.source.glob("*.json"))
        return [Recording(file.stem.partition("-")[2], file.stem.partition("-")[0], file) for file in files]

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """Rows of a file."""
        content = json.loads(recording.source.read_text())
        for frame in range(content["first"], content["first"] + content["count"], self.step):
            if frame in content.get("unlabelled", []):
                yield Skipped("no labels", frame=frame)
            else:
                yield good_labels(frame)


def write_turning(folder: Path, **recordings: tuple[int, int]) -> Path:
    """Write the source of `Turning`: `train_a=(first, count)` makes train-a.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (first, count) in recordings.items():
        path = folder / f"{name.replace('_', '-', 1)}.json"
        path.write_text(json.dumps({"first": first, "count": count, "unlabelled": [first + 2]}))
    return folder
