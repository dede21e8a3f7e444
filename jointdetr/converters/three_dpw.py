"""3DPW: people in the wild, from the official sequence files and pictures.

    SOURCE/sequenceFiles/{train,validation,test}/NAME.pkl
    SOURCE/imageFiles/NAME/image_00000.jpg
    SOURCE/smpl/                                 optional: SMPL_MALE.npz, SMPL_FEMALE.npz, J_regressor_h36m.npy

A sequence file is a pickle, read by `load_pickle`, which runs nothing. Of each person it holds `jointPositions`
(frames, 72): SMPL's 24 joints in metres in the world; `campose_valid` (frames,). `cam_poses` (frames, 4, 4) take the
world to the camera, `cam_intrinsics` (3, 3) the camera to the picture. What rows make of it is in docs/data.md.

Shape vocabulary: `frames`, `joints` (24, or the 14 that are regressed), `vertices` and `bones` (24) of a body; bodies
are in metres, poses axis-angles in radians.

Sources: Loper et al., "SMPL: A Skinned Multi-Person Linear Model", SIGGRAPH Asia 2015; von Marcard et al., "Recovering
Accurate 3D Human Pose in the Wild Using IMUs and a Moving Camera", ECCV 2018.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from ..data.rows import project
from ..formats.rig import pose_nodes
from ..formats.safe_pickle import load_pickle
from ..skeleton_jointdetr import LSP, SMPL, Skeleton
from .conversion import Converter, Recording, RowLabels, Skipped
from .reading import require_shape

SPLITS = ("train", "validation", "test")
METRES_TO_MM = 1000.0
LARGEST_BODY_ERROR_MM = 30.0

FILES = {"m": "SMPL_MALE.npz", "f": "SMPL_FEMALE.npz"}
REGRESSOR = "J_regressor_h36m.npy"
ROWS_OF_LSP = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]
"""Row of the regressor for each joint of the skeleton `lsp`; it has the left leg before the right one."""

NUM_BONES = 24


@dataclass(frozen=True)
class ThreeDpw(Converter):
    """Sequences of 3DPW."""

    source: Path  # the folder with `sequenceFiles`, and with `imageFiles` unless `images` says otherwise
    images: Path | None = None  # the folder with a folder of pictures for each sequence
    step: int = 1  # keep every `step`-th frame; the test set is evaluated on all of them

    @property
    def skeleton(self) -> Skeleton:
        """The evaluation's joints where the body model is there, else the body model's own."""
        return LSP if (self.source / "smpl").is_dir() else SMPL

    @cached_property
    def _bodies(self) -> "dict[str, SmplBody]":
        """Body models by gender; empty where they are not there."""
        return read_bodies(self.source / "smpl") if self.skeleton is LSP else {}

    def recordings(self) -> list[Recording]:
        """One for each sequence, with all of its people."""
        folder = self.source / "sequenceFiles"
        files = {split: sorted((folder / split).glob("*.pkl")) for split in SPLITS}
        found = [Recording(path.stem, split, path) for split, paths in files.items() for path in paths]
        if not found:
            raise ValueError(f"3DPW must have sequences as {folder}/{{train,validation,test}}/*.pkl, got none")
        return found

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """One row for each person in every `step`-th frame."""
        people, intrinsics = read_sequence(recording.source, self._bodies)
        pictures = (self.images or self.source / "imageFiles") / recording.name
        if not pictures.is_dir():
            raise ValueError(f"the pictures of {recording.source} must lie in {pictures}, which does not exist")
        for frame in range(0, len(people[0][0]) if people else 0, self.step):
            for person, (joints, valid) in enumerate(people):
                if not valid[frame]:
                    yield Skipped("the camera's pose is not valid", f"person {person}", frame)
                elif joints[frame, :, 2].min() <= 0:
                    yield Skipped("the person is not in front of the camera", f"person {person}", frame)
                else:
                    yield {
                        "image": pictures / f"image_{frame:05d}.jpg",
                        "joints_3d": joints[frame],
                        "joints_2d": project(joints[frame], intrinsics),
                        "intrinsics": intrinsics,
                        "subject": str(person),
                        "action": recording.name,
                        "frame": frame,
                    }


def read_sequence(path: Path, bodies: "dict[str, SmplBody]") -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Read a sequence file: SMPL's joints or, with bodies, those of the skeleton `lsp`, regressed from their surface.

    Returns:
        For each person, joints `(frames, joints, 3)` mm before the camera and whether it is known where that was
        `(frames,)`; the intrinsics `(3, 3)` px.

    Raises:
        ValueError: A key is missing, an array has another shape, or a posed body misses its joints.
    """
    keys = ["cam_intrinsics", "cam_poses", "campose_valid", "jointPositions"]
    keys += ["betas", "genders", "poses", "trans"] if bodies else []
    values = load_pickle(path)
    if not isinstance(values, dict) or not set(keys) <= set(values):
        found = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{path} must be a dictionary with the keys {keys}, got {found}")
    cameras = _array(path, "cam_poses", values["cam_poses"], (None, 4, 4))  # world to camera
    positions = _arrays_of_people(path, values, "jointPositions", (len(cameras), 72))
    valid = _arrays_of_people(path, values, "campose_valid", (len(cameras),))
    joints = [METRES_TO_MM * of_person.reshape(-1, 24, 3) for of_person in positions]
    if bodies:
        joints = _regress_joints(path, values, joints, bodies)
    rotations, translations = cameras[:, :3, :3].swapaxes(-1, -2), METRES_TO_MM * cameras[:, None, :3, 3]
    joints_camera = [of_person @ rotations + translations for of_person in joints]
    people = list(zip(joints_camera, (of_person > 0 for of_person in valid), strict=True))
    return people, _array(path, "cam_intrinsics", values["cam_intrinsics"], (3, 3))


