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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ..data.rows import project
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
        """Body models by gender."""
        return read_bodies(self.source / "smpl")

    def recordings(self) -> list[Recording]:
        """One for each sequence, with all of its people."""
        files = {split: sorted((self.source / "sequenceFiles" / split).glob("*.pkl")) for split in SPLITS}
        if not any(files.values()):
            expected = self.source / "sequenceFiles" / "{train,validation,test}" / "*.pkl"
            raise ValueError(f"3DPW must have sequences as {expected}, got none")
        return [Recording(path.stem, split, path) for split in SPLITS for path in files[split]]

    def rows(self, recording: Recording) -> Iterator[RowLabels | Skipped]:
        """One row for each person in every `step`-th frame."""
        sequence = read_sequence(recording.source)
        if self.skeleton is LSP:
            sequence = regress_joints(recording.source, sequence, self._bodies)
        pictures = (self.images or self.source / "imageFiles") / recording.name
        if not pictures.is_dir():
            raise ValueError(f"the pictures of {recording.source} must lie in {pictures}, which does not exist")
        people = [sequence.joints_camera(person) for person in range(len(sequence.joints_world))]
        for frame in range(0, len(sequence.world_to_camera), self.step):
            for person, joints in enumerate(people):
                yield _row(pictures, sequence, frame, person, joints[frame])


@dataclass(frozen=True)
class DpwSequence:
    """What a sequence file says; the lists have one entry for each person."""

    joints_world: list[np.ndarray]  # (frames, joints, 3) mm
    camera_valid: list[np.ndarray]  # (frames,) bool
    world_to_camera: np.ndarray  # (frames, 4, 4), translations in mm
    intrinsics: np.ndarray  # (3, 3) px

    def joints_camera(self, person: int) -> np.ndarray:
        """Joints of a person before the camera: `(frames, joints, 3)` mm."""
        rotations, translations = self.world_to_camera[:, :3, :3], self.world_to_camera[:, None, :3, 3]
        return self.joints_world[person] @ rotations.swapaxes(-1, -2) + translations


def read_sequence(path: Path) -> DpwSequence:
    """Read a sequence file; `ValueError` if a key is missing, or an array has another shape."""
    values = _read_values(path, ("jointPositions", "campose_valid", "cam_poses", "cam_intrinsics"))
    poses = _array(path, "cam_poses", values["cam_poses"], (None, 4, 4)).copy()
    poses[:, :3, 3] *= METRES_TO_MM
    joints = _arrays_of_people(path, values, "jointPositions", (len(poses), 72))
    valid = _arrays_of_people(path, values, "campose_valid", (len(poses),))
    return DpwSequence(
        joints_world=[METRES_TO_MM * of_person.reshape(-1, 24, 3) for of_person in joints],
        camera_valid=[of_person > 0 for of_person in valid],
        world_to_camera=poses,
        intrinsics=_array(path, "cam_intrinsics", values["cam_intrinsics"], (3, 3)),
    )


