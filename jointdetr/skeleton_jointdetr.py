"""Joint names, parents and flip pairs of the skeletons that ship with the package: data only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Skeleton:
    """A tree of named joints.

    Args:
        name: Name of the skeleton, as the `skeleton` column of a data set says it.
        joints: Joint names; their order is the order of every `(..., joints, 3)` tensor.
        parents: Index of each joint's parent, -1 for the root.
        flip_pairs: Indices of the joints that trade places when the picture is mirrored.
        root: Index of the joint that positions are relative to.

    Raises:
        ValueError: The tree is not one tree hanging from `root`, or a flip pair names no two joints.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    root: int

    def __post_init__(self) -> None:
        """Refuse a description that is not a single tree."""
        joints = range(len(self.joints))
        twice = sorted({name for name in self.joints if self.joints.count(name) > 1})
        if twice:
            raise ValueError(f"`joints` must be unique names, got {twice} more than once")
        if len(self.parents) != len(joints):
            raise ValueError(
                f"`parents` must have one entry for each of the {len(joints)} joints, got {len(self.parents)}"
            )
        if not all(isinstance(parent, int) for parent in self.parents):
            raise ValueError(f"`parents` must be whole numbers, got {self.parents}")
        if self.root not in joints:
            raise ValueError(f"`root` must be a joint from 0 to {len(joints) - 1}, got {self.root}")
        for joint in joints:
            self._require_path_to_root(joint)
        flipped = [joint for pair in self.flip_pairs for joint in pair]
        is_of_pairs = all(len(pair) == 2 for pair in self.flip_pairs) and set(flipped) <= set(joints)
        if not is_of_pairs or len(set(flipped)) != len(flipped):
            raise ValueError(
                f"`flip_pairs` must be disjoint pairs of joints from 0 to {len(joints) - 1}, got {self.flip_pairs}"
            )

    def _require_path_to_root(self, joint: int) -> None:
        """Walk from a joint to the root, which a tree allows within as many steps as there are joints."""
        current = joint
        for _ in self.joints:
            if current == self.root:
                break
            current = self.parents[current] if 0 <= current < len(self.parents) else -1
        if current != self.root or self.parents[self.root] != -1:
            raise ValueError(
                f"`parents` must lead from every joint to the root {self.root}, whose parent is -1; "
                f"joint {joint} does not reach it, got {self.parents}"
            )


def _names(*lines: str) -> tuple[str, ...]:
    """Joint names of some lines."""
    return tuple(" ".join(lines).split())


HUMAN36M = Skeleton(
    name="human36m",
    joints=_names(
        "pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax neck head",
        "left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist",
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    flip_pairs=((1, 4), (2, 5), (3, 6), (14, 11), (15, 12), (16, 13)),
    root=0,
)

# The 17 joints of the test set, in its order. The head top hangs from the head, and both hips from the pelvis.
MPI_INF_3DHP = Skeleton(
    name="mpi_inf_3dhp",
    joints=_names(
        "head_top neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip",
        "right_knee right_ankle left_hip left_knee left_ankle pelvis spine head",
    ),
    parents=(16, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, -1, 14, 1),
    flip_pairs=((2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13)),
    root=14,
)

# The 24 joints of the SMPL body, as 3DPW's `jointPositions` have them. The head is a joint at the base of the skull.
SMPL = Skeleton(
    name="smpl",
    joints=_names(
        "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3",
        "left_foot right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow",
        "right_elbow left_wrist right_wrist left_hand right_hand",
    ),
    parents=(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
    flip_pairs=((1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21), (22, 23)),
    root=0,
)

# The 14 joints that 3DPW is evaluated on, in the order of Leeds Sports Pose; the Human3.6M regressor finds them on the
# SMPL surface. There is no pelvis, so the tree hangs from the neck; the evaluation aligns the middle of the hips.
LSP = Skeleton(
    name="lsp",
    joints=_names(
        "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow",
        "right_shoulder left_shoulder left_elbow left_wrist neck head_top",
    ),
    parents=(1, 2, 12, 12, 3, 4, 7, 8, 12, 12, 9, 10, -1, 12),
    flip_pairs=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)),
    root=12,
)

# `joints19` of CMU Panoptic; `BodyCenter` is the pelvis.
PANOPTIC = Skeleton(
    name="panoptic",
    joints=_names(
        "neck nose pelvis left_shoulder left_elbow left_wrist left_hip left_knee left_ankle right_shoulder",
        "right_elbow right_wrist right_hip right_knee right_ankle left_eye left_ear right_eye right_ear",
    ),
    parents=(2, 0, -1, 0, 3, 4, 2, 6, 7, 0, 9, 10, 2, 12, 13, 1, 15, 1, 17),
    flip_pairs=((3, 9), (4, 10), (5, 11), (6, 12), (7, 13), (8, 14), (15, 17), (16, 18)),
    root=2,
)

# The joints that CMU Panoptic is evaluated on: `joints19` without eyes and ears, which are its last.
PANOPTIC_BODY = Skeleton(
    "panoptic_body", PANOPTIC.joints[:15], PANOPTIC.parents[:15], PANOPTIC.flip_pairs[:6], PANOPTIC.root
)

# COCO's key points, labelled in 2D only. There is no pelvis: hips hang from the shoulders, these from the nose.
COCO = Skeleton(
    name="coco",
    joints=_names(
        "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow",
        "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
    ),
    parents=(-1, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    root=0,
)

# MPII Human Pose, labelled in 2D only.
MPII = Skeleton(
    name="mpii",
    joints=_names(
        "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top",
        "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist",
    ),
    parents=(1, 2, 6, 6, 3, 4, -1, 6, 7, 8, 11, 12, 7, 7, 13, 14),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    root=6,
)

# The bones of CMU's motion capture, each by the joint at its end. The root lies above the hips, not between them.
CMU_MOCAP = Skeleton(
    name="cmu_mocap",
    joints=_names(
        "root left_hip left_knee left_ankle left_foot left_toes right_hip right_knee right_ankle right_foot",
        "right_toes lower_back upper_back thorax lower_neck upper_neck head_top left_shoulder left_elbow",
        "left_wrist left_hand left_fingers left_fingertips left_thumb right_shoulder right_elbow",
        "right_wrist right_hand right_fingers right_fingertips right_thumb",
    ),
    parents=(
        *(-1, 0, 1, 2, 3, 4),
        *(0, 6, 7, 8, 9),
        *(0, 11, 12, 13, 14, 15),
        *(13, 17, 18, 19, 20, 21, 20),
        *(13, 24, 25, 26, 27, 28, 27),
    ),
    flip_pairs=(*zip(range(1, 6), range(6, 11), strict=True), *zip(range(17, 24), range(24, 31), strict=True)),
    root=0,
)

SKELETONS: dict[str, Skeleton] = {
    skeleton.name: skeleton
    for skeleton in (HUMAN36M, MPI_INF_3DHP, SMPL, LSP, PANOPTIC, PANOPTIC_BODY, COCO, MPII, CMU_MOCAP)
}
