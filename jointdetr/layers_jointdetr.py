"""The parts of JointDETR, in the order in which data passes them: levels, attention, layers, heads.

Shape vocabulary: batch, queries, joints (joint types J), classes (J + "no joint"), levels, tokens (the sum of
height * width over the levels), heads, points (samples of a head on a level).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_jointdetr import JointDetrConfig
from .deformable_attention_jointdetr import multi_scale_deformable_attention

ERROR_PRIOR = 0.1  # error that an untrained confidence head expects, in units of `joint_scale`


class JointDetrInputProjection(nn.ModuleList):
    """Brings the backbone's stages to the model width and adds coarser levels by stride-2 convolutions."""

    def __init__(self, config: JointDetrConfig, channels: list[int]):
        projections = []
        kept = channels[-config.num_feature_levels :]
        for in_channels in kept:
            projections.append(self._projection(in_channels, config.d_model, kernel_size=1))
        in_channels = kept[-1]
        for _ in range(config.num_feature_levels - len(kept)):
            projections.append(self._projection(in_channels, config.d_model, kernel_size=3, stride=2, padding=1))
            in_channels = config.d_model
        super().__init__(projections)
        self.num_stages = len(kept)

    @staticmethod
    def _projection(in_channels: int, d_model: int, **convolution: Any) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(in_channels, d_model, **convolution),
            # 32 groups as in DETRs, but never of a single channel: a level may be one pixel large
            nn.GroupNorm(math.gcd(32, d_model // 2), d_model),
        )

    def forward(self, feature_maps: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """Map the backbone's stages to one (batch, d_model, height, width) per feature level."""
        stages = feature_maps[-self.num_stages :]
        levels = [projection(stage) for projection, stage in zip(list(self), stages, strict=False)]
        source = stages[-1]
        for projection in list(self)[self.num_stages :]:
            source = projection(_no_single_pixel(source))
            levels.append(source)
        return levels


def _no_single_pixel(features: torch.Tensor) -> torch.Tensor:
    """Pad what is one pixel high or wide with zeros, which changes no result of the stride-2 convolutions.

    In bfloat16 on a CPU, torch 2.13 gives such a convolution's weights a gradient of uninitialised memory.
    """
    height, width = features.shape[-2:]
    return nn.functional.pad(features, (0, int(width == 1), 0, int(height == 1)))


@dataclass
class FeatureLayout:
    """Where the tokens of the flattened feature levels lie, and which of them are picture rather than padding."""

    spatial_shapes: list[tuple[int, int]]  # height and width of each level
    token_mask: torch.Tensor | None  # (batch, tokens), True for the picture; None without padding
    valid_ratios: torch.Tensor  # (batch or 1, levels, 2), share of the width and height that is picture
    sizes: torch.Tensor  # (levels, 2), float32, width and height of each level

    @classmethod
    def from_masks(cls, shapes: list[tuple[int, int]], masks: list[torch.Tensor] | None, device: torch.device):
        """Lay out levels of the given shapes; `masks` are (batch, height, width), one per level."""
        # once for all layers, and without waiting for the device, as `torch.tensor(..., device=device)` would
        sizes = torch.tensor([(width, height) for height, width in shapes], dtype=torch.float32)
        sizes = sizes.to(device, non_blocking=True)
        if masks is None:
            return cls(shapes, None, torch.ones(1, len(shapes), 2, device=device), sizes)
        ratios = [torch.stack([mask[:, 0].float().mean(1), mask[:, :, 0].float().mean(1)], -1) for mask in masks]
        return cls(shapes, torch.cat([mask.flatten(1) for mask in masks], 1), torch.stack(ratios, 1), sizes)

    def token_places(self) -> torch.Tensor:
        """Return the centre of every token as a place on every level: (batch or 1, tokens, levels, 2)."""
        places = []
        for level, (height, width) in enumerate(self.spatial_shapes):
            size = self.sizes[level]
            y, x = torch.meshgrid(
                torch.arange(height, device=size.device) + 0.5,
                torch.arange(width, device=size.device) + 0.5,
                indexing="ij",
            )
            pixels = torch.stack([x, y], -1).flatten(0, 1)  # (height * width, 2)
            places.append(pixels / (self.valid_ratios[:, level, None] * size))
        return torch.cat(places, 1)[:, :, None] * self.valid_ratios[:, None]

    def on_levels(self, points: torch.Tensor) -> torch.Tensor:
        """Turn points of the picture (batch, queries, 2) into places on levels (batch, queries, 1, levels, 1, 2)."""
        return points[:, :, None, None, None] * self.valid_ratios[:, None, None, :, None]


def sine_position_embedding(
    shape: tuple[int, int], d_model: int, mask: torch.Tensor | None, device: torch.device
) -> torch.Tensor:
    """Return DETR's sine embedding of a level's pixel centres: (batch or 1, height * width, d_model), float32."""
    if mask is None:
        mask = torch.ones(1, *shape, device=device)
    y, x = mask.float().cumsum(1), mask.float().cumsum(2)
    y = (y - 0.5) / (y[:, -1:] + 1e-6) * 2 * math.pi
    x = (x - 0.5) / (x[:, :, -1:] + 1e-6) * 2 * math.pi
    frequencies = 10000 ** (-2 * torch.arange(d_model // 4, device=device) / (d_model // 2))
    embedding = []
    for coordinate in (y, x):
        angles = coordinate[..., None] * frequencies  # (batch, height, width, d_model / 4)
        embedding.append(torch.stack([angles.sin(), angles.cos()], -1).flatten(-2))
    return torch.cat(embedding, -1).flatten(1, 2)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention in plain torch, for when attention weights are asked for; the signature is transformers'."""
    scale = query.size(-1) ** -0.5 if scaling is None else scaling
    weights = torch.matmul(query, key.transpose(2, 3)) * scale
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = nn.functional.dropout(weights.softmax(-1), p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class JointDetrSelfAttention(nn.Module):
    """Multi-head attention among a group's queries; position embeddings enter queries and keys, not values."""

    def __init__(self, config: JointDetrConfig):
        super().__init__()
        self.config = config
        self.head_dim = config.d_model // config.decoder_attention_heads
        self.group_size = config.num_queries // config.query_groups
        self.scaling = self.head_dim**-0.5
        self.is_causal = False  # read by the sdpa interface
        self.q_proj = nn.Linear(config.d_model, config.d_model)
        self.k_proj = nn.Linear(config.d_model, config.d_model)
        self.v_proj = nn.Linear(config.d_model, config.d_model)
        self.o_proj = nn.Linear(config.d_model, config.d_model)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: torch.Tensor,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Map (batch, queries, d_model) to the same shape and, where the backend has them, the attention weights.

        These are (batch * groups, heads, queries of a group, queries of a group).
        """
        heads_shape = (-1, self.group_size, self.config.decoder_attention_heads, self.head_dim)
        placed = hidden_states + position_embeddings
        query = self.q_proj(placed).reshape(heads_shape).transpose(1, 2)  # (batch * groups, heads, queries, head_dim)
        key = self.k_proj(placed).reshape(heads_shape).transpose(1, 2)
        value = self.v_proj(hidden_states).reshape(heads_shape).transpose(1, 2)
        attention: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation or "eager", eager_attention_forward
        )
        dropout = self.config.attention_dropout if self.training else 0.0
        output, weights = attention(self, query, key, value, None, dropout=dropout, scaling=self.scaling, **kwargs)
        return self.o_proj(output.reshape(hidden_states.shape)), weights


class JointDetrDeformableAttention(nn.Module):
    """Multi-scale deformable attention of queries to the tokens of all feature levels."""

    def __init__(self, config: JointDetrConfig, num_heads: int, num_points: int):
        super().__init__()
        self.num_heads = num_heads
        self.num_levels = config.num_feature_levels
        self.num_points = num_points
        self.sampling_offsets = nn.Linear(config.d_model, num_heads * self.num_levels * num_points * 2)
        self.attention_weights = nn.Linear(config.d_model, num_heads * self.num_levels * num_points)
        self.value_proj = nn.Linear(config.d_model, config.d_model)
        self.output_proj = nn.Linear(config.d_model, config.d_model)

    def forward(
        self,
        placed: torch.Tensor,  # (batch, queries, d_model) with their position embedding
        tokens: torch.Tensor,  # (batch, tokens, d_model)
        reference_points: torch.Tensor,  # (batch or 1, queries, 1 or heads, levels, 1 or points, 2)
        layout: FeatureLayout,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the new queries, and the attention weights (batch, queries, heads, levels, points)."""
        samples_shape = (*placed.shape[:2], self.num_heads, self.num_levels, self.num_points)
        value = self.value_proj(tokens)
        if layout.token_mask is not None:
            value = value.masked_fill(~layout.token_mask[..., None], 0.0)
        value = value.unflatten(-1, (self.num_heads, -1))  # (batch, tokens, heads, head_dim)
        weights = self.attention_weights(placed).reshape(*samples_shape[:3], self.num_levels * self.num_points)
        weights = weights.softmax(-1).reshape(samples_shape)
        offsets = self.sampling_offsets(placed).reshape(*samples_shape, 2)  # in pixels of each level
        # as large as a query's offsets: a short dimension that repeats is slow
        level_sizes = layout.sizes[:, None].expand(offsets.shape[2:]).contiguous()
        locations = reference_points + offsets / level_sizes
        output = multi_scale_deformable_attention(value, layout.spatial_shapes, locations, weights)
        return self.output_proj(output), weights


class JointDetrMLP(nn.Module):
    """Feed-forward block of an encoder or decoder layer."""

    def __init__(self, config: JointDetrConfig, hidden_dim: int):
        super().__init__()
        self.fc1 = nn.Linear(config.d_model, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, config.d_model)
        self.activation = ACT2FN[config.activation_function]
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map (batch, sequence, d_model) to the same shape."""
        return self.dropout(self.fc2(self.dropout(self.activation(self.fc1(hidden_states)))))


class JointDetrEncoderLayer(GradientCheckpointingLayer):
    """Deformable self-attention of the tokens, then a feed-forward block, each with a residual and a norm."""

    def __init__(self, config: JointDetrConfig):
        super().__init__()
        self.self_attn = JointDetrDeformableAttention(config, config.encoder_attention_heads, config.encoder_n_points)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.mlp = JointDetrMLP(config, config.encoder_ffn_dim)
        self.final_layer_norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: torch.Tensor,
        reference_points: torch.Tensor,
        layout: FeatureLayout,
    ) -> torch.Tensor:
        """Map tokens (batch, tokens, d_model) to the same shape."""
        attended, _ = self.self_attn(hidden_states + position_embeddings, hidden_states, reference_points, layout)
        hidden_states = self.self_attn_layer_norm(hidden_states + self.dropout(attended))
        return self.final_layer_norm(hidden_states + self.mlp(hidden_states))


class JointDetrDecoderLayer(GradientCheckpointingLayer):
    """Self-attention among the queries, deformable attention to the tokens, then a feed-forward block."""

    def __init__(self, config: JointDetrConfig):
        super().__init__()
        self.self_attn = JointDetrSelfAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.encoder_attn = JointDetrDeformableAttention(
            config, config.decoder_attention_heads, config.decoder_n_points
        )
        self.encoder_attn_layer_norm = nn.LayerNorm(config.d_model)
        self.mlp = JointDetrMLP(config, config.decoder_ffn_dim)
        self.final_layer_norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: torch.Tensor,
        tokens: torch.Tensor,
        reference_points: torch.Tensor,
        layout: FeatureLayout,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Map queries (batch, queries, d_model) to the same shape."""
        attended, _ = self.self_attn(hidden_states, position_embeddings, **kwargs)
        hidden_states = self.self_attn_layer_norm(hidden_states + self.dropout(attended))
        attended, _ = self.encoder_attn(hidden_states + position_embeddings, tokens, reference_points, layout)
        hidden_states = self.encoder_attn_layer_norm(hidden_states + self.dropout(attended))
        return self.final_layer_norm(hidden_states + self.mlp(hidden_states))


class JointDetrRegressionHead(nn.Sequential):
    """Three linear layers from a query to a change of its position; the last one starts at zero."""

    def __init__(self, config: JointDetrConfig, num_coordinates: int):
        super().__init__(
            nn.Linear(config.d_model, config.d_model),
            nn.ReLU(),
            nn.Linear(config.d_model, config.d_model),
            nn.ReLU(),
            nn.Linear(config.d_model, num_coordinates),
        )


class JointDetrConfidenceHead(JointDetrRegressionHead):
    """Logarithm of the expected error, in units of `config.joint_scale`, and logit of the joint's being visible."""

    def __init__(self, config: JointDetrConfig):
        super().__init__(config, num_coordinates=2)


class JointDetrClassHead(nn.Linear):
    """Logits over the joint types and "no joint"; starts at a low probability of being any joint."""

    def __init__(self, config: JointDetrConfig):
        super().__init__(config.d_model, config.num_joints + 1)


@dataclass
class QueryStart:
    """What queries say before they have read the picture, to which every decoder layer adds its changes."""

    joints: torch.Tensor  # (batch, queries, 3) units of joint_scale
    points: torch.Tensor  # (batch, queries, 2) in [0, 1] of the picture
    logits: torch.Tensor | None  # (batch, queries, classes), which every layer's are added to; None without


class JointDetrQueryStart(nn.Module):
    """Learned start of every query, at first one joint's, and that of a mean pose once the model has been told one.

    Query q starts as joint type q modulo J, so that every joint has queries that look for it from the first step on.
    """

    def __init__(self, config: JointDetrConfig):
        super().__init__()
        self.joints = nn.Parameter(torch.empty(config.num_queries, 3))
        self.points = nn.Parameter(torch.empty(config.num_queries, 2))
        is_set = config.query_alignment == "set"
        self.logits = nn.Parameter(torch.empty(config.num_queries, config.num_joints + 1)) if is_set else None

    def forward(self, batch_size: int) -> QueryStart:
        """Repeat the start for every picture, in float32."""
        logits = None if self.logits is None else self.logits.float().expand(batch_size, -1, -1)
        joints, points = (part.float().expand(batch_size, -1, -1) for part in (self.joints, self.points))
        return QueryStart(joints, points, logits)

    @torch.no_grad()
    def stand_as(self, joints: torch.Tensor, points: torch.Tensor) -> None:
        """Start at a mean pose: joints (joints, 3) in units of `joint_scale` and points (joints, 2) in `[0, 1]`."""
        own = torch.arange(len(self.joints), device=joints.device) % len(joints)
        self.joints.copy_(joints[own])
        self.points.copy_(points[own])


class JointDetrPredictionHead(nn.Module):
    """What one decoder layer says of its queries: joint type, change in 3D, change in the picture."""

    def __init__(self, config: JointDetrConfig):
        super().__init__()
        self.class_head = JointDetrClassHead(config) if config.query_alignment == "set" else None
        self.joint_head = JointDetrRegressionHead(config, 3)
        self.point_head = JointDetrRegressionHead(config, 2)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
        """Return logits (batch, queries, classes) or None, and the changes (..., 3) and (..., 2), all float32."""
        logits = None if self.class_head is None else self.class_head(hidden_states).float()
        # positions are summed over the layers: half precision would lose millimetres
        return logits, self.joint_head(hidden_states).float(), self.point_head(hidden_states).float()


class JointDetrConnection(nn.Module):
    """Decoder connection: embeds one layer's predictions for the query positions of the next layer."""

    def __init__(self, config: JointDetrConfig):
        super().__init__()
        num_classes = config.num_joints + 1 if config.query_alignment == "set" else 0
        self.fc1 = nn.Linear(3 + 2 + num_classes, config.d_model)
        self.fc2 = nn.Linear(config.d_model, config.d_model)

    def forward(
        self, probabilities: torch.Tensor | None, joints: torch.Tensor, points: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        """Map predictions (batch, queries, ...) to an embedding (batch, queries, d_model) computed in `dtype`."""
        parts = [joints, points] if probabilities is None else [joints, points, probabilities]
        # not the dtype of the weights: quantised ones are stored as integers
        return self.fc2(self.fc1(torch.cat(parts, -1).to(dtype)).relu())
