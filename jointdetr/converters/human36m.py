"""Human3.6M, as its owners give it out and as others pack it. docs/data.md says what rows make of it.

**The official files**: CDF files of poses, `metadata.xml` with the cameras, and films.

    metadata.xml                                                     of the code release
    S1/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf    mm in the camera's axes (preferred)
    S1/MyPoseFeatures/D3_Positions/Directions 1.cdf                  mm in the room's axes (one for all cameras)
    S1/Videos/Directions 1.54138969.mp4

Folders may lie deeper and may be called `Poses_D3_Positions_mono`, as some unpack them. `D3_Positions_mono_universal`
is another thing, of a made-up size, and is not read.

**The npz beside pictures** that mmpose's and SPIN's users have: `imgname` (N), `center` (N, 2) px, `scale` (N, the
square box's side divided by 200 px), `part` (N, J, 3) pixels with a confidence, `S` (N, J, 4) metres in absolute
camera space with a confidence. The pinhole cameras that are fitted to the labels explain them within 3 px.

**VideoPose3D's `data_3d_h36m.npz`** of poses alone. Its one array `positions_3d` is a pickled dictionary
`{subject: {action: (frames, 32, 3)}}` in metres in the room's axes, z up; it is read by `safe_pickle`.

Shape vocabulary: `frames`, `pictures` (N), `joints` (17, or J of an npz), `recorded` joints (32). Camera axes: x
right, y down, z forward.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ..formats.safe_pickle import load_npz_objects
from ..skeleton_jointdetr import HUMAN36M
from .conversion import Converter, Recording, RowLabels, Skipped
from .reading import Lens, film_rows, fit_intrinsics, require_shape, see

JOINTS_OF_32 = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
"""Where the 17 joints of the skeleton `human36m` stand among the 32 of the motion capture."""

TEST_SUBJECTS = ("S9", "S11")
ACTION_NAMES = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
NUM_SUBJECTS = 11
EXTRINSICS, INTRINSICS = 6, 9  # numbers of each camera in `metadata.xml`
RECORDED_JOINTS = 32
USUAL_STEPS = {"train": 5, "test": 64}
CAMERA_FOLDER, WORLD_FOLDER = "D3_Positions_mono", "D3_Positions"
BOX_SIDE_PER_SCALE_PX = 200.0
METRES_TO_MM = 1000.0


def human36m_converter(source: Path, images: Path | None = None, step: int | None = None) -> Converter:
    """Make the converter of the files that are there."""
    if source.is_dir() and any(source.glob("S[0-9]*/**/*.cdf")):
        return Human36mOfficial(source, step)
    files = [source] if source.is_file() else sorted(source.glob("*.npz"))
    if len(files) != 1:
        expected = "subjects such as S1 with D3_Positions_mono/*.cdf, or one npz file"
        raise ValueError(f"{source} must hold {expected}; got {[path.name for path in files]}")
    path = files[0]
    try:
        with np.load(path, allow_pickle=False) as file:
            names = list(file.files)
    except (ValueError, OSError, TypeError, AttributeError) as error:  # numpy reads npy and pickles, too
        raise ValueError(f"{path}: expected an npz file, got none: {error}") from error
    if "positions_3d" in names:
        return Human36mSkeletons(path, step or Human36mSkeletons.step)
    if "imgname" in names:
        return Human36mNpz(path, images or path.parent, step)
    raise ValueError(f"{path} must have the array `imgname` (mmpose) or `positions_3d` (VideoPose3D), got {names}")


@dataclass(frozen=True)
class Human36mOfficial(Converter):
    """The official files."""

    source: Path  # the folder with the subjects
    step: int | None = None  # take every `step`-th frame; None: every fifth for training and every 64th for tests
    skeleton = HUMAN36M

    def recordings(self) -> list[Recording]:
        """One for each film that has poses; those in camera axes are preferred."""
        _ = self.cameras  # missing or broken metadata are found before anything is started
        found = []
        for folder in sorted(path for path in self.source.glob("S[0-9]*") if path.is_dir()):
            world, seen = (sorted(folder.glob(f"**/*{kind}/*.cdf")) for kind in (WORLD_FOLDER, CAMERA_FOLDER))
            films = {f"{path.stem}.{camera}": path for path in world for camera in CAMERAS}
            films |= {path.stem: path for path in seen}
            for name, poses in sorted(films.items()):
                recording = f"{folder.name}_{name.replace(' ', '_')}"
                found.append(Recording(recording, split_of(recording), poses, (folder.name, name)))
        if not found:
            expected = f"S*/.../{CAMERA_FOLDER}/*.cdf or {WORLD_FOLDER}/*.cdf"
            raise ValueError(f"{self.source} must hold {expected}, found none")
        return found

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """Rows of a film."""
        subject, name = recording.data
        action, _, camera_name = name.rpartition(".")
        if (subject, camera_name) not in self.cameras:
            known = f"S1 to S{NUM_SUBJECTS} by {CAMERAS}"
            raise ValueError(f"cameras are known of {known}, got {subject}, {camera_name!r}")
        camera = self.cameras[subject, camera_name]
        joints = read_poses(recording.source)  # (frames, joints, 3) mm
        if recording.source.parent.name.endswith(WORLD_FOLDER):
            joints = (joints - camera.position) @ camera.rotation.T
        folder = self.source / subject
        film = next(folder.glob(f"**/{name}.mp4"), folder / "Videos" / f"{name}.mp4")
        origin = {"subject": subject, "action": action_of(action), "camera": camera_name}

        def labels(frame: int) -> dict[str, Any]:
            points, intrinsics = see(joints[frame], camera.intrinsics, camera.lens)
            return origin | {"joints_3d": joints[frame], "joints_2d": points, "intrinsics": intrinsics}

        return film_rows(film, len(joints), self.step or USUAL_STEPS[recording.split], labels)

    @cached_property
    def cameras(self) -> "dict[tuple[str, str], Human36mCamera]":
        """Cameras by subject and name."""
        found = sorted(self.source.glob("metadata.xml")) or sorted(self.source.glob("*/metadata.xml"))
        if not found:
            expected = "metadata.xml of Human3.6M's code, which has the cameras"
            raise ValueError(f"{self.source} must hold {expected}, found none")
        return read_cameras(found[0])


class PictureName(NamedTuple):
    """What `S1/S1_Directions_1.54138969/S1_Directions_1.54138969_000001.jpg` says; `number` is -1 if it has none."""

    recording: str
    subject: str
    action: str
    camera: str
    number: int


@dataclass(frozen=True)
class Human36mNpz(Converter):
    """An npz of annotations beside a folder of pictures."""

    annotations: Path  # the npz file
    images: Path  # the folder that `imgname` is relative to
    step: int | None = None  # keep pictures of every `step`-th frame of the films; None keeps all that the npz has
    skeleton = HUMAN36M

    def recordings(self) -> list[Recording]:
        """One for each film the pictures are from."""
        pictures: dict[str, list[int]] = {}
        for index, name in enumerate(self._names):
            pictures.setdefault(name.recording, []).append(index)
        return [
            Recording(name, split_of(name), self.annotations, np.array(indices))
            for name, indices in sorted(pictures.items())
        ]

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """Rows of the pictures of a film."""
        arrays = self._arrays
        for index in recording.data:
            _, subject, action, camera, frame = self._names[index]
            if self.step is not None and frame % self.step:
                continue
            joints_camera = arrays["S"][index, :, :3] * METRES_TO_MM  # (joints, 3)
            points = arrays["part"][index, :, :2]  # (joints, 2) px
            valid_3d, valid_2d = arrays["S"][index, :, 3] > 0, arrays["part"][index, :, 2] > 0
            both = valid_3d & valid_2d
            try:
                intrinsics = fit_intrinsics(joints_camera[both], points[both])
            except ValueError as error:
                yield Skipped("no camera can be fitted to the labels", f"entry {index}: {error}", frame)
                continue
            side = float(arrays["scale"][index]) * BOX_SIDE_PER_SCALE_PX
            yield {
                "image": self.images / str(arrays["imgname"][index]),
                "joints_3d": joints_camera,
                "joints_3d_valid": valid_3d,
                "joints_2d": points,
                "joints_2d_valid": valid_2d,
                "visible": valid_2d,
                "intrinsics": intrinsics,
                "box": [*(arrays["center"][index] - side / 2), side, side],
                "subject": subject,
                "action": action,
                "camera": camera,
                "frame": frame,
            }

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        """The arrays, read without pickle, of the right shapes."""
        num_joints = len(self.skeleton.joints)
        shapes = {"imgname": (), "center": (2,), "scale": (), "part": (num_joints, 3), "S": (num_joints, 4)}
        with np.load(self.annotations, allow_pickle=False) as file:
            if not set(shapes) <= set(file.files):
                raise ValueError(f"{self.annotations} must have the keys {sorted(shapes)}, got {sorted(file.files)}")
            arrays = {name: file[name] for name in shapes}
        count = len(arrays["imgname"])
        for name, shape in shapes.items():
            require_shape(arrays[name], (count, *shape), f"`{name}` of {self.annotations}")
        return arrays

    @cached_property
    def _names(self) -> list[PictureName]:
        """What the pictures' names say, with numbers from 0: pictures count from 1 unless one has the number 0."""
        names = [self.parse_name(str(name)) for name in self._arrays["imgname"]]
        first = 0 if any(name.number == 0 for name in names) else 1
        return [name._replace(number=max(name.number - first, -1)) for name in names]

    def parse_name(self, name: str) -> PictureName:
        """Read subject, action, camera and number from a picture's name."""
        recording, _, number = Path(name).stem.rpartition("_")
        scene, _, camera = recording.rpartition(".")
        subject, _, action = scene.partition("_")
        index = int(number) if number.isdigit() else -1
        return PictureName(recording or "pictures", subject, action_of(action), camera, index)


