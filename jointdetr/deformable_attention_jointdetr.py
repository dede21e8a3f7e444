"""Multi-scale deformable attention: every query reads a few learned places of every feature level.

Shape vocabulary: batch, queries, heads, levels, points, head_dim; tokens = the sum of height * width over the levels;
samples = levels * points; maps = images * heads of the piece being computed.
Source: Zhu et al., "Deformable DETR", ICLR 2021, equation 3.

`_sample_maps` is the plain form. On a CPU, `_SampleTokens` says the same in two ways that are several times faster:

- Forward, the answer of a query is a weighted sum of `4 * samples` rows of the table of tokens: four corners a sample,
  weighted by attention times bilinear weight. This is what `embedding_bag` computes.
- Backward, these weights are the entries of a sparse matrix S (queries, tokens) with `output = S @ value`. The levels
  are small enough to write S out densely, a cache-sized piece at a time: `d value = S^T @ d output`, and of
  `d S = d output @ value^T` the entries of the corners are read.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

PIECE_ELEMENTS = 1 << 20  # numbers in the largest array of a piece: 4 MB in float32, about a core's cache
DENSE_TOKENS = 6000  # with more tokens than these, differentiating through a dense S is slower than `grid_sample`


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
    tensors = value.to(dtype), sampling_locations.to(dtype), attention_weights.to(dtype)
    if _takes_plain_path(*tensors):
        output = _sample_maps(*tensors, spatial_shapes)
    else:
        output = _SampleTokens.apply(*tensors, spatial_shapes)
    return output.to(value.dtype)


def _takes_plain_path(*tensors: torch.Tensor) -> bool:
    """Whether `grid_sample` is the better form: other devices, exported graphs, training on many tokens."""
    value = tensors[0]
    if value.device.type != "cpu" or torch.compiler.is_exporting() or torch.jit.is_tracing():
        return True
    training = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return training and value.shape[1] > DENSE_TOKENS


def _sample_maps(
    value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor, spatial_shapes: list[tuple[int, int]]
) -> torch.Tensor:
    """Compute the attention as it is defined, by one `grid_sample` a level."""
    batch, _, heads, head_dim = value.shape
    queries = locations.shape[1]
    grids = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # (batch * heads, queries, levels, points, 2)
    samples = []
    for level, tokens in enumerate(value.split([height * width for height, width in spatial_shapes], dim=1)):
        height, width = spatial_shapes[level]
        feature_map = tokens.permute(0, 2, 3, 1).reshape(batch * heads, head_dim, height, width)
        samples.append(nn.functional.grid_sample(feature_map, grids[:, :, level], align_corners=False))
    samples = torch.cat(samples, dim=-1)  # (batch * heads, head_dim, queries, levels * points)
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, -1)
    output = (samples * weights).sum(-1)  # (batch * heads, head_dim, queries)
    return output.view(batch, heads * head_dim, queries).transpose(1, 2)


class _Corners(NamedTuple):
    """The four pixels around every sample: two rows (y) of two columns (x), each a first and a second one."""

    tokens: torch.Tensor  # (maps, queries, 4 * samples) int64, corners (y1, x1), (y1, x2), (y2, x1), (y2, x2)
    sizes: torch.Tensor  # (2, 1, 1, samples): width and height of the sample's level
    offset: torch.Tensor  # (2, maps, queries, samples): from the first pixel to the place, along x and y
    first: torch.Tensor  # (2, maps, queries, samples): bilinear weight of the first pixel along x and y
    second: torch.Tensor  # (2, maps, queries, samples): of the second

    def weights(self, attention: torch.Tensor) -> torch.Tensor:
        """Multiply `attention` (maps, queries, samples) with the bilinear weights of the corners."""
        (x1, y1), (x2, y2) = self.first, self.second
        upper, lower = y1 * attention, y2 * attention
        return torch.cat([upper * x1, upper * x2, lower * x1, lower * x2], dim=-1)

    def slopes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Differentiate `first` and `second` by `offset`, on a pixel's centre from the right as `grid_sample` does."""
        cell = self.offset.floor()
        between = (cell == 0).to(cell.dtype)
        first = (cell == -1).to(cell.dtype) - between
        second = (between - (cell == 1).to(cell.dtype)) * (self.sizes > 1)
        return first, second


