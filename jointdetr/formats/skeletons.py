"""What drawing and writing need to know of a skeleton: its bones and the side of each joint."""

from collections.abc import Sequence

from ..skeleton_jointdetr import Skeleton


def bones(skeleton: Skeleton) -> list[tuple[int, int]]:
    """(parent, child) of every joint but the root."""
    return [(parent, child) for child, parent in enumerate(skeleton.parents) if parent >= 0]


def joint_sides(skeleton: Skeleton) -> list[str]:
    """Side of every joint, "left", "right" or "middle"; a pair whose names tell nothing is taken as (right, left)."""
    sides = ["middle"] * len(skeleton.joints)
    for first, second in skeleton.flip_pairs:
        swapped = "left" in skeleton.joints[first].lower()
        sides[first], sides[second] = ("left", "right") if swapped else ("right", "left")
    return sides


def named_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(right, left) of joints whose names differ in that word alone."""
    lefts = [(index, name.replace("right", "left")) for index, name in enumerate(names) if "right" in name]
    return tuple((index, names.index(left)) for index, left in lefts if left in names)
