"""What drawing and writing need to know of a skeleton: its description, its bones and the side of each joint."""

from transformers import PreTrainedConfig

from ..skeleton_jointdetr import SKELETONS, Skeleton


def skeleton_from_config(config: PreTrainedConfig) -> Skeleton:
    """Return the skeleton that a model's configuration describes.

    Args:
        config: A configuration with `id2label`, `joint_parents`, `flip_pairs` and `root_joint`.

    Returns:
        One of `SKELETONS` if the joints and their parents are the same, else one with the name "custom".

    Raises:
        ValueError: The configuration describes no single tree.
    """
    joints = tuple(config.id2label[joint] for joint in range(len(config.id2label)))
    parents = tuple(config.joint_parents)
    for skeleton in SKELETONS.values():
        if (skeleton.joints, skeleton.parents) == (joints, parents):
            return skeleton
    flip_pairs = tuple((first, second) for first, second in config.flip_pairs)
    return Skeleton("custom", joints, parents, flip_pairs, config.root_joint)


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
