"""Multi-scale deformable attention on a GPU: one Triton kernel forward, one backward.

A program computes some queries of one head of one image. It reads the four pixels around every sample where they lie
and keeps the sums in registers, so that nothing of the size of `samples * head_dim` is ever written. Backward, the
gradient by the feature levels is added up atomically, whose order and last bits differ from run to run.

Shape vocabulary: as in `deformable_attention_jointdetr`; a slot is an (image, query, head). Pixels outside a level
count as zero. `levels` holds height, width and first token of every level.
"""

import functools
from typing import Any

import torch
from torch.autograd.function import once_differentiable

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("deformable attention as a GPU kernel needs Triton: `pip install triton`") from error

ELEMENTS = 1024  # numbers of a program's largest array
WARPS = 4


@triton.jit
def _share(queries, HEADS: tl.constexpr, BLOCK_QUERIES: tl.constexpr):
    """Return what this program computes: image, head, slots (queries of the block,), and which of them there are."""
    blocks = tl.cdiv(queries, BLOCK_QUERIES)
    image = tl.program_id(0) // blocks // HEADS
    head = tl.program_id(0) // blocks % HEADS
    rows = tl.program_id(0) % blocks * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)
    return image, head, (image * queries + rows).to(tl.int64) * HEADS + head, rows < queries


@triton.jit
def _locate(coordinates, mask, size, NUMBER: tl.constexpr):
    """Load places in [0, 1]: the first of the two pixels around each, and how far beyond its centre the place is."""
    place = tl.load(coordinates, mask=mask, other=0.0).to(NUMBER) * size - 0.5
    first = tl.floor(place)
    return first, place - first


@triton.jit
def _corner(table, column, row, width, height, channels, mask, stride):
    """Find one pixel: pointers (queries, channels) and whether it is there; what is NaN is nowhere."""
    there = mask & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    token = tl.where(there, row * width + column, 0).to(tl.int64)
    return table + token[:, None] * stride + channels[None, :], there[:, None]


@triton.jit
def _attend(
    value,
    locations,
    weights,
    levels,
    output,
    tokens,
    queries,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    NUMBER: tl.constexpr,
):
    """Sum the samples of `BLOCK_QUERIES` queries of one head."""
    image, head, slots, used = _share(queries, HEADS, BLOCK_QUERIES)
    channels = tl.arange(0, BLOCK_DIM)
    shown = (channels < HEAD_DIM)[None, :]
    total = tl.zeros((BLOCK_QUERIES, BLOCK_DIM), NUMBER)
    for level in range(LEVELS):
        height, width = tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1)
        first_token = (image * tokens + tl.load(levels + 3 * level + 2)).to(tl.int64)
        table = value + (first_token * HEADS + head) * HEAD_DIM
        for point in range(POINTS):
            sample = slots * (LEVELS * POINTS) + level * POINTS + point
            x0, x = _locate(locations + 2 * sample, used, width, NUMBER)
            y0, y = _locate(locations + 2 * sample + 1, used, height, NUMBER)
            weight = tl.load(weights + sample, mask=used, other=0.0).to(NUMBER)
            for corner in tl.static_range(4):  # pyright: ignore[reportGeneralTypeIssues] # Triton's own loop
                right, lower = corner % 2, corner // 2
                pixels, there = _corner(table, x0 + right, y0 + lower, width, height, channels, used, HEADS * HEAD_DIM)
                share = (x if right else 1 - x) * (y if lower else 1 - y) * weight
                total += share[:, None] * tl.load(pixels, mask=there & shown, other=0.0).to(NUMBER)
    places = output + slots[:, None] * HEAD_DIM + channels[None, :]
    tl.store(places, total.to(output.dtype.element_ty), mask=used[:, None] & shown)


