"""What a recipe says of the model: its skeleton, and the weights that it starts from."""

from typing import Any

import torch

from ..configuration_jointdetr import JointDetrConfig
from ..data.examples import PoseMixture
from ..formats.skeletons import find_skeleton, skeleton_from_dict
from ..loss_jointdetr import PoseLabels
from ..modeling_jointdetr import JointDetrForPoseEstimation
from ..refinement_jointdetr import JointRefiner
from ..skeleton_jointdetr import Skeleton
from .adaptation import adapt_to_skeleton, skeleton_fields
from .recipe import Recipe, RefinerRecipe

MEAN_POSES = 2000  # people whose joints' mean new queries start at


def resolve_skeleton(recipe: Recipe | RefinerRecipe) -> Skeleton:
    """Return the recipe's skeleton: one of `SKELETONS`, or one that a JSON file or the recipe itself describes."""
    if isinstance(recipe.skeleton, str):
        return find_skeleton(recipe.skeleton)
    try:
        return skeleton_from_dict(recipe.skeleton)
    except ValueError as error:
        raise ValueError(f"`skeleton` of the recipe must describe one: {error}") from error


def build_model(recipe: Recipe, skeleton: Skeleton) -> JointDetrForPoseEstimation:
    """Make the recipe's model with the weights it starts from; a `ValueError` if they do not go together or fit."""
    settings = recipe.model
    if settings.deformable_detr_from is not None and (settings.init_from or settings.backbone_from):
        raise ValueError(
            "`model.deformable_detr_from` must stand without `init_from` and `backbone_from`, "
            f"got {settings.init_from!r} and {settings.backbone_from!r}"
        )
    fields = skeleton_fields(skeleton) | {"flip_pairs": skeleton.flip_pairs} | settings.config
    if settings.init_from is not None:
        model = _load_model(settings.init_from, settings.config, skeleton)
    elif settings.deformable_detr_from is not None:
        model = JointDetrForPoseEstimation.from_deformable_detr(settings.deformable_detr_from, **fields)
    else:
        model = JointDetrForPoseEstimation(JointDetrConfig(**fields))
    if settings.backbone_from is not None:
        _load_backbone_weights(model, settings.backbone_from)
    if settings.refiner is not None:
        model.set_refiner(JointRefiner.from_pretrained(settings.refiner, dtype=torch.float32))
    if model.refiner is not None:
        model.refiner.requires_grad_(False)  # loading has thawed it; several processes would wait for its gradient
    return model


def _load_model(source: str, changes: dict[str, Any], skeleton: Skeleton) -> JointDetrForPoseEstimation:
    """Load a model to go on from, with some other fields in its config, for the skeleton."""
    fields = JointDetrConfig.from_pretrained(source).to_dict() | changes
    model = JointDetrForPoseEstimation.from_pretrained(
        source,
        config=JointDetrConfig.from_dict(fields),
        dtype=torch.float32,
        ignore_mismatched_sizes="backbone_config" in changes,  # projections of another backbone's stages
    )
    own = model.config.skeleton
    is_own = (own.joints, own.parents, own.root) == (skeleton.joints, skeleton.parents, skeleton.root)
    return model if is_own else adapt_to_skeleton(model, skeleton)


def _load_backbone_weights(model: JointDetrForPoseEstimation, source: str) -> None:
    """Give the model's backbone the weights of a trained one of the same architecture."""
    own = model.model.backbone
    # the class itself and not AutoBackbone, which takes every path for the name of a repository
    trained = type(own).from_pretrained(source, out_features=list(own.out_features), dtype=torch.float32)
    try:
        own.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        kind = type(own).__name__
        raise ValueError(f"`model.backbone_from` must be a {kind} of the recipe's size, got {source}") from error


def start_at_mean_pose(model: JointDetrForPoseEstimation, examples: PoseMixture) -> None:
    """Let the queries of a new model start where the joints of the training people are on average.

    Of at most `MEAN_POSES` people, spread over the data; joints that none of them has stay at the root.
    """
    start = model.model.query_start
    if start is None:
        return
    step = max(1, len(examples) // MEAN_POSES)
    labels = [examples.pose_labels(index) for index in range(0, len(examples), step)]
    stacked = PoseLabels.from_list(labels, model.config, model.device)
    joints, points = (
        (values * valid[..., None]).sum(0) / valid.sum(0)[:, None].clamp(min=1)
        for values, valid in ((stacked.joints, stacked.joints_valid), (stacked.points, stacked.points_valid))
    )
    start.stand_as(joints, torch.where(stacked.points_valid.any(0)[:, None], points, 0.5))