def _regress_joints(
    path: Path, values: Mapping[str, Any], joints: list[np.ndarray], bodies: "Mapping[str, SmplBody]"
) -> list[np.ndarray]:
    """Pose each person's body, which must have its joints `(frames, bones, 3)` mm, and return its regressed points."""
    shapes = {"poses": (None, 72), "trans": (None, 3), "betas": (None,)}
    of_people = [_arrays_of_people(path, values, key, shape) for key, shape in shapes.items()]
    genders, regressed = _of_people(path, values, "genders"), []
    for person, (gender, poses, places, shape) in enumerate(zip(genders, *of_people, strict=True)):
        if gender not in bodies:
            raise ValueError(f"`genders[{person}]` of {path} must be one of {sorted(bodies)}, got {gender!r}")
        bones, points = (METRES_TO_MM * array for array in bodies[gender].pose(poses, shape[:10], places))
        error = np.nanmedian(np.linalg.norm(bones - joints[person], axis=-1))
        if not error <= LARGEST_BODY_ERROR_MM:
            raise ValueError(f"{path}: the posed body misses `jointPositions` by {error:.0f} mm; another SMPL model?")
        regressed.append(points)
    return regressed


def _of_people(path: Path, values: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Read a list with one entry for each person."""
    people, count = values[key], len(values["jointPositions"])
    if not isinstance(people, list | tuple | np.ndarray) or len(people) != count:
        raise ValueError(f"`{key}` of {path} must be a list with one entry for each person of `jointPositions`")
    return people


def _arrays_of_people(path: Path, values: Mapping[str, Any], key: str, shape: tuple) -> list[np.ndarray]:
    people = _of_people(path, values, key)
    return [_array(path, f"{key}[{person}]", array, shape) for person, array in enumerate(people)]


def _array(path: Path, name: str, value: Any, shape: tuple) -> np.ndarray:
    """Read an array of numbers; None in its expected shape stands for any length."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` of {path} must be an array of numbers, got {type(value).__name__}") from error
    return require_shape(array, shape, f"`{name}` of {path}")


