"""Inputs of deformable attention, and what a way to compute it makes of them."""

import torch

SHAPES = {
    "square levels": [(16, 16), (8, 8), (4, 4), (2, 2)],
    "oblong levels": [(5, 9), (3, 4)],
    "levels of one pixel, row, column": [(1, 1), (1, 6), (4, 1)],
    "a single level": [(7, 3)],
}


def draw_inputs(spatial_shapes, batch=2, queries=11, heads=4, points=3, dtype=torch.float32):
    """Draw value (6 numbers a head), locations up to 30% beyond the borders, and weights."""
    tokens = sum(height * width for height, width in spatial_shapes)
    value = torch.randn(batch, tokens, heads, 6, dtype=dtype)
    locations = torch.rand(batch, queries, heads, len(spatial_shapes), points, 2, dtype=dtype) * 1.6 - 0.3
    weights = torch.rand(batch, queries, heads, len(spatial_shapes), points, dtype=dtype)
    return value, locations, weights


def answer_and_gradients(function, inputs, spatial_shapes):
    """Evaluate `function` and its gradients along a fixed random direction."""
    inputs = [tensor.clone().requires_grad_() for tensor in inputs]
    output = function(*inputs, spatial_shapes)
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    return [output.detach(), *torch.autograd.grad(output, inputs, direction)]


def assert_all_close(got, wanted, **tolerances):
    for name, one, other in zip(("answer", "value", "locations", "weights"), got, wanted, strict=True):
        torch.testing.assert_close(one, other, **tolerances, msg=lambda text, name=name: f"{name}: {text}")
