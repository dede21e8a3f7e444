"""The GPU kernels against the plain form: on a GPU, or else by Triton's interpreter in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from attention_examples import SHAPES, answer_and_gradients, assert_all_close, draw_inputs

from jointdetr.deformable_attention_jointdetr import sample_maps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # which Triton must know before anything imports it
needs_kernels = pytest.mark.skipif(DEVICE == "cpu" and not INTERPRETED, reason="runs in the interpreter's process")

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


@pytest.mark.skipif(DEVICE == "cuda" or INTERPRETED, reason="the other tests run here")
def test_passes_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", __file__]
    result = subprocess.run(command, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert result.returncode == 0 and " passed" in result.stdout, result.stdout


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("name", ["_attend", "_differentiate"])
def test_compiles_without_a_gpu(name, monkeypatch, tmp_path):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from jointdetr import deformable_attention_triton_jointdetr as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    value = torch.zeros(1, 20, 8, 32, dtype=torch.bfloat16)
    constants, _ = kernels._launch_sizes(value, torch.zeros(1, 5, 8, 2, 4, 2))
    options = {"num_warps": constants.pop("num_warps")}
    kernel = getattr(kernels, name)
    types = dict.fromkeys(kernel.arg_names, "*fp32") | dict.fromkeys(constants, "constexpr")
    types |= {"levels": "*i32", "tokens": "i32", "queries": "i32", "value": "*bf16"}
    types |= {argument: "*bf16" for argument in ("output", "grad_output") if argument in types}
    source = ASTSource(kernel, types, constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert ".target sm_90" in compiled.asm["ptx"] and compiled.asm["cubin"]


@needs_kernels
def test_trains_after_inference_at_the_same_size(attend):
    spatial_shapes = [(3, 5)]
    inputs = on_device(draw_inputs(spatial_shapes, batch=1, queries=2, heads=1, points=1))
    with torch.inference_mode():
        attend(*inputs, spatial_shapes)
    wanted = answer_and_gradients(plain, inputs, spatial_shapes)
    assert_all_close(answer_and_gradients(attend, inputs, spatial_shapes), wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture
def attend():
    from jointdetr.deformable_attention_triton_jointdetr import SampleTokens

    return lambda value, locations, weights, shapes: SampleTokens.apply(value, locations, weights, shapes)


def plain(value, locations, weights, spatial_shapes):
    return sample_maps(value, locations, weights, spatial_shapes)


def on_device(tensors):
    return [tensor.to(DEVICE) for tensor in tensors]


@needs_kernels
@pytest.mark.parametrize("spatial_shapes", SHAPES.values(), ids=SHAPES.keys())
def test_equals_the_plain_form(attend, spatial_shapes):
    inputs = on_device(draw_inputs(spatial_shapes))
    wanted = answer_and_gradients(plain, inputs, spatial_shapes)
    assert_all_close(answer_and_gradients(attend, inputs, spatial_shapes), wanted, rtol=1e-4, atol=1e-5)


@needs_kernels
def test_more_queries_than_a_program_takes(attend, monkeypatch):
    monkeypatch.setattr(
        "jointdetr.deformable_attention_triton_jointdetr.ELEMENTS", 32
    )  # four queries of eight numbers
    spatial_shapes = SHAPES["oblong levels"]
    inputs = on_device(draw_inputs(spatial_shapes))
    wanted = answer_and_gradients(plain, inputs, spatial_shapes)
    assert_all_close(answer_and_gradients(attend, inputs, spatial_shapes), wanted, rtol=1e-4, atol=1e-5)


@needs_kernels
def test_gradients_are_those_of_the_numbers(attend):
    spatial_shapes = [(2, 2)]
    value, locations, weights = on_device(draw_inputs(spatial_shapes, 1, 2, 1, 1, torch.float64))
    tensors = [tensor.requires_grad_() for tensor in (value[..., :2].contiguous(), locations, weights)]
    assert torch.autograd.gradcheck(lambda *t: attend(*t, spatial_shapes), tensors, nondet_tol=1e-12)


@needs_kernels
def test_half_precision_is_summed_in_float32(attend):
    spatial_shapes = SHAPES["square levels"]
    value, locations, weights = on_device(draw_inputs(spatial_shapes))
    value = value.half()
    got = attend(value, locations, weights, spatial_shapes)
    assert got.dtype == torch.float16
    wanted = plain(value.float(), locations, weights, spatial_shapes)
    torch.testing.assert_close(got.float(), wanted, rtol=2**-10, atol=1e-4)  # one rounding, at the end


@needs_kernels
def test_not_a_number_stays_one(attend):
    spatial_shapes = SHAPES["square levels"]
    inputs = draw_inputs(spatial_shapes)
    inputs[1][1, 4, 2, 0, 0, 0] = torch.nan
    output = attend(*on_device(inputs), spatial_shapes).view(2, 11, 4, 6)
    assert output[1, 4, 2].isnan().all() and output.isnan().sum() == 6


@needs_kernels
def test_takes_an_empty_batch(attend):
    spatial_shapes = SHAPES["square levels"]
    output, *gradients = answer_and_gradients(attend, on_device(draw_inputs(spatial_shapes, batch=0)), spatial_shapes)
    assert output.shape == (0, 11, 24) and gradients[1].shape == (0, 11, 4, 4, 3, 2)
