"""The SMPL body as far as 3DPW's evaluation needs it: 14 joints regressed from the surface of a posed person.

The papers measure 3DPW on joints that a regressor trained on Human3.6M finds on SMPL's surface. Neither SMPL nor the
regressor may be passed on; a user who has them puts them into one folder:

    SMPL_MALE.npz, SMPL_FEMALE.npz     v_template, shapedirs, posedirs, J_regressor, weights, kintree_table
    J_regressor_h36m.npy               (17, vertices)

Shape vocabulary: `frames`, `vertices`, `bones` (24). Metres, axis-angle poses in radians.

Source: Loper et al., "SMPL: A Skinned Multi-Person Linear Model", SIGGRAPH Asia 2015.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ...skeleton_jointdetr import LSP, SMPL

FILES = {"m": "SMPL_MALE.npz", "f": "SMPL_FEMALE.npz"}
REGRESSOR = "J_regressor_h36m.npy"
ROWS_OF_LSP = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10]
"""Row of the regressor for each joint of the skeleton `lsp`; it has the left leg before the right one."""

NUM_BONES = 24


@dataclass(frozen=True)
class SmplBody:
    """A body of one gender with the points that are regressed from its surface.

    Args:
        template: `(vertices, 3)`, the mean person.
        shape_directions: `(vertices, 3, shapes)`.
        pose_directions: `(vertices, 3, 207)`.
        joint_regressor: `(bones, vertices)`.
        skinning: `(vertices, bones)`.
        parents: of the bones, -1 for the root.
        point_regressor: `(points, vertices)`.
    """

    template: np.ndarray
    shape_directions: np.ndarray
    pose_directions: np.ndarray
    joint_regressor: np.ndarray
    skinning: np.ndarray
    parents: list[int]
    point_regressor: np.ndarray

    def pose(self, poses: np.ndarray, shape: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the bones begin and the regressed points lie.

        Args:
            poses: `(frames, 72)` axis-angle of each bone.
            shape: `(shapes,)`; as many as there are directions are used.
            places: `(frames, 3)`, added to everything.

        Returns:
            `(frames, bones, 3)` and `(frames, points, 3)`.
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
    """Read the bodies of a folder by their gender, with the 14 points of the skeleton `lsp`.

    Raises:
        ValueError: A file is missing, an array has another shape, or the regressor's sides are not those of the body.
    """
    missing = [name for name in (*FILES.values(), REGRESSOR) if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} must hold {', '.join((*FILES.values(), REGRESSOR))}, missing are {missing}")
    regressor = np.load(folder / REGRESSOR, allow_pickle=False)
    return {gender: _read_body(folder / name, regressor) for gender, name in FILES.items()}


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
        if arrays[key].shape != shape:
            raise ValueError(f"`{key}` of {path} must have the shape {shape}, got {arrays[key].shape}")
    if regressor.shape != (17, count):
        raise ValueError(f"{path.parent / REGRESSOR} must have the shape (17, {count}), got {regressor.shape}")
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
