"""Multi-scale deformable attention: every query reads a few learned places of every feature level.

Shape vocabulary: batch, queries, heads, levels, points, head_dim; tokens = the sum of height * width over the levels;
samples = levels * points; slots = images * queries * heads of the piece being computed.
Source: Zhu et al., "Deformable DETR", ICLR 2021, equation 3.

`sample_maps` is the plain form. On a GPU `deformable_attention_triton_jointdetr` takes its place, where Triton is
installed, and on a CPU `_SampleTokens`, several times faster. There the answer of a query is a weighted sum of rows of
the table of tokens, four pixels for each sample, which is what `embedding_bag` computes:

- With a border of zeros around the levels, and all of them on one canvas of one width, all four pixels exist and are
  constant steps away from the first.
- Backward, the gradient by a weight is the product of a row with the query's gradient, which `sampled_addmm` computes
  where it is wanted. The gradient by a row is again a weighted sum, now over the queries that have read it: samples
  are sorted by row. With few tokens it is faster to write all weights into one dense matrix.
"""

import functools
import warnings
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from transformers.utils import is_triton_available

SampleTokensByTriton = None
if torch.version.cuda is not None and is_triton_available():
    from .deformable_attention_triton_jointdetr import SampleTokens as SampleTokensByTriton

PIECE_ELEMENTS = 1 << 20  # numbers in the largest array of a piece: 4 MB in float32, about a core's share of the cache
DENSE_TOKENS = 16  # with up to so many tokens for each sample, backward multiplies by all of them


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
    value, locations, weights = (part.contiguous() for part in (value, sampling_locations, attention_weights))
    samples = locations.to(dtype), weights.to(dtype)
    exporting = torch.compiler.is_exporting() or torch.jit.is_tracing()
    if value.is_cuda and SampleTokensByTriton is not None and not exporting:
        return SampleTokensByTriton.apply(value, *samples, spatial_shapes)  # widens what it has read
    tensors = value.to(dtype), *samples
    if value.device.type != "cpu" or exporting:
        output = sample_maps(*tensors, spatial_shapes)
    else:
        output = _SampleTokens.apply(*tensors, spatial_shapes)
    return output.to(value.dtype)


