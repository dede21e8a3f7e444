"""A trained model for another skeleton: what depends on the joints is rebuilt, everything else is kept.

Joints are the same if their names are. A weight with an axis of joints holds `before` other entries, then `per_joint`
entries for each joint, then others again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers.utils import logging

from ..configuration_jointdetr import JointDetrConfig, JointRefinerConfig
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..refinement_jointdetr import POSITION_INPUTS, SIGMA_INPUTS, JointRefiner
from ..skeleton_jointdetr import Skeleton

logger = logging.get_logger(__name__)

# Of the numbers that the refinement network reads of every joint, those about its parent and its children.
PARENT_INPUTS = (3, 4, 5, 9)
CHILDREN_INPUTS = (6, 7, 8, 10)


class _JointAxis(NamedTuple):
    """Where the joints lie in a weight."""

    axis: int
    before: int = 0
    per_joint: int = 1

    def positions(self, joints: Sequence[str], weight: torch.Tensor) -> dict[Any, int]:
        """Positions on the axis of a weight of these joints: by number of what is before, by joint, of the others."""
        size = weight.shape[self.axis]
        of_joints = [(joint, number) for joint in joints for number in range(self.per_joint)]
        others = [("", number) for number in range(size - self.before - len(of_joints))]
        return dict(zip([*range(self.before), *of_joints, *others], range(size), strict=True))


def adapt_to_skeleton(model: JointDetrForPoseEstimation, skeleton: Skeleton) -> JointDetrForPoseEstimation:
    """Make a model for another skeleton that knows what this one knows, on the same device and of the same dtype.

    A joint of the same name keeps its rows of the class heads, its columns of the decoder connections, its query in
    the force-aligned baseline and its part of the refinement network; "no joint" is kept too. New joints start
    untrained. All else, from the backbone to the heads that place a query, is copied.

    The refinement network learns from skeletons alone, so fine-tuning does not train it: until `train-refiner` has, it
    leaves new joints where they are, and looks past those neighbours of a joint that are others than before.

    Args:
        model: Any model, with set or fixed alignment. It is not changed.
        skeleton: The new joints. A set of fewer queries than joints grows to their number; groups of queries that have
            no room for all joints become one group.
    """
    adapted = type(model)(_adapted_config(model.config, skeleton))
    adapted.to(device=model.device, dtype=model.dtype).train(model.training)
    _copy_weights(model, adapted)
    if adapted.refiner is not None:
        _look_past_new_neighbours(adapted.refiner, model.refiner.config)
    new = sorted(set(skeleton.joints) - set(model.config.id2label.values()))
    logger.warning(f"Kept the weights of {len(skeleton.joints) - len(new)} joints; {len(new)} are new: {new}.")
    return adapted


def skeleton_fields(skeleton: Skeleton) -> dict[str, Any]:
    """What the configurations of a pose model and of its refinement network say of a skeleton."""
    names = dict(enumerate(skeleton.joints))
    return {"id2label": names, "joint_parents": list(skeleton.parents), "root_joint": skeleton.root}


def _adapted_config(config: JointDetrConfig, skeleton: Skeleton) -> JointDetrConfig:
    described = skeleton_fields(skeleton)
    fields = config.to_dict() | described | {"flip_pairs": skeleton.flip_pairs}
    fields["num_queries"] = max(0 if config.query_alignment == "fixed" else config.num_queries, len(skeleton.joints))
    if config.query_groups * len(skeleton.joints) > fields["num_queries"]:
        fields["query_groups"] = 1  # all queries together have room for more joints than each group has
    if config.refiner_config is not None:
        fields["refiner_config"] |= described | {"bone_lengths": _kept_lengths(config.refiner_config, skeleton)}
    return type(config).from_dict(fields)


def _kept_lengths(config: JointRefinerConfig, skeleton: Skeleton) -> list[float] | None:
    """Typical lengths of the bones that both skeletons have, 0 for others."""
    if config.bone_lengths is None:
        return None
    names = {**config.id2label, -1: ""}
    old = zip(config.joint_parents, config.bone_lengths, strict=True)
    lengths = {(names[joint], names[parent]): length for joint, (parent, length) in enumerate(old)}
    parents = ["" if parent < 0 else skeleton.joints[parent] for parent in skeleton.parents]
    return [lengths.get(bone, 0.0) for bone in zip(skeleton.joints, parents, strict=True)]


@torch.no_grad()
def _copy_weights(model: JointDetrForPoseEstimation, adapted: JointDetrForPoseEstimation) -> None:
    """Copy every weight; of those with an axis of joints, what belongs to joints of both skeletons."""
    start = adapted.model.query_start
    if start is not None and start.logits is not None:
        start.logits.zero_()  # no query that knows a joint is to take itself for a new one
    axes = _joint_axes(model.config)
    weights = model.state_dict()
    for name, target in adapted.state_dict().items():
        joint_axis = next((found for ending, found in axes.items() if name.endswith(ending)), None)
        if joint_axis is None:
            target.copy_(weights[name])
            continue
        if name.startswith("refiner."):
            target.zero_()  # a new joint is neither read nor moved
        old = joint_axis.positions(model.config.skeleton.joints, weights[name])
        new = joint_axis.positions(adapted.config.skeleton.joints, target)
        shared = [(old[entry], new[entry]) for entry in new if entry in old]  # queries may have grown in number
        source, place = torch.tensor(shared, dtype=torch.long, device=target.device).view(-1, 2).unbind(1)
        axis = joint_axis.axis
        rows = min(len(target), len(weights[name])) if axis else None  # of a weight with both queries and joints
        target[:rows].index_copy_(axis, place, weights[name][:rows].index_select(axis, source))


def _joint_axes(config: JointDetrConfig) -> dict[str, _JointAxis]:
    """The weights with an axis of joints, by the end of their names."""
    refiner = {
        "refiner.input_projection.weight": _JointAxis(1, per_joint=POSITION_INPUTS),
        "refiner.sigma_projection.weight": _JointAxis(1, per_joint=SIGMA_INPUTS),
        "refiner.output_projection.weight": _JointAxis(0, per_joint=3),
        "refiner.output_projection.bias": _JointAxis(0, per_joint=3),
    }
    of_queries = ("query_position_embeddings.weight", "query_start.joints", "query_start.points")
    if config.query_alignment == "fixed":
        return refiner | dict.fromkeys(of_queries, _JointAxis(0))
    connection = _JointAxis(1, before=3 + 2)  # a joint's 3D position and its place in the picture
    connections = {f"connections.{index}.fc1.weight": connection for index in range(config.decoder_layers - 1)}
    class_head = {name: _JointAxis(0) for name in ("class_head.weight", "class_head.bias")}  # "no joint" comes last
    class_head["query_start.logits"] = _JointAxis(1)
    queries = dict.fromkeys(of_queries, _JointAxis(0, before=config.num_queries, per_joint=0))
    return refiner | connections | class_head | queries


@torch.no_grad()
def _look_past_new_neighbours(refiner: JointRefiner, before: JointRefinerConfig) -> None:
    """Let joints whose parent or children have changed not read them: their weights are for other joints."""
    old, new = _neighbours(before), _neighbours(refiner.config)
    weight = refiner.input_projection.weight.unflatten(1, (-1, POSITION_INPUTS))  # (hidden, joints, inputs)
    for name in old.keys() & new.keys():
        for inputs, was, is_now in zip((PARENT_INPUTS, CHILDREN_INPUTS), old[name], new[name], strict=True):
            if was != is_now:
                weight[:, refiner.config.label2id[name], list(inputs)] = 0.0


def _neighbours(config: JointRefinerConfig) -> dict[str, tuple[str | None, set[str]]]:
    """The names of every joint's parent, if it has one, and of its children."""
    names, parents = config.id2label, config.joint_parents
    return {
        name: (names.get(parents[number]), {names[child] for child, parent in enumerate(parents) if parent == number})
        for number, name in names.items()
    }
