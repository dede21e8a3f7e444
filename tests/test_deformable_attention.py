import pytest
import torch
from attention_examples import SHAPES, answer_and_gradients, assert_all_close, draw_inputs
from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

from jointdetr import deformable_attention_jointdetr as deformable_attention
from jointdetr.deformable_attention_jointdetr import multi_scale_deformable_attention


def attend(value, locations, weights, spatial_shapes):
    return multi_scale_deformable_attention(value, spatial_shapes, locations, weights)


def attend_as_transformers(value, locations, weights, spatial_shapes):
    return MultiScaleDeformableAttention()(value, None, spatial_shapes, None, locations, weights, 64)


@pytest.mark.parametrize("spatial_shapes", SHAPES.values(), ids=SHAPES)
def test_agrees_with_transformers(spatial_shapes):
    inputs = draw_inputs(spatial_shapes)
    got = answer_and_gradients(attend, inputs, spatial_shapes)
    wanted = answer_and_gradients(attend_as_transformers, inputs, spatial_shapes)
    assert_all_close(got, wanted, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(attend(*inputs, spatial_shapes), wanted[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dense_tokens", [0, 10**6], ids=["sparse", "dense"])
@pytest.mark.parametrize("spatial_shapes", SHAPES.values(), ids=SHAPES)
def test_both_paths_agree_in_double_precision(spatial_shapes, dense_tokens, monkeypatch):
    monkeypatch.setattr(deformable_attention, "DENSE_TOKENS", dense_tokens)
    inputs = draw_inputs(spatial_shapes, dtype=torch.float64)
    fast = answer_and_gradients(attend, inputs, spatial_shapes)
    plain = answer_and_gradients(deformable_attention.sample_maps, inputs, spatial_shapes)
    assert_all_close(fast, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dense_tokens", [0, 10**6], ids=["sparse", "dense"])
@pytest.mark.parametrize("spatial_shapes", SHAPES.values(), ids=SHAPES)
def test_gradients_are_the_differences(spatial_shapes, dense_tokens, monkeypatch):
    monkeypatch.setattr(deformable_attention, "DENSE_TOKENS", dense_tokens)
    spatial_shapes = spatial_shapes[-2:]
    inputs = draw_inputs(spatial_shapes, batch=1, queries=5, heads=1, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(lambda *tensors: attend(*tensors, spatial_shapes), inputs, eps=1e-7)


@pytest.mark.parametrize("elements", [1, 1000, 5000])
def test_pieces_make_the_whole(elements, monkeypatch):
    spatial_shapes = SHAPES["oblong levels"]
    inputs = draw_inputs(spatial_shapes, batch=5)
    whole = answer_and_gradients(attend, inputs, spatial_shapes)
    monkeypatch.setattr(deformable_attention, "PIECE_ELEMENTS", elements)
    pieces = deformable_attention._Pieces.of(inputs[1], table_elements=1700, query_elements=280)
    assert len(pieces.images) * len(pieces.queries) > 1
    assert_all_close(answer_and_gradients(attend, inputs, spatial_shapes), whole, rtol=1e-5, atol=1e-5)


def test_reads_pixels_by_hand():
    value = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)  # one level: 1 2 / 3 4
    places = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.5, 0.5], [0.0, 0.0], [0.25, 1.0], [1.25, 0.25], [9.0, 0.5]])
    locations = places.view(1, 7, 1, 1, 1, 2)
    output = multi_scale_deformable_attention(value, [(2, 2)], locations, torch.full((1, 7, 1, 1, 1), 2.0))
    # pixel centres, the middle, a corner (a quarter is inside), an edge (a half is), one pixel beyond, far beyond
    torch.testing.assert_close(output.flatten(), 2 * torch.tensor([1.0, 2.0, 2.5, 0.25, 1.5, 0.0, 0.0]))


def test_slopes_on_pixel_centres_are_those_of_grid_sample():
    spatial_shapes = [(8, 8), (4, 4)]
    value, _, weights = draw_inputs(spatial_shapes, queries=9, points=1, dtype=torch.float64)
    columns, rows = torch.meshgrid(torch.arange(3), torch.arange(3), indexing="xy")
    pixels = torch.stack([columns, rows], dim=-1).view(1, 9, 1, 1, 1, 2).expand(2, 9, 4, 2, 1, 2)
    locations = (pixels + 0.5) / torch.tensor([8.0, 4.0], dtype=torch.float64).view(2, 1, 1)
    inputs = value, locations, weights
    wanted = answer_and_gradients(attend_as_transformers, inputs, spatial_shapes)
    assert_all_close(answer_and_gradients(attend, inputs, spatial_shapes), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_computed_in_float32(dtype):
    spatial_shapes = SHAPES["square levels"]
    inputs = [tensor.to(dtype) for tensor in draw_inputs(spatial_shapes)]
    got = answer_and_gradients(attend, inputs, spatial_shapes)
    assert {tensor.dtype for tensor in got} == {dtype}
    wanted = answer_and_gradients(
        lambda *tensors: attend(*tensors).to(dtype), [tensor.float() for tensor in inputs], spatial_shapes
    )
    assert_all_close(got, [tensor.to(dtype) for tensor in wanted], rtol=0, atol=0)


def test_autocast_does_not_touch_the_arithmetic():
    spatial_shapes = SHAPES["square levels"]
    inputs = draw_inputs(spatial_shapes)
    wanted = answer_and_gradients(attend, inputs, spatial_shapes)
    with torch.autocast("cpu", torch.bfloat16):  # the backward pass as well
        got = answer_and_gradients(attend, inputs, spatial_shapes)
    assert_all_close(got, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("dense_tokens", [0, 10**6], ids=["sparse", "dense"])
def test_compiles_without_a_break(dense_tokens, monkeypatch):
    monkeypatch.setattr(deformable_attention, "DENSE_TOKENS", dense_tokens)
    spatial_shapes = SHAPES["oblong levels"]
    inputs = draw_inputs(spatial_shapes)
    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    wanted = answer_and_gradients(attend, inputs, spatial_shapes)
    assert_all_close(answer_and_gradients(compiled, inputs, spatial_shapes), wanted, rtol=1e-6, atol=1e-6)


def test_exports_grid_samples():
    class Attention(torch.nn.Module):
        def forward(self, value, locations, weights):
            return attend(value, locations, weights, SHAPES["square levels"])

    inputs = draw_inputs(SHAPES["square levels"])
    program = torch.export.export(Attention(), inputs)
    names = [str(node.target) for node in program.graph.nodes]
    assert sum("grid_sampler" in name for name in names) == 4
    torch.testing.assert_close(program.module()(*inputs), Attention()(*inputs), rtol=1e-5, atol=1e-5)


def test_not_a_number_stays_one():
    spatial_shapes = SHAPES["square levels"]
    inputs = draw_inputs(spatial_shapes)
    inputs[1][1, 4, 2, 0, 0, 0] = torch.nan
    output = attend(*inputs, spatial_shapes).view(2, 11, 4, 6)
    assert output[1, 4, 2].isnan().all()
    assert output.isnan().sum() == 6


def test_infinitely_far_is_outside():
    spatial_shapes = SHAPES["levels of one pixel, row, column"]
    value, locations, weights = draw_inputs(spatial_shapes)
    locations[:, ::2], locations[:, 1::2] = torch.inf, -torch.inf
    for result in answer_and_gradients(attend, (value, locations, weights), spatial_shapes):
        assert not result.any()


def test_takes_an_empty_batch():
    spatial_shapes = SHAPES["square levels"]
    output, *gradients = answer_and_gradients(attend, draw_inputs(spatial_shapes, batch=0), spatial_shapes)
    assert output.shape == (0, 11, 24)
    assert gradients[1].shape == (0, 11, 4, 4, 3, 2)
