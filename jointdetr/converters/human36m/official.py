"""Human3.6M from its official files: CDF files of poses, `metadata.xml` with the cameras, and films.

    metadata.xml                                                     of the code release
    S1/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf    mm in the camera's axes (preferred)
    S1/MyPoseFeatures/D3_Positions/Directions 1.cdf                  mm in the room's axes (one for all cameras)
    S1/Videos/Directions 1.54138969.mp4

Folders may lie deeper and may be called `Poses_D3_Positions_mono`, as some unpack them. `D3_Positions_mono_universal`
is another thing, of a made-up size, and is not read.

The lens of the cameras bends lines by up to 8 px. Pictures stay as they are: 2D labels lie where the lens puts the
joints, and `intrinsics` is the camera without a lens that comes closest to it at this person
(`jointdetr.converters.common.lens`).

Shape vocabulary: `frames`, `joints` (17), `recorded` joints (32).
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ...skeleton_jointdetr import HUMAN36M
from ..common.frames import labelled_frames
from ..common.lens import Human36mLens, see
from ..conversion import Converter, Labels, Recording, Skipped
from .labels import JOINTS_OF_32, action_of, split_of

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
NUM_SUBJECTS = 11
EXTRINSICS, INTRINSICS = 6, 9  # numbers of each camera in `metadata.xml`
RECORDED_JOINTS = 32
USUAL_STEPS = {"train": 5, "test": 64}
CAMERA_FOLDER, WORLD_FOLDER = "D3_Positions_mono", "D3_Positions"


@dataclass(frozen=True)
class Human36mCamera:
    """A camera as one subject was filmed by it.

    Args:
        rotation: `(3, 3)`, from the room's axes to the camera's.
        position: `(3,)` mm in the room.
        intrinsics: `(3, 3)` px.
        lens: its distortion.
    """

    rotation: np.ndarray
    position: np.ndarray
    intrinsics: np.ndarray
    lens: Human36mLens

    def to_camera(self, joints_world: np.ndarray) -> np.ndarray:
        """Turn `(..., 3)` mm in the room into camera axes."""
        return (joints_world - self.position) @ self.rotation.T


@dataclass(frozen=True)
class Human36mOfficial(Converter):
    """The official files.

    Args:
        source: the folder with the subjects.
        step: take every `step`-th frame; None takes every fifth for training and every 64th for tests.
    """

    source: Path
    step: int | None = None
    skeleton = HUMAN36M

    def recordings(self) -> list[Recording]:
        """One for each film that has poses."""
        _ = self.cameras  # missing or broken metadata are found before anything is started
        found = []
        for folder in sorted(path for path in self.source.glob("S[0-9]*") if path.is_dir()):
            subject = folder.name
            for name, poses in sorted(_pose_files(folder).items()):
                recording = f"{subject}_{name.replace(' ', '_')}"
                found.append(Recording(recording, split_of(subject), poses, (subject, name)))
        if not found:
            raise ValueError(
                f"{self.source} must hold S*/.../{CAMERA_FOLDER}/*.cdf or {WORLD_FOLDER}/*.cdf, found none"
            )
        return found

    def rows(self, recording: Recording) -> Iterator[Labels | Skipped]:
        """Rows of a film."""
        subject, name = recording.data
        action, _, camera_name = name.rpartition(".")
        if (subject, camera_name) not in self.cameras:
            raise ValueError(
                f"cameras are known of S1 to S{NUM_SUBJECTS} by {CAMERAS}, got {subject}, {camera_name!r}"
            )
        camera = self.cameras[subject, camera_name]
        joints = read_poses(recording.source)  # (frames, joints, 3) mm
        if _kind(recording.source) == WORLD_FOLDER:
            joints = camera.to_camera(joints)
        film = self._film(subject, name)
        for frame in labelled_frames(film, len(joints), self.step or USUAL_STEPS[recording.split]):
            if isinstance(frame, Skipped):
                yield frame
                continue
            joints_camera = joints[frame.index]
            points, intrinsics = see(joints_camera, camera.intrinsics, camera.lens)
            yield {
                "image": frame.image,
                "joints_3d": joints_camera,
                "joints_2d": points,
                "intrinsics": intrinsics,
                "subject": subject,
                "action": action_of(action),
                "camera": camera_name,
                "frame": frame.index,
            }

    def _film(self, subject: str, name: str) -> Path:
        """Where a film lies, or should."""
        folder = self.source / subject
        return next(folder.glob(f"**/{name}.mp4"), folder / "Videos" / f"{name}.mp4")

    @cached_property
    def cameras(self) -> dict[tuple[str, str], Human36mCamera]:
        """Cameras by subject and name."""
        found = sorted(self.source.glob("metadata.xml")) or sorted(self.source.glob("*/metadata.xml"))
        if not found:
            raise ValueError(
                f"{self.source} must hold metadata.xml of Human3.6M's code, which has the cameras, found none"
            )
        return read_cameras(found[0])


def read_cameras(path: Path) -> dict[tuple[str, str], Human36mCamera]:
    """Read the cameras of all subjects from `metadata.xml`.

    Its element `w0` has 6 numbers for each camera and subject, three angles and the position, then 9 for each camera:
    focal lengths, centre, and the lens.

    Raises:
        ValueError: The file is none of Human3.6M's.
    """
    try:
        element = ElementTree.parse(path).find(".//w0")
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: expected Human3.6M's metadata, got no XML: {error}") from error
    words = re.split(r"[\s,;]+", (element.text if element is not None else "").strip("[] \n\t"))
    expected = len(CAMERAS) * (NUM_SUBJECTS * EXTRINSICS + INTRINSICS)
    if len(words) != expected:
        raise ValueError(f"{path}: expected an element w0 of {expected} numbers, got {len(words)} words")
    numbers = np.array([float(word) for word in words])
    split = len(CAMERAS) * NUM_SUBJECTS * EXTRINSICS
    placed = numbers[:split].reshape(len(CAMERAS), NUM_SUBJECTS, EXTRINSICS)
    inner = numbers[split:].reshape(len(CAMERAS), INTRINSICS)
    return {
        (f"S{subject + 1}", name): _camera(placed[index, subject], inner[index])
        for index, name in enumerate(CAMERAS)
        for subject in range(NUM_SUBJECTS)
    }


def read_poses(path: Path) -> np.ndarray:
    """Read a CDF file of poses: `(frames, joints, 3)` mm of the 17 joints.

    Raises:
        ValueError: The file is no CDF file, or its `Pose` is of another shape.
        ImportError: cdflib is not installed.
    """
    try:
        import cdflib
    except ImportError as error:
        raise ImportError('CDF files need cdflib: pip install "jointdetr[convert]"') from error
    try:
        poses = np.asarray(cdflib.CDF(path).varget("Pose"))
    except (ValueError, OSError, KeyError, IndexError) as error:
        raise ValueError(f"{path}: expected a CDF file with a variable Pose, got none: {error}") from error
    if poses.ndim < 2 or poses.shape[-1] != RECORDED_JOINTS * 3:
        raise ValueError(f"{path}: `Pose` must have the shape (frames, {RECORDED_JOINTS * 3}), got {poses.shape}")
    return poses.reshape(-1, RECORDED_JOINTS, 3)[:, JOINTS_OF_32].astype(np.float64)


def _camera(placed: np.ndarray, inner: np.ndarray) -> Human36mCamera:
    """Make a camera of its 6 and its 9 numbers."""
    intrinsics = np.array([[inner[0], 0.0, inner[2]], [0.0, inner[1], inner[3]], [0.0, 0.0, 1.0]])
    lens = Human36mLens(tuple(inner[4:7]), tuple(inner[7:9]))
    return Human36mCamera(_rotation(placed[:3]), placed[3:], intrinsics, lens)


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation about z, then y, then x, by `angles` about x, y, z in radians: `(3, 3)`."""
    return Rotation.from_euler("XYZ", angles).as_matrix()


def _kind(path: Path) -> str:
    """Name of the folder of a CDF file, without the prefix that some unpackers give it."""
    return path.parent.name.removeprefix("Poses_")


def _pose_files(folder: Path) -> dict[str, Path]:
    """CDF files of a subject by film, such as "Directions 1.54138969"; those in camera axes are preferred."""
    files = sorted(folder.glob("**/*.cdf"))
    world = {f"{path.stem}.{camera}": path for path in files if _kind(path) == WORLD_FOLDER for camera in CAMERAS}
    return world | {path.stem: path for path in files if _kind(path) == CAMERA_FOLDER}