@triton.jit
def _differentiate(
    value,
    locations,
    weights,
    levels,
    grad_output,
    grad_value,
    grad_locations,
    grad_weights,
    tokens,
    queries,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    NUMBER: tl.constexpr,
):
    """Carry the gradient of `BLOCK_QUERIES` queries of one head on to value, locations and weights."""
    image, head, slots, used = _share(queries, HEADS, BLOCK_QUERIES)
    channels = tl.arange(0, BLOCK_DIM)
    shown = (channels < HEAD_DIM)[None, :]
    places = grad_output + slots[:, None] * HEAD_DIM + channels[None, :]
    gradient = tl.load(places, mask=used[:, None] & shown, other=0.0).to(NUMBER)
    for level in range(LEVELS):
        height, width = tl.load(levels + 3 * level), tl.load(levels + 3 * level + 1)
        first_token = (image * tokens + tl.load(levels + 3 * level + 2)).to(tl.int64)
        offset = (first_token * HEADS + head) * HEAD_DIM
        for point in range(POINTS):
            sample = slots * (LEVELS * POINTS) + level * POINTS + point
            x0, x = _locate(locations + 2 * sample, used, width, NUMBER)
            y0, y = _locate(locations + 2 * sample + 1, used, height, NUMBER)
            weight = tl.load(weights + sample, mask=used, other=0.0).to(NUMBER)
            by_weight, by_x, by_y = weight * 0, weight * 0, weight * 0
            for corner in tl.static_range(4):  # pyright: ignore[reportGeneralTypeIssues] # Triton's own loop
                right, lower = corner % 2, corner // 2
                column, row, stride = x0 + right, y0 + lower, HEADS * HEAD_DIM
                pixels, there = _corner(value + offset, column, row, width, height, channels, used, stride)
                # the slope of the corner's answer is the product of gradient and pixel
                slope = tl.sum(gradient * tl.load(pixels, mask=there & shown, other=0.0).to(NUMBER), axis=1)
                share_x, share_y = (x if right else 1 - x), (y if lower else 1 - y)
                by_weight += slope * share_x * share_y
                by_x += slope * share_y * (2 * right - 1)
                by_y += slope * share_x * (2 * lower - 1)
                pixels, there = _corner(grad_value + offset, column, row, width, height, channels, used, stride)
                share = (share_x * share_y * weight)[:, None]
                # nobody reads the sums before the kernel's end, so that no addition has to come before another
                tl.atomic_add(pixels, share * gradient, mask=there & shown, sem="relaxed")
            tl.store(grad_weights + sample, by_weight, mask=used)
            tl.store(grad_locations + 2 * sample, by_x * weight * width, mask=used)
            tl.store(grad_locations + 2 * sample + 1, by_y * weight * height, mask=used)


@functools.lru_cache(maxsize=64)
def _level_table(spatial_shapes: tuple[tuple[int, int], ...], device: torch.device) -> torch.Tensor:
    """Put height, width and first token of every level on the device, once."""
    rows, start = [], 0
    for height, width in spatial_shapes:
        rows.append((height, width, start))
        start += height * width
    return torch.tensor(rows, dtype=torch.int32, device=device)


class SampleTokens(torch.autograd.Function):
    """The attention by Triton kernels; shapes as in `multi_scale_deformable_attention`, sums in float32 or float64."""

    @staticmethod
    def forward(
        ctx: Any,
        value: torch.Tensor,
        locations: torch.Tensor,
        weights: torch.Tensor,
        spatial_shapes: list[tuple[int, int]],
    ) -> torch.Tensor:
        """Sum the samples into (batch, queries, heads * head_dim) of the dtype of `value`."""
        tensors = value.contiguous(), locations.contiguous(), weights.contiguous()
        levels = _level_table(tuple(spatial_shapes), value.device)
        ctx.save_for_backward(*tensors)
        ctx.levels = levels  # kept from call to call: made in inference mode, it could not be saved
        output = value.new_empty(*locations.shape[:3], value.shape[3])
        if output.numel():
            sizes, programs = _launch_sizes(tensors[0], tensors[1])
            _attend[(programs,)](*tensors, levels, output, value.shape[1], locations.shape[1], **sizes)
        return output.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """Differentiate by value, locations and weights."""
        value, locations, weights = ctx.saved_tensors
        sums = torch.promote_types(value.dtype, torch.float32)
        grad_value = torch.zeros(value.shape, dtype=sums, device=value.device)
        grad_locations, grad_weights = torch.empty_like(locations), torch.empty_like(weights)
        if grad_weights.numel():
            sizes, programs = _launch_sizes(value, locations)
            gradients = grad_output.contiguous(), grad_value, grad_locations, grad_weights
            _differentiate[(programs,)](
                value, locations, weights, ctx.levels, *gradients, value.shape[1], locations.shape[1], **sizes
            )
        return grad_value.to(value.dtype), grad_locations, grad_weights, None


def _launch_sizes(value: torch.Tensor, locations: torch.Tensor) -> tuple[dict[str, Any], int]:
    """Return the kernels' constants, and how many programs it takes."""
    batch, _, heads, head_dim = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    block_dim = triton.next_power_of_2(head_dim)
    block_queries = max(1, ELEMENTS // block_dim)
    constants = {
        "HEADS": heads,
        "HEAD_DIM": head_dim,
        "LEVELS": levels,
        "POINTS": points,
        "BLOCK_QUERIES": block_queries,
        "BLOCK_DIM": block_dim,
        "NUMBER": tl.float64 if value.dtype == torch.float64 else tl.float32,
        "num_warps": WARPS,
    }
    return constants, batch * heads * triton.cdiv(queries, block_queries)


__all__ = ["SampleTokens"]
