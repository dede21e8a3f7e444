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
        num_joints = len(self.joints)
        if len(set(self.joints)) != num_joints:
            raise ValueError(f"`joints` must be distinct names, got {self.joints}")
        if len(self.parents) != num_joints:
            raise ValueError(
                f"`parents` must have one entry for each of the {num_joints} joints, got {len(self.parents)}"
            )
        if not 0 <= self.root < num_joints:
            raise ValueError(f"`root` must be a joint index below {num_joints}, got {self.root}")
        for joint in range(num_joints):
            self._require_path_to_root(joint)
        flipped = [joint for pair in self.flip_pairs for joint in pair]
        if len(set(flipped)) != len(flipped) or not set(flipped) <= set(range(num_joints)):
            raise ValueError(f"`flip_pairs` must name each joint at most once, got {self.flip_pairs}")

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


HUMAN36M = Skeleton(
    name="human36m",
    joints=(
        "pelvis",
        "right_hip",
        "right_knee",
        "right_ankle",
        "left_hip",
        "left_knee",
        "left_ankle",
        "spine",
        "thorax",
        "neck",
        "head",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "right_shoulder",
        "right_elbow",
        "right_wrist",
    ),
    parents=(-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    flip_pairs=((1, 4), (2, 5), (3, 6), (14, 11), (15, 12), (16, 13)),
    root=0,
)

# The 17 joints of the test set, in its order. The head top hangs from the head, and both hips from the pelvis.
MPI_INF_3DHP = Skeleton(
    name="mpi_inf_3dhp",
    joints=(
        "head_top",
        "neck",
        "right_shoulder",
        "right_elbow",
        "right_wrist",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "right_hip",
        "right_knee",
        "right_ankle",
        "left_hip",
        "left_knee",
        "left_ankle",
        "pelvis",
        "spine",
        "head",
    ),
    parents=(16, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, -1, 14, 1),
    flip_pairs=((2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13)),
    root=14,
)

SKELETONS: dict[str, Skeleton] = {skeleton.name: skeleton for skeleton in (HUMAN36M, MPI_INF_3DHP)}
