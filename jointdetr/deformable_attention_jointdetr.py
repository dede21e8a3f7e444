"""Multi-scale deformable attention: every query reads a few learned places of every feature level.

Shape vocabulary: batch, queries, heads, levels, points, head_dim; tokens = the sum of height * width over the levels;
samples = levels * points; maps = images * heads of the piece being computed.
Source: Zhu et al., "Deformable DETR", ICLR 2021, equation 3.

`_sample_maps` is the plain form. On a GPU `deformable_attention_triton_jointdetr` takes its place, where Triton is
installed, and on a CPU `_SampleTokens`, several times faster:

- Forward, the answer of a query is a weighted sum of `4 * samples` rows of the table of tokens: four corners a sample,
  weighted by attention times bilinear weight. This is what `embedding_bag` computes.
- Backward, these weights are the entries of a sparse matrix S (queries, tokens) with `output = S @ value`. The levels
  are small enough to write S out densely, a cache-sized piece at a time: `d value = S^T @ d output`, and of
  `d S = d output @ value^T` the entries of the corners are read.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.utils import is_triton_available

SampleTokensByTriton = None
if torch.version.cuda is not None and is_triton_available():
    from .deformable_attention_triton_jointdetr import SampleTokens as SampleTokensByTriton

PIECE_ELEMENTS = 1 << 20  # numbers in the largest array of a piece: 4 MB in float32, about a core's share of the cache
DENSE_TOKENS = 2400  # with more tokens than these, differentiating through a dense S is slower than `grid_sample`


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
        `torch.Tensor` of shape `(batch, queries, heads * head_dim)` and of the dtype of `value`, computed in float32
        (float64 if that is the dtype of `value`).
    """
    dtype = torch.promote_types(value.dtype, torch.float32)
    samples = sampling_locations.to(dtype), attention_weights.to(dtype)
    exporting = torch.compiler.is_exporting() or torch.jit.is_tracing()
    if value.is_cuda and SampleTokensByTriton is not None and not exporting:
        return SampleTokensByTriton.apply(value, *samples, spatial_shapes)  # widens what it has read
    tensors = value.to(dtype), *samples
    if value.device.type != "cpu" or exporting or _differentiates_many_tokens(*tensors):
        output = _sample_maps(*tensors, spatial_shapes)
    else:
        output = _SampleTokens.apply(*tensors, spatial_shapes)
    return output.to(value.dtype)


def _differentiates_many_tokens(*tensors: torch.Tensor) -> bool:
    """Whether there will be a backward pass that `grid_sample` does faster than a dense S."""
    training = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return training and tensors[0].shape[1] > DENSE_TOKENS


def _sample_maps(
    value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor, spatial_shapes: list[tuple[int, int]]
) -> torch.Tensor:
    """Compute the attention as it is defined, by one `grid_sample` a level."""
    batch, _, heads, head_dim = value.shape
    queries = locations.shape[1]
    grids = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # (levels, batch * heads, queries, points, 2)
    levels = value.flatten(2).transpose(1, 2).split([height * width for height, width in spatial_shapes], dim=2)
    samples = []
    for (height, width), tokens, grid in zip(spatial_shapes, levels, grids, strict=True):
        feature_map = tokens.reshape(batch * heads, head_dim, height, width)
        samples.append(nn.functional.grid_sample(feature_map, grid, align_corners=False))
    samples = torch.cat(samples, dim=-1)  # (batch * heads, head_dim, queries, levels * points)
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    output = (samples * weights).sum(-1)  # (batch * heads, head_dim, queries)
    return output.view(batch, heads * head_dim, queries).transpose(1, 2)


class _Levels(NamedTuple):
    """What the samples' arithmetic needs to know about their levels."""

    sizes: torch.Tensor  # (2, 1, 1, samples): width and height
    widths: torch.Tensor  # (samples,) int32
    starts: torch.Tensor  # (samples,) int32: first token
    steps: torch.Tensor  # (2, samples) int32: tokens to the next column and to the next row, 0 where there is one only

    @classmethod
    def of_samples(cls, spatial_shapes: list[tuple[int, int]], points: int, dtype: torch.dtype) -> "_Levels":
        """Repeat the geometry of every level for each of its points."""
        sizes = torch.tensor([(width, height) for height, width in spatial_shapes], dtype=torch.int32)
        areas = sizes.prod(dim=1)
        starts = (areas.cumsum(0) - areas).int()
        sizes, starts = sizes.T.repeat_interleave(points, dim=1), starts.repeat_interleave(points)
        widths = sizes[0]
        steps = (sizes > 1) * torch.stack([torch.ones_like(widths), widths])
        return cls(sizes[:, None, None].to(dtype), widths, starts, steps)