def sample_maps(
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


class _Canvas(NamedTuple):
    """How all levels lie below one another in one table of tokens, with a border of zero tokens around each.

    Columns and rows count from the border, so that pixel `i` of a level has its centre at `i + 1`.
    """

    spatial_shapes: list[tuple[int, int]]
    tops: list[int]  # row of the border above each level
    height: int
    width: int  # a row's border on the right is the next row's on the left
    sizes: torch.Tensor  # (heads * samples * 2,): width and height of each sample's level
    starts: torch.Tensor  # (heads * samples,) int32: first token of each sample's level

    @classmethod
    def of_levels(
        cls, spatial_shapes: list[tuple[int, int]], heads: int, points: int, dtype: torch.dtype
    ) -> "_Canvas":
        """Lay out the levels, and repeat what the samples need to know of them for each head and point."""
        width = 1 + max(width for _, width in spatial_shapes)
        tops = [0]
        for height, _ in spatial_shapes:
            tops.append(tops[-1] + height + 1)
        *tops, last_border = tops
        sizes = torch.tensor([(width, height) for height, width in spatial_shapes], dtype=dtype)
        sizes = sizes.repeat_interleave(points, dim=0).flatten().repeat(heads)
        starts = (torch.tensor(tops, dtype=torch.int32) * width).repeat_interleave(points).repeat(heads)
        # the upper left pixel may lie in the last border, and the lower right one two rows below
        return cls(spatial_shapes, tops, last_border + 3, width, sizes, starts)

    @property
    def tokens(self) -> int:
        """Number of tokens, borders included."""
        return self.height * self.width

    @property
    def steps(self) -> tuple[int, int, int, int]:
        """Tokens from the upper left of four pixels to each of them."""
        return 0, 1, self.width, self.width + 1

    def levels(self, canvas: torch.Tensor) -> list[torch.Tensor]:
        """Return views (images, height, width, ...) of the levels on a canvas of the same layout."""
        places = zip(self.tops, self.spatial_shapes, strict=True)
        return [canvas[:, top + 1 : top + 1 + height, 1 : 1 + width] for top, (height, width) in places]

    def paint(self, value: torch.Tensor) -> torch.Tensor:
        """Make the table (images * tokens * heads, head_dim) of levels (images, tokens, heads, head_dim)."""
        canvas = value.new_zeros(len(value), self.height, self.width, *value.shape[2:])
        areas = [height * width for height, width in self.spatial_shapes]
        for level, tokens in zip(self.levels(canvas), value.split(areas, dim=1), strict=True):
            level.copy_(tokens.view_as(level))
        return canvas.flatten(0, 3)

    def token_numbers(self, border: int) -> torch.Tensor:
        """Return for every token of the canvas its number among those of the levels, `border` for borders."""
        numbers = torch.full((1, self.height, self.width), border)
        start = 0
        for level in self.levels(numbers):
            level.copy_(torch.arange(start, start + level.numel()).view_as(level))
            start += level.numel()
        return numbers.flatten()


class _Samples(NamedTuple):
    """Where the samples of a piece lie among the four pixels around them: upper left and right, lower left and right.

    A place beyond the border is taken to the border, where all is zero.
    """

    tokens: torch.Tensor  # (images, queries, heads, samples) int32: upper left pixel, on the image's canvas
    rows: torch.Tensor  # (slots, samples) int32: its row of the table
    x: torch.Tensor  # (slots, samples) in [0, 1]: from left to right
    y: torch.Tensor  # (slots, samples) in [0, 1]: from upper to lower
    moves: torch.Tensor | None  # (slots, samples, 2) bool: whether x and y change with the location

    @classmethod
    def find(cls, locations: torch.Tensor, canvas: _Canvas, with_moves: bool = False) -> "_Samples":
        """Find the samples at `locations` (images, queries, heads, levels, points, 2)."""
        images, queries, heads = locations.shape[:3]
        samples = locations.shape[3:5].numel()
        sizes, limits = canvas.sizes, canvas.sizes + 1
        places = torch.addcmul(sizes.new_tensor(0.5), locations.flatten(2), sizes)
        inside = places.clamp(torch.zeros_like(sizes), limits)
        moves = ((places == inside) & (inside < limits)).view(-1, samples, 2) if with_moves else None
        first = inside.floor()
        x, y = inside.sub_(first).view(-1, samples, 2).unbind(-1)
        columns, rows = first.view(images, queries, -1, 2).unbind(-1)
        tokens = torch.add(columns, rows, alpha=canvas.width).int() + canvas.starts
        # where a place is NaN, a pixel shall exist all the same; its weight stays NaN
        tokens = tokens.clamp_(0, canvas.tokens - 1 - canvas.steps[3])
        image_starts = torch.arange(images, dtype=torch.int32) * (canvas.tokens * heads)
        head_starts = torch.arange(heads, dtype=torch.int32).repeat_interleave(samples)
        rows = (tokens * heads).add_(image_starts[:, None, None] + head_starts)
        return cls(tokens.view(images, queries, heads, samples), rows.view(-1, samples), x, y, moves)

    def weights(self, attention: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Share `attention` (slots, samples) among the four pixels."""
        lower = attention * self.y
        upper = attention - lower
        upper_right, lower_right = upper * self.x, lower * self.x
        return upper - upper_right, upper_right, lower - lower_right, lower_right

    def differentiate(self, attention: torch.Tensor, by_weights: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Carry the gradient by `weights` on to attention (slots, samples) and places in px (slots, samples, 2)."""
        upper_left, upper_right, lower_left, lower_right = by_weights
        upper, lower = torch.lerp(upper_left, upper_right, self.x), torch.lerp(lower_left, lower_right, self.x)
        by_x = torch.lerp(upper_right - upper_left, lower_right - lower_left, self.y) * attention
        by_y = (lower - upper) * attention
        by_places = torch.stack([by_x, by_y], dim=-1)
        return torch.lerp(upper, lower, self.y), by_places if self.moves is None else by_places * self.moves


def _slices(length: int, size: int) -> list[slice]:
    """Cut `length` into pieces of `size`, at least one each."""
    size = max(1, size)
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


class _Pieces(NamedTuple):
    """How the work is cut, for the cache: some images at once, or some queries of one."""

    images: list[slice]
    queries: list[slice]

    @classmethod
    def of(cls, locations: torch.Tensor, table_elements: int, query_elements: int) -> "_Pieces":
        """Cut `locations` (batch, queries, ...), an image's table and a query having so many numbers in one array."""
        batch, queries = locations.shape[:2]
        images = PIECE_ELEMENTS // max(table_elements, queries * query_elements)
        return cls(_slices(batch, images), _slices(queries, PIECE_ELEMENTS // query_elements))


class _SampleTokens(torch.autograd.Function):
    """The attention as a weighted sum of tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        value: torch.Tensor,
        locations: torch.Tensor,
        weights: torch.Tensor,
        spatial_shapes: list[tuple[int, int]],
    ) -> torch.Tensor:
        """Sum the pixels' rows of `value`; shapes as in `multi_scale_deformable_attention`."""
        ctx.save_for_backward(value, locations, weights)
        ctx.spatial_shapes = spatial_shapes
        heads, head_dim = value.shape[2:]
        canvas = _Canvas.of_levels(spatial_shapes, heads, locations.shape[4], value.dtype)
        pieces = _Pieces.of(locations, canvas.tokens * heads * head_dim, locations.shape[2:].numel())
        output = value.new_empty(*locations.shape[:3], head_dim)
        for images in pieces.images:
            table = canvas.paint(value[images])
            for queries in pieces.queries:
                samples = _Samples.find(locations[images, queries], canvas)
                shares = samples.weights(weights[images, queries].reshape(samples.x.shape))
                rows = torch.cat([samples.rows + step * heads for step in canvas.steps], dim=-1)
                weight = torch.cat(shares, dim=-1)
                sums = nn.functional.embedding_bag(rows, table, mode="sum", per_sample_weights=weight)
                output[images, queries] = sums.view_as(output[images, queries])
        return output.flatten(2)

    @staticmethod
    @once_differentiable
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Differentiate by value, locations and weights."""
        value, locations, weights = ctx.saved_tensors
        heads, head_dim = value.shape[2:]
        canvas = _Canvas.of_levels(ctx.spatial_shapes, heads, locations.shape[4], value.dtype)
        dense = value.shape[1] <= DENSE_TOKENS * locations.shape[3:5].numel()
        query_elements = max(locations.shape[2:].numel(), dense * heads * value.shape[1])
        pieces = _Pieces.of(locations, canvas.tokens * heads * head_dim, query_elements)
        grad_output = grad_output.unflatten(2, (heads, head_dim)).to(value.dtype)
        grad_value, grad_locations, grad_weights = map(torch.empty_like, (value, locations, weights))
        for images in pieces.images:
            sums = (_DenseSums if dense else _SparseSums)(value[images], canvas)
            for queries in pieces.queries:
                samples = _Samples.find(locations[images, queries], canvas, with_moves=True)
                attention = weights[images, queries].reshape(samples.x.shape)
                shares = samples.weights(attention)
                by_shares = sums.differentiate(samples, shares, grad_output[images, queries].contiguous())
                by_weight, by_place = samples.differentiate(attention, by_shares)
                grad_weights[images, queries] = by_weight.view_as(grad_weights[images, queries])
                piece = grad_locations[images, queries]
                torch.mul(by_place.view_as(piece).flatten(2), canvas.sizes, out=piece.flatten(2))
            grad_value[images] = sums.by_value()
        return grad_value, grad_locations, grad_weights, None


# an operator of its own, as `torch.compile` cannot follow sparse tensors
@torch.library.custom_op("jointdetr::sampled_products", mutates_args=())
def sampled_products(left: torch.Tensor, right: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Multiply each row of `left` (slots, numbers) with its `rows` (slots, samples) of `right`: (slots, samples)."""
    _use_up_warning()
    starts = torch.arange(0, rows.numel() + 1, rows.shape[1], dtype=rows.dtype)
    shape = len(left), len(right)
    pattern = torch.sparse_csr_tensor(
        starts, rows.flatten(), left.new_zeros(rows.numel()), shape, check_invariants=False
    )
    products = torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0, out=pattern)
    return products.values().view(rows.shape)


@sampled_products.register_fake
def _(left: torch.Tensor, right: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return left.new_empty(rows.shape)


@functools.cache
def _use_up_warning() -> None:
    """Let PyTorch say, where nobody hears it, what it says once: that its sparse tensors are not finished."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.10 knows no `action`
        torch.zeros(1, 1).to_sparse_csr()


class _SparseSums:
    """Differentiates weighted sums of pixels by the samples' shares and, added up over calls, by the pixels."""

    def __init__(self, value: torch.Tensor, canvas: _Canvas):
        self.shape = value.shape
        self.canvas = canvas
        self.steps = [step * value.shape[2] for step in canvas.steps]
        self.table = canvas.paint(value)
        self.grad_table = torch.zeros_like(self.table)

    def differentiate(
        self, samples: _Samples, shares: tuple[torch.Tensor, ...], grad_sums: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the gradients by `shares`, given those by the sums (images, queries, heads, head_dim)."""
        num_slots, num_samples = samples.rows.shape
        slots = torch.arange(num_slots, dtype=torch.int32)[:, None].expand(-1, num_samples).flatten()
        grad_sums = grad_sums.view(num_slots, -1)
        self._add_by_rows(samples.rows.flatten(), slots, shares, grad_sums)
        rows = torch.cat([samples.rows + step for step in self.steps], dim=-1)
        return list(sampled_products(grad_sums, self.table, rows).chunk(4, dim=-1))

    def _add_by_rows(
        self, rows: torch.Tensor, slots: torch.Tensor, shares: tuple[torch.Tensor, ...], grad_sums: torch.Tensor
    ) -> None:
        """Add to each row of the table the weighted gradients of the slots that have read it."""
        order = rows.sort(stable=True).indices
        sorted_slots = slots.index_select(0, order)
        counts = torch.zeros(len(self.table), dtype=torch.int32)
        counts.scatter_add_(0, rows.long(), torch.ones_like(rows))
        starts = counts.cumsum(0, dtype=torch.int32) - counts
        for step, share in zip(self.steps, shares, strict=True):
            sums = nn.functional.embedding_bag(
                sorted_slots,
                grad_sums,
                starts,
                mode="sum",
                per_sample_weights=share.flatten().index_select(0, order),
            )
            self.grad_table[step:] += sums[: len(sums) - step]

    def by_value(self) -> torch.Tensor:
        """Return the gradient by the levels (images, tokens, heads, head_dim)."""
        canvas = self.grad_table.view(self.shape[0], self.canvas.height, self.canvas.width, *self.shape[2:])
        return torch.cat([level.flatten(1, 2) for level in self.canvas.levels(canvas)], dim=1)


class _DenseSums:
    """The same with all weights in one matrix (images, heads, queries, tokens): faster where the tokens are few."""

    def __init__(self, value: torch.Tensor, canvas: _Canvas):
        self.canvas = canvas
        value = nn.functional.pad(value, (0, 0, 0, 0, 0, 1))  # a token for the borders, behind the others
        self.table = value.transpose(1, 2).contiguous()  # (images, heads, tokens, head_dim)
        self.grad_table = torch.zeros_like(self.table)
        self.token_at = canvas.token_numbers(value.shape[1] - 1)

    def differentiate(
        self, samples: _Samples, shares: tuple[torch.Tensor, ...], grad_sums: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the gradients by `shares`, given those by the sums (images, queries, heads, head_dim)."""
        pixels = torch.cat([samples.tokens + step for step in self.canvas.steps], dim=-1).transpose(1, 2)
        pixels = self.token_at.index_select(0, pixels.flatten()).view(pixels.shape)
        weights = torch.cat(shares, dim=-1).unflatten(0, samples.tokens.shape[:3]).transpose(1, 2)
        grad_sums = grad_sums.transpose(1, 2).contiguous()  # (images, heads, queries, head_dim)
        matrix = weights.new_zeros(*grad_sums.shape[:3], self.table.shape[2]).scatter_add_(3, pixels, weights)
        self.grad_table += matrix.transpose(2, 3) @ grad_sums
        by_shares = (grad_sums @ self.table.transpose(2, 3)).gather(3, pixels).transpose(1, 2)
        return [part.reshape(samples.rows.shape) for part in by_shares.chunk(4, dim=-1)]

    def by_value(self) -> torch.Tensor:
        """Return the gradient by the levels (images, tokens, heads, head_dim)."""
        return self.grad_table[:, :, :-1].transpose(1, 2)
