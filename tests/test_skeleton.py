"""The skeletons are single trees whose left and right mirror each other."""

import pytest

from jointdetr.skeleton_jointdetr import HUMAN36M, MPI_INF_3DHP, SKELETONS, Skeleton


def make_skeleton(**changes) -> Skeleton:
    fields = {"name": "stick", "joints": ("a", "b", "c"), "parents": (-1, 0, 0), "flip_pairs": ((1, 2),), "root": 0}
    return Skeleton(**(fields | changes))


def test_human36m_is_the_documented_order():
    assert HUMAN36M.joints[:4] == ("pelvis", "right_hip", "right_knee", "right_ankle")
    assert HUMAN36M.joints[7:11] == ("spine", "thorax", "neck", "head")
    assert HUMAN36M.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
    assert MPI_INF_3DHP.joints[14:] == ("pelvis", "spine", "head")


def test_every_skeleton_is_found_by_its_name():
    assert all(name == skeleton.name for name, skeleton in SKELETONS.items())
    sizes = {name: len(skeleton.joints) for name, skeleton in SKELETONS.items()}
    assert sizes == {
        "human36m": 17,
        "mpi_inf_3dhp": 17,
        "smpl": 24,
        "lsp": 14,
        "panoptic": 19,
        "panoptic_body": 15,
        "coco": 17,
        "mpii": 16,
        "cmu_mocap": 31,
    }


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_mirroring_keeps_names_and_bones(skeleton):
    swap = {a: b for pair in skeleton.flip_pairs for a, b in (pair, pair[::-1])}
    for joint, name in enumerate(skeleton.joints):
        mirrored = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert skeleton.joints[swap.get(joint, joint)] == mirrored
        parent = skeleton.parents[joint]
        assert skeleton.parents[swap.get(joint, joint)] == (swap.get(parent, parent))
    assert skeleton.parents[skeleton.root] == -1


@pytest.mark.parametrize(
    "changes",
    [
        {"joints": ("a", "b", "b")},
        {"parents": (-1, 0)},
        {"parents": (-1, 2, 1)},  # a cycle beside the tree
        {"parents": (-1, -1, 0)},  # two roots
        {"parents": (1, -1, 0)},  # another root than `root`
        {"parents": (-1, 0, 7)},
        {"root": 3},
        {"flip_pairs": ((1, 2), (2, 0))},
        {"flip_pairs": ((1, 3),)},
    ],
)
def test_a_broken_skeleton_is_refused(changes):
    make_skeleton()
    with pytest.raises(ValueError, match="must"):
        make_skeleton(**changes)
