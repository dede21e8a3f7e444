"""Does JointDETR earn its place? Three other kinds of pose models with its backbone, data and budget."""

import torch
from transformers import set_seed

from benchmarks.accuracy.models import L1Peer, LikelihoodPeer, Peer, VolumetricPeer
from jointdetr import JointDetrConfig
from jointdetr.training.recipe import Recipe
from jointdetr.training.train import build_model, resolve_skeleton

PEERS: dict[str, type[Peer]] = {"l1": L1Peer, "rle": LikelihoodPeer, "volumetric": VolumetricPeer}
_SHARED = [
    *("id2label", "joint_parents", "root_joint", "joint_scale", "flip_pairs", "backbone_config", "freeze_batch_norm"),
    *("d_model", "init_std", "joint_weight", "joint_2d_weight", "likelihood_weight"),
    *("num_dense_parts", "dense_upscaling", "dense_weight"),
]


def build_peer(name: str, recipe: Recipe) -> Peer:
    """Make a peer whose backbone starts with the very weights that the recipe's JointDETR starts with.

    Args:
        name: one of `PEERS`.
        recipe: of a JointDETR; skeleton, backbone, loss weights and dense supervision are taken over.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in PEERS:
        raise ValueError(f"a peer must be one of {sorted(PEERS)}, got {name!r}")
    set_seed(recipe.seed)
    reference = build_model(recipe, resolve_skeleton(recipe))
    shared = {field: getattr(reference.config, field) for field in _SHARED}
    peer = PEERS[name](JointDetrConfig(**shared, query_alignment="fixed"))
    peer.backbone.load_state_dict(reference.model.backbone.state_dict())
    return peer.to(torch.float32)