def _find_corners(places: torch.Tensor, spatial_shapes: list[tuple[int, int]]) -> _Corners:
    """Find the corners of the samples at `places` (2, maps, queries, levels * points).

    First and second pixel are kept inside the level. A pixel's weight along an axis is its hat function
    `max(0, 1 - |distance|)`: between the two this is bilinear interpolation, and outside the level it fades to zero.
    """
    points = places.shape[-1] // len(spatial_shapes)
    starts = torch.tensor([0] + [height * width for height, width in spatial_shapes[:-1]]).cumsum(0)
    starts = starts.repeat_interleave(points)  # (samples,)
    widths_heights = torch.tensor(spatial_shapes).flip(1).T.repeat_interleave(points, dim=1)  # (2, samples)
    sizes = widths_heights.to(places.dtype)[:, None, None]

    pixels = places * sizes - 0.5
    # fmax and fmin also take a NaN to a valid pixel; it stays in the weights
    base = pixels.floor().fmax(sizes.new_zeros(())).fmin((sizes - 2).clamp(min=0))
    offset = pixels - base
    first = (1 - offset.abs()).relu()
    second = (1 - (offset - 1).abs()).relu() * (sizes > 1)

    width, _ = widths_heights
    step_x, step_y = (widths_heights > 1).long() * torch.stack([torch.ones_like(width), width])
    x, y = base.long()
    upper = y * width + x + starts
    lower = upper + step_y
    return _Corners(torch.cat([upper, upper + step_x, lower, lower + step_x], dim=-1), sizes, offset, first, second)


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
        queries = locations.shape[1]
        output = value.new_empty(batch, queries, heads, head_dim)
        for images, rows in _pieces(batch, queries, 4 * weights[0, 0].numel()):
            attention = _by_map(weights[images, rows])  # (maps, rows, samples)
            corners = _find_corners(_places(locations[images, rows]), spatial_shapes)
            table = _by_map(value[images]).flatten(0, 1)  # (maps * tokens, head_dim)
            maps = torch.arange(attention.shape[0])[:, None, None]
            indices = (corners.tokens + maps * tokens).flatten(0, 1)  # (maps * rows, 4 * samples)
            sums = nn.functional.embedding_bag(
                indices, table, mode="sum", per_sample_weights=corners.weights(attention).flatten(0, 1)
            )
            output[images, rows] = sums.view(-1, heads, attention.shape[1], head_dim).transpose(1, 2)
        return output.flatten(2)

    @staticmethod
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Differentiate by value, locations and weights."""
        value, locations, weights = ctx.saved_tensors
        batch, tokens, heads, head_dim = value.shape
        grad_output = grad_output.unflatten(2, (heads, head_dim)).to(value.dtype)
        grad_value, grad_weights = torch.zeros_like(value), torch.empty_like(weights)
        grad_locations = torch.empty_like(locations)
        for images, rows in _pieces(batch, locations.shape[1], heads * max(tokens, 4 * weights[0, 0, 0].numel())):
            attention = _by_map(weights[images, rows])  # (maps, rows, samples)
            corners = _find_corners(_places(locations[images, rows]), ctx.spatial_shapes)
            grad_rows = _by_map(grad_output[images, rows])  # (maps, rows, head_dim)
            matrix = grad_rows.new_zeros(*grad_rows.shape[:2], tokens)
            matrix.scatter_add_(2, corners.tokens, corners.weights(attention))
            by_map = torch.bmm(matrix.transpose(1, 2), grad_rows)  # (maps, tokens, head_dim)
            grad_value[images] += by_map.view(-1, heads, tokens, head_dim).transpose(1, 2)
            grad_matrix = torch.bmm(grad_rows, _by_map(value[images]).transpose(1, 2))
            grad_corners = grad_matrix.gather(2, corners.tokens)
            by_weight, by_place = _differentiate(corners, attention, grad_corners)
            shape = (-1, heads, attention.shape[1], *weights.shape[3:])
            grad_weights[images, rows] = by_weight.view(shape).transpose(1, 2)
            grad_locations[images, rows] = by_place.view(2, *shape[:0], *shape).permute(1, 3, 2, 4, 5, 0)
        return grad_value, grad_locations, grad_weights, None


def _differentiate(
    corners: _Corners, attention: torch.Tensor, grad_corners: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Carry the gradients of the corners' weights on to attention (maps, queries, samples) and places (2, ...)."""
    (x1, y1), (x2, y2) = corners.first, corners.second
    (slope_x1, slope_y1), (slope_x2, slope_y2) = corners.slopes()
    upper_left, upper_right, lower_left, lower_right = grad_corners.chunk(4, dim=-1)
    upper = x1 * upper_left + x2 * upper_right
    lower = x1 * lower_left + x2 * lower_right
    left = y1 * upper_left + y2 * lower_left
    right = y1 * upper_right + y2 * lower_right
    grad_places = torch.stack([slope_x1 * left + slope_x2 * right, slope_y1 * upper + slope_y2 * lower])
    return y1 * upper + y2 * lower, grad_places * attention * corners.sizes
