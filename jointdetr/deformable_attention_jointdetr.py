"""Multi-scale deformable attention: every query reads a few learned places of every feature level.

Shape vocabulary: batch, queries, heads, levels, points, head_dim; tokens = the sum of height * width over the levels.
Source: Zhu et al., "Deformable DETR", ICLR 2021, equation 3.
"""

import torch
from torch import nn


def multi_scale_deformable_attention(
    value: torch.Tensor,
    spatial_shapes: list[tuple[int, int]],
    sampling_locations: torch.Tensor,
    attention_weights: torch.Tensor,
) -> torch.Tensor:
    """Sample every feature level bilinearly at the given places and sum the samples by their weights.

    Args:
        value (`torch.Tensor` of shape `(batch, tokens, heads, head_dim)`): The projected feature levels, flattened row
            by row and concatenated.
        spatial_shapes (`list[tuple[int, int]]`): Height and width of each level, in the order of concatenation.
        sampling_locations (`torch.Tensor` of shape `(batch, queries, heads, levels, points, 2)`): Places (x, y) in
            `[0, 1]` of each level, 0 and 1 being the outer edges of the border pixels; outside a level all is zero.
        attention_weights (`torch.Tensor` of shape `(batch, queries, heads, levels, points)`): Weights of the samples.

    Returns:
        `torch.Tensor` of shape `(batch, queries, heads * head_dim)`.
    """
    batch, _, heads, head_dim = value.shape
    queries = sampling_locations.shape[1]
    grids = (2 * sampling_locations - 1).transpose(1, 2).flatten(0, 1)  # (batch * heads, queries, levels, points, 2)
    samples = []
    for level, tokens in enumerate(value.split([height * width for height, width in spatial_shapes], dim=1)):
        height, width = spatial_shapes[level]
        feature_map = tokens.permute(0, 2, 3, 1).reshape(batch * heads, head_dim, height, width)
        samples.append(nn.functional.grid_sample(feature_map, grids[:, :, level], align_corners=False))
    samples = torch.cat(samples, dim=-1)  # (batch * heads, head_dim, queries, levels * points)
    weights = attention_weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    output = (samples * weights).sum(-1)  # (batch * heads, head_dim, queries)
    return output.view(batch, heads * head_dim, queries).transpose(1, 2)