class _Corners(NamedTuple):
    """The four pixels around every sample, upper left, upper right, lower left, lower right, and its place there.

    A place outside its level is taken to the nearest one inside and fades out within one pixel, along each axis: the
    same as interpolating with a border of zeros, without one.
    """

    tokens: torch.Tensor  # (maps, queries, 4 * samples) int32
    between: torch.Tensor  # (2, maps, queries, samples) in [0, 1]: from left to right, from upper to lower
    beyond: torch.Tensor  # (2, maps, queries, samples): signed distance in pixels from the nearest place inside
    fade: torch.Tensor  # (2, maps, queries, samples) = max(0, 1 - |beyond|)
    sizes: torch.Tensor  # (2, 1, 1, samples): width and height of the sample's level

    def weights(self, attention: torch.Tensor) -> torch.Tensor:
        """Share `attention` (maps, queries, samples) among the corners, (maps, queries, 4 * samples)."""
        x, y = self.between
        whole = attention * self.fade[0] * self.fade[1]
        lower = whole * y
        upper = whole - lower
        lower_right, upper_right = lower * x, upper * x
        return torch.cat([upper - upper_right, upper_right, lower - lower_right, lower_right], dim=-1)

    def differentiate(self, attention: torch.Tensor, grad_weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Carry the gradient by `weights` on to attention and the places' x and y (maps, queries, samples)."""
        x, y = self.between
        upper_left, upper_right, lower_left, lower_right = grad_weights.chunk(4, dim=-1)
        upper, lower = torch.lerp(upper_left, upper_right, x), torch.lerp(lower_left, lower_right, x)
        sample = torch.lerp(upper, lower, y)
        slope_x = torch.lerp(upper_right - upper_left, lower_right - lower_left, y)
        slope_y = lower - upper

        side = self.beyond.sign()
        inside_x, inside_y = (1 - side.abs()) * self.sizes
        fading_x, fading_y = side * self.fade.sign() * self.sizes
        by_x = (slope_x * inside_x - sample * fading_x) * self.fade[1] * attention
        by_y = (slope_y * inside_y - sample * fading_y) * self.fade[0] * attention
        return sample * self.fade[0] * self.fade[1], by_x, by_y


def _find_corners(places: torch.Tensor, levels: _Levels) -> _Corners:
    """Find the corners of the samples at `places` (2, maps, queries, samples)."""
    sizes = levels.sizes
    pixels = (places * sizes).sub_(0.5)
    inside = pixels.clamp(torch.zeros_like(sizes), sizes - 1)
    # Where a place is NaN the pixel shall exist all the same; its weight stays NaN.
    first = inside.floor().nan_to_num_().minimum((sizes - 2).clamp(min=0))
    beyond = pixels - inside
    fade = (1 - beyond.abs()).relu_()

    x, y = first.int()
    step_x, step_y = levels.steps
    upper = y * levels.widths + x + levels.starts
    lower = upper + step_y
    tokens = torch.cat([upper, upper + step_x, lower, lower + step_x], dim=-1)
    return _Corners(tokens, inside - first, beyond, fade, sizes)


def _pieces(batch: int, queries: int, query_elements: int) -> Iterator[tuple[slice, slice]]:
    """Cut (batch, queries) into pieces of at most `PIECE_ELEMENTS`: some images, or some queries of one."""
    images = max(1, PIECE_ELEMENTS // (queries * query_elements))
    rows = min(queries, max(1, PIECE_ELEMENTS // query_elements))
    for image in range(0, batch, images):
        for row in range(0, queries, rows):
            yield slice(image, image + images), slice(row, row + rows)


def _places(locations: torch.Tensor) -> torch.Tensor:
    """Lay locations (images, queries, heads, levels, points, 2) out as (2, images * heads, queries, samples)."""
    return locations.permute(5, 0, 2, 1, 3, 4).flatten(4).flatten(1, 2).contiguous()


def _by_map(tensor: torch.Tensor) -> torch.Tensor:
    """Lay (images, rows, heads, ...) out as (images * heads, rows, the rest)."""
    return tensor.flatten(3).transpose(1, 2).flatten(0, 1).contiguous()


class _SampleTokens(torch.autograd.Function):
    """The attention as a weighted sum of tokens forward and as a product with a matrix S backward."""

    @staticmethod
    def forward(
        ctx: Any,
        value: torch.Tensor,
        locations: torch.Tensor,
        weights: torch.Tensor,
        spatial_shapes: list[tuple[int, int]],
    ) -> torch.Tensor:
        """Sum the corners' rows of `value`; shapes as in `multi_scale_deformable_attention`."""
        ctx.save_for_backward(value, locations, weights)
        ctx.spatial_shapes = spatial_shapes
        batch, tokens, heads, head_dim = value.shape
        queries, points = locations.shape[1], locations.shape[4]
        levels = _Levels.of_samples(spatial_shapes, points, value.dtype)
        output = value.new_empty(batch, queries, heads, head_dim)
        for images, rows in _pieces(batch, queries, 4 * math.prod(weights.shape[2:])):
            attention = _by_map(weights[images, rows])  # (maps, rows, samples)
            corners = _find_corners(_places(locations[images, rows]), levels)
            table = _by_map(value[images]).flatten(0, 1)  # (maps * tokens, head_dim)
            first_rows = torch.arange(attention.shape[0], dtype=torch.int32)[:, None, None] * tokens
            indices = (corners.tokens + first_rows).flatten(0, 1)  # (maps * rows, 4 * samples)
            sums = nn.functional.embedding_bag(
                indices, table, mode="sum", per_sample_weights=corners.weights(attention).flatten(0, 1)
            )
            output[images, rows] = sums.view(-1, heads, attention.shape[1], head_dim).transpose(1, 2)
        return output.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Differentiate by value, locations and weights."""
        value, locations, weights = ctx.saved_tensors
        batch, tokens, heads, head_dim = value.shape
        levels = _Levels.of_samples(ctx.spatial_shapes, locations.shape[4], value.dtype)
        grad_output = grad_output.unflatten(2, (heads, head_dim)).to(value.dtype)
        grad_value, grad_weights = torch.zeros_like(value), torch.empty_like(weights)
        grad_locations = torch.empty_like(locations)
        row_elements = heads * max(tokens, 4 * math.prod(weights.shape[3:]))
        for images, rows in _pieces(batch, locations.shape[1], row_elements):
            attention = _by_map(weights[images, rows])  # (maps, rows, samples)
            corners = _find_corners(_places(locations[images, rows]), levels)
            by_token, by_corner = _differentiate_sums(
                _by_map(value[images]),
                corners.tokens.long(),
                corners.weights(attention),
                _by_map(grad_output[images, rows]),
            )
            grad_value[images] += by_token.unflatten(0, (-1, heads)).transpose(1, 2)
            gradients = corners.differentiate(attention, by_corner)
            shape = (-1, heads, attention.shape[1], *weights.shape[3:])
            by_weight, by_x, by_y = (gradient.view(shape).transpose(1, 2) for gradient in gradients)
            grad_weights[images, rows] = by_weight
            grad_locations[images, rows, ..., 0] = by_x
            grad_locations[images, rows, ..., 1] = by_y
        return grad_value, grad_locations, grad_weights, None


@torch.autocast("cpu", enabled=False)
def _differentiate_sums(
    table: torch.Tensor, indices: torch.Tensor, weights: torch.Tensor, grad_sums: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Carry the gradient by weighted sums of rows on to the rows and to the weights.

    Args:
        table (`torch.Tensor` of shape `(maps, tokens, head_dim)`): The rows.
        indices (`torch.Tensor` of shape `(maps, queries, corners)`): Which rows of its map a query sums up.
        weights (`torch.Tensor` of shape `(maps, queries, corners)`): Their weights.
        grad_sums (`torch.Tensor` of shape `(maps, queries, head_dim)`): Gradient by the sums.

    Returns:
        Gradients by `table` and by `weights`, in their shapes.
    """
    maps, queries, _ = weights.shape
    matrix = weights.new_zeros(maps, queries, table.shape[1]).scatter_add_(2, indices, weights)
    grad_matrix = torch.bmm(grad_sums, table.transpose(1, 2))
    return torch.bmm(matrix.transpose(1, 2), grad_sums), grad_matrix.gather(2, indices)