class SmplBody(NamedTuple):
    """A body of one gender with the points that are regressed from its surface."""

    template: np.ndarray  # (vertices, 3), the mean person
    shape_directions: np.ndarray  # (vertices, 3, shapes)
    pose_directions: np.ndarray  # (vertices, 3, 207)
    joint_regressor: np.ndarray  # (bones, vertices)
    skinning: np.ndarray  # (vertices, bones)
    point_regressor: np.ndarray  # (points, vertices)

    def pose(self, poses: np.ndarray, shape: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the bones begin and the regressed points lie: `(frames, bones, 3)` and `(frames, points, 3)`.

        Args:
            poses: `(frames, 72)` axis-angle of each bone.
            shape: `(shapes,)`; as many as there are directions are used.
            places: `(frames, 3)`, added to everything.
        """
        count = min(len(shape), self.shape_directions.shape[2])
        shaped = self.template + self.shape_directions[..., :count] @ shape[:count]  # (vertices, 3)
        joints = self.joint_regressor @ shaped  # (bones, 3)
        turned = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(len(poses), NUM_BONES, 3, 3)
        offsets = np.concatenate([joints[:1], joints[1:] - joints[list(SMPL.parents[1:])]])
        rotations, starts = pose_nodes(SMPL.parents, turned, np.broadcast_to(offsets, (len(poses), NUM_BONES, 3)))
        used = np.flatnonzero(self.point_regressor.any(axis=0))  # a tenth of the vertices
        feature = (turned[:, 1:] - np.eye(3)).reshape(len(poses), -1)  # (frames, 207)
        bent = shaped[used] + np.einsum("vcp,fp->fvc", self.pose_directions[used], feature)
        surface = np.zeros_like(bent)  # (frames, used, 3)
        for bone, weight in enumerate(self.skinning[used].T):
            moved = (bent - joints[bone]) @ rotations[:, bone].swapaxes(-1, -2) + starts[:, bone, None]
            surface += weight[:, None] * moved
        points = self.point_regressor[:, used] @ surface
        return starts + places[:, None], points + places[:, None]


def read_bodies(folder: Path) -> dict[str, SmplBody]:
    """Read the bodies of a folder by their gender, with the 14 points of the skeleton `lsp`."""
    expected = (*FILES.values(), REGRESSOR)
    if missing := [name for name in expected if not (folder / name).is_file()]:
        raise ValueError(f"{folder} must hold {', '.join(expected)}, missing are {missing}")
    regressor = np.load(folder / REGRESSOR, allow_pickle=False)
    return {gender: _read_body(folder / name, regressor) for gender, name in FILES.items()}


def _read_body(path: Path, regressor: np.ndarray) -> SmplBody:
    """Read one body; refuse a regressor whose left is its right: the order of rows differs between those around."""
    with np.load(path, allow_pickle=False) as file:
        count = len(file["v_template"]) if "v_template" in file else None
        shapes = {
            "v_template": (count, 3),
            "shapedirs": (count, 3, None),
            "posedirs": (count, 3, 9 * (NUM_BONES - 1)),
            "J_regressor": (NUM_BONES, count),
            "weights": (count, NUM_BONES),
        }
        if not set(shapes) <= set(file.files):
            raise ValueError(f"{path} must have the arrays {list(shapes)}, got {sorted(file.files)}")
        arrays = [require_shape(file[key], shape, f"`{key}` of {path}") for key, shape in shapes.items()]
    require_shape(regressor, (17, count), str(path.parent / REGRESSOR))
    body = SmplBody(*arrays, regressor[ROWS_OF_LSP])
    (bones,), (points,) = body.pose(np.zeros((1, 72)), np.zeros(1), np.zeros((1, 3)))
    for name in ("left_hip", "left_knee", "left_wrist"):
        ends = bones[[SMPL.joints.index(name), SMPL.joints.index(name.replace("left", "right"))]]
        to_left, to_right = np.linalg.norm(ends - points[LSP.joints.index(name)], axis=-1)
        if to_left > to_right:
            said = f"its {name} lies at the right of {path.name}"
            raise ValueError(f"{path.parent / REGRESSOR}: {said}; expected SPIN's")
    return body