@dataclass(frozen=True)
class Human36mSkeletons(Converter):
    """VideoPose3D's npz."""

    source: Path  # the file
    step: int = 5  # take every `step`-th frame; every fifth is a tenth of a second apart
    skeleton = HUMAN36M
    skeletons_only = True

    def recordings(self) -> list[Recording]:
        """One for each take of a subject."""
        return [
            Recording(f"{subject}_{action.replace(' ', '_')}", split_of(subject), self.source, (subject, action))
            for subject, actions in self._positions.items()
            for action in actions
        ]

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """Poses of a take."""
        subject, action = recording.data
        positions = np.asarray(self._positions[subject][action])  # (frames, 32, 3) m
        if (shape := positions.shape)[1:] not in ((32, 3), (17, 3)):
            raise ValueError(f"`positions_3d` of {subject}, {action} must have the shape (frames, 32, 3), got {shape}")
        chosen = JOINTS_OF_32 if positions.shape[1] == 32 else slice(None)
        for frame in range(0, len(positions), self.step):
            x, y, z = positions[frame, chosen].T * METRES_TO_MM
            level = np.stack([x, -z, y], axis=-1)  # (joints, 3), y down
            yield {"joints_3d": level, "subject": subject, "action": action_of(action), "frame": frame}

    @cached_property
    def _positions(self) -> dict[str, dict[str, np.ndarray]]:
        positions = load_npz_objects(self.source)["positions_3d"]
        if not isinstance(positions, dict):
            got = type(positions).__name__
            raise ValueError(f"`positions_3d` of {self.source} must be a dictionary of takes by subject, got {got}")
        return positions