@dataclass(frozen=True)
class SmplBody:
    """A body of one gender with the points that are regressed from its surface."""

    template: np.ndarray  # (vertices, 3), the mean person
    shape_directions: np.ndarray  # (vertices, 3, shapes)
    pose_directions: np.ndarray  # (vertices, 3, 207)
    joint_regressor: np.ndarray  # (bones, vertices)
    skinning: np.ndarray  # (vertices, bones)
    parents: list[int]  # of the bones, -1 for the root
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
        rotations, starts = self._chain(turned, joints)
        used = np.flatnonzero(self.point_regressor.any(axis=0))  # a tenth of the vertices
        feature = (turned[:, 1:] - np.eye(3)).reshape(len(poses), -1)  # (frames, 207)
        bent = shaped[used] + np.einsum("vcp,fp->fvc", self.pose_directions[used], feature)
        surface = np.zeros_like(bent)  # (frames, used, 3)
        for bone, weight in enumerate(self.skinning[used].T):
            moved = (bent - joints[bone]) @ rotations[:, bone].swapaxes(-1, -2) + starts[:, bone, None]
            surface += weight[:, None] * moved
        points = self.point_regressor[:, used] @ surface
        return starts + places[:, None], points + places[:, None]

    def _chain(self, turned: np.ndarray, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World rotations `(frames, bones, 3, 3)` and starts `(frames, bones, 3)` along the tree."""
        rotations, starts = np.empty_like(turned), np.empty(turned.shape[:3])
        for bone, parent in enumerate(self.parents):
            if parent < 0:
                rotations[:, bone], starts[:, bone] = turned[:, bone], joints[bone]
            else:
                rotations[:, bone] = rotations[:, parent] @ turned[:, bone]
                starts[:, bone] = starts[:, parent] + rotations[:, parent] @ (joints[bone] - joints[parent])
        return rotations, starts


def read_bodies(folder: Path) -> dict[str, SmplBody]:
    """Read the bodies of a folder by their gender, with the 14 points of the skeleton `lsp`."""
    missing = [name for name in (*FILES.values(), REGRESSOR) if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} must hold {', '.join((*FILES.values(), REGRESSOR))}, missing are {missing}")
    regressor = np.load(folder / REGRESSOR, allow_pickle=False)
    return {gender: _read_body(folder / name, regressor) for gender, name in FILES.items()}


def _row(pictures: Path, sequence: DpwSequence, frame: int, person: int, joints: np.ndarray) -> RowLabels | Skipped:
    """Make the row of one person with joints `(joints, 3)` mm before the camera in one frame."""
    if not sequence.camera_valid[person][frame]:
        return Skipped("the camera's pose is not valid", f"person {person}", frame)
    if joints[:, 2].min() <= 0:
        return Skipped("the person is not in front of the camera", f"person {person}", frame)
    return {
        "image": pictures / f"image_{frame:05d}.jpg",
        "joints_3d": joints,
        "joints_2d": project(joints, sequence.intrinsics),
        "intrinsics": sequence.intrinsics,
        "subject": str(person),
        "action": pictures.name,
        "frame": frame,
    }


def regress_joints(path: Path, sequence: DpwSequence, bodies: Mapping[str, SmplBody]) -> DpwSequence:
    """Replace SMPL's joints by those of the skeleton `lsp`, regressed from the surface of the posed body."""
    values = _read_values(path, ("jointPositions", "poses", "trans", "betas", "genders"))
    shapes = {"poses": (None, 72), "trans": (None, 3), "betas": (None,)}
    of_people = {key: _arrays_of_people(path, values, key, shape) for key, shape in shapes.items()}
    regressed = []
    for person, gender in enumerate(values["genders"]):
        if gender not in bodies:
            raise ValueError(f"`genders[{person}]` of {path} must be one of {sorted(bodies)}, got {gender!r}")
        poses, places, shape = (of_people[key][person] for key in ("poses", "trans", "betas"))
        joints, points = (METRES_TO_MM * array for array in bodies[gender].pose(poses, shape[:10], places))
        error = np.nanmedian(np.linalg.norm(joints - sequence.joints_world[person], axis=-1))
        if not error <= LARGEST_BODY_ERROR_MM:
            raise ValueError(f"{path}: the posed body misses `jointPositions` by {error:.0f} mm; another SMPL model?")
        regressed.append(points)
    return replace(sequence, joints_world=regressed)


def _read_values(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Read a pickled dictionary that has these keys."""
    values = load_pickle(path)
    if not isinstance(values, dict) or not set(keys) <= set(values):
        found = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{path} must be a dictionary with the keys {sorted(keys)}, got {found}")
    return values


def _arrays_of_people(path: Path, values: Mapping[str, Any], key: str, shape: tuple) -> list[np.ndarray]:
    """Read a list with one array for each person."""
    people = values[key]
    if not isinstance(people, list | tuple | np.ndarray) or len(people) != len(values["jointPositions"]):
        raise ValueError(f"`{key}` of {path} must be a list with one array for each person of `jointPositions`")
    return [_array(path, f"{key}[{person}]", array, shape) for person, array in enumerate(people)]


def _array(path: Path, name: str, value: Any, shape: tuple) -> np.ndarray:
    """Read an array of numbers; None in its expected shape stands for any length."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` of {path} must be an array of numbers, got {type(value).__name__}") from error
    require_shape(array, shape, f"`{name}` of {path}")
    return array


def _read_body(path: Path, regressor: np.ndarray) -> SmplBody:
    """Read one body."""
    with np.load(path, allow_pickle=False) as file:
        keys = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table")
        if not set(keys) <= set(file.files):
            raise ValueError(f"{path} must have the arrays {list(keys)}, got {sorted(file.files)}")
        arrays = {key: np.asarray(file[key]) for key in keys}
    count = len(arrays["v_template"])
    shapes = {
        "v_template": (count, 3),
        "shapedirs": (count, 3, arrays["shapedirs"].shape[-1]),
        "posedirs": (count, 3, 9 * (NUM_BONES - 1)),
        "J_regressor": (NUM_BONES, count),
        "weights": (count, NUM_BONES),
        "kintree_table": (2, NUM_BONES),
    }
    for key, shape in shapes.items():
        require_shape(arrays[key], shape, f"`{key}` of {path}")
    require_shape(regressor, (17, count), str(path.parent / REGRESSOR))
    parents = [-1, *arrays["kintree_table"][0, 1:].astype(int).tolist()]
    body = SmplBody(*(arrays[key] for key in keys[:5]), parents, regressor[ROWS_OF_LSP])
    _require_same_sides(path, body)
    return body


def _require_same_sides(path: Path, body: SmplBody) -> None:
    """Refuse a regressor whose left is the body's right: the order of its rows differs between those around."""
    bones, points = (positions[0] for positions in body.pose(np.zeros((1, 72)), np.zeros(1), np.zeros((1, 3))))
    for name in ("left_hip", "left_knee", "left_wrist"):
        point = points[LSP.joints.index(name)]
        left, right = (bones[SMPL.joints.index(side + name[4:])] for side in ("left", "right"))
        if np.linalg.norm(point - left) > np.linalg.norm(point - right):
            raise ValueError(
                f"{path.parent / REGRESSOR}: its {name} lies at the right of {path.name}; expected SPIN's"
            )