def split_of(recording: str) -> str:
    """The split of a recording such as "S9_Walking", by its subject; "TS1" is of MPI-INF-3DHP's test set."""
    subject = recording.partition("_")[0]
    return "test" if subject in TEST_SUBJECTS or subject.startswith("TS") else "train"


def action_of(name: str) -> str:
    """Name of an action as the test protocols have it: "WalkingDog 1" and "WalkDog_1" are both "WalkDog_1"."""
    action, _, take = name.replace(" ", "_").partition("_")
    return ACTION_NAMES.get(action, action) + (f"_{take}" if take else "")


class Human36mCamera(NamedTuple):
    """A camera as one subject was filmed by it."""

    rotation: np.ndarray  # (3, 3), from the room's axes to the camera's
    position: np.ndarray  # (3,) mm in the room
    intrinsics: np.ndarray  # (3, 3) px
    lens: Lens


def read_cameras(path: Path) -> dict[tuple[str, str], Human36mCamera]:
    """Read the cameras of all subjects from `metadata.xml`.

    Its element `w0` has 6 numbers for each camera and subject, three angles and the position, then 9 for each camera:
    focal lengths, centre, and the lens.
    """
    try:
        element = ElementTree.parse(path).find(".//w0")
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: expected Human3.6M's metadata, got no XML: {error}") from error
    words = re.split(r"[\s,;]+", (element.text if element is not None else "").strip("[] \n\t"))
    split = len(CAMERAS) * NUM_SUBJECTS * EXTRINSICS
    expected = split + len(CAMERAS) * INTRINSICS
    if len(words) != expected:
        raise ValueError(f"{path}: expected an element w0 of {expected} numbers, got {len(words)} words")
    numbers = np.array([float(word) for word in words])
    placed = numbers[:split].reshape(len(CAMERAS), NUM_SUBJECTS, EXTRINSICS)
    cameras = {}
    for name, of_subjects, inner in zip(CAMERAS, placed, numbers[split:].reshape(-1, INTRINSICS), strict=True):
        intrinsics = np.array([[inner[0], 0.0, inner[2]], [0.0, inner[1], inner[3]], [0.0, 0.0, 1.0]])
        lens = Lens(tuple(inner[4:7]), tuple(inner[7:9]), skew=1.0)
        for subject, place in enumerate(of_subjects, start=1):
            rotation = Rotation.from_euler("XYZ", place[:3]).as_matrix()  # about z, then y, then x; radians
            cameras[f"S{subject}", name] = Human36mCamera(rotation, place[3:], intrinsics, lens)
    return cameras


def read_poses(path: Path) -> np.ndarray:
    """Read a CDF file of poses: `(frames, joints, 3)` mm of the 17 joints."""
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
