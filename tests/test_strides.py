"""Public tensor functions take tensors of any strides: transposed, expanded and channels-last ones give the same."""

import pytest
import torch

from jointdetr import JointDetrForPoseEstimation, camera_jointdetr
from jointdetr.deformable_attention_jointdetr import multi_scale_deformable_attention
from jointdetr.evaluation import metrics
from jointdetr.postprocessing_jointdetr import average_queries, choose_queries

SHAPES = [(6, 5), (3, 3)]
CAMERA = torch.tensor([[500.0, 0, 64], [0, 510, 60], [0, 0, 1]])


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers with the strides of the reversed axes."""
    axes = tuple(range(tensor.ndim))[::-1]
    return tensor.permute(axes).contiguous().permute(axes)


def sliced(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers with gaps between them."""
    return torch.stack([tensor, torch.zeros_like(tensor)], dim=-1)[..., 0]


def repeated(tensor: torch.Tensor) -> torch.Tensor:
    """The first entry as often as there are entries, without a copy."""
    return tensor[:1].expand(tensor.shape)


def joints(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 17, 3) * 300 + torch.tensor([0.0, 0, 4000])


def intrinsics(batch: int) -> torch.Tensor:
    return CAMERA.repeat(batch, 1, 1)


def attention() -> list[torch.Tensor]:
    tokens = sum(height * width for height, width in SHAPES)
    return [torch.randn(2, tokens, 4, 6), torch.rand(2, 7, 4, 2, 3, 2), torch.rand(2, 7, 4, 2, 3)]


def attend(value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return multi_scale_deformable_attention(value, SHAPES, locations, weights)


FUNCTIONS = {
    "attention": (attend, attention),
    "project": (camera_jointdetr.project, lambda: [joints(3), intrinsics(3)]),
    "procrustes_align": (camera_jointdetr.procrustes_align, lambda: [joints(3), joints(3)]),
    "solve_root_translation": (
        lambda *given: camera_jointdetr.solve_root_translation(*given)[0],
        lambda: [torch.randn(3, 17, 3) * 300, torch.rand(3, 17, 2) * 200, intrinsics(3), torch.ones(3, 17)],
    ),
    "apply_affine": (camera_jointdetr.apply_affine, lambda: [torch.rand(3, 9, 2), torch.rand(3, 2, 3)]),
    "invert_affine": (camera_jointdetr.invert_affine, lambda: [torch.rand(3, 2, 3)]),
    "crop_intrinsics": (camera_jointdetr.crop_intrinsics, lambda: [intrinsics(3), torch.rand(3, 2, 3)]),
    "flip_joints": (lambda given: camera_jointdetr.flip_joints(given, [(1, 4)]), lambda: [joints(3)]),
    "average_queries": (average_queries, lambda: [torch.rand(2, 20, 17), torch.randn(2, 20, 3)]),
    "choose_queries": (
        lambda given: choose_queries(given, "hungarian"),
        lambda: [torch.rand(2, 20, 18).softmax(-1)],
    ),
    "mpjpe": (metrics.mpjpe, lambda: [joints(3), joints(3)]),
    "pa_mpjpe": (metrics.pa_mpjpe, lambda: [joints(3), joints(3)]),
    "pck": (metrics.pck, lambda: [joints(3), joints(3)]),
    "auc": (metrics.auc, lambda: [joints(3), joints(3)]),
}


@pytest.mark.parametrize("strides", [transposed, sliced, repeated])
@pytest.mark.parametrize(("function", "make"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_strides_do_not_matter(function, make, strides):
    given = [strides(tensor) for tensor in make()]
    before = [tensor.clone() for tensor in given]
    expected = function(*(tensor.contiguous() for tensor in given))
    torch.testing.assert_close(function(*given), expected, rtol=1e-4, atol=1e-3, equal_nan=True)
    for tensor, was in zip(given, before, strict=True):
        torch.testing.assert_close(tensor, was)


@pytest.mark.parametrize("strides", [transposed, sliced, repeated])
def test_gradients_of_the_attention(strides):
    plain = [strides(tensor).contiguous().requires_grad_() for tensor in attention()]
    odd = [strides(tensor.detach()).requires_grad_() for tensor in plain]
    direction = transposed(torch.randn(2, 7, 24))
    expected = torch.autograd.grad(attend(*plain), plain, direction.contiguous())
    found = torch.autograd.grad(attend(*odd), odd, direction)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "strides", [lambda pixels: pixels.to(memory_format=torch.channels_last), transposed, sliced, repeated]
)
def test_the_model_takes_any_pixels(tiny_model_folder, strides):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder).eval()
    pixels = strides(torch.randn(2, 3, 128, 128))
    with torch.no_grad():
        found, expected = model(pixel_values=pixels), model(pixel_values=pixels.contiguous())
        model = model.to(memory_format=torch.channels_last)
        again = model(pixel_values=pixels)
    for outputs in (found, again):
        torch.testing.assert_close(outputs.pred_joints, expected.pred_joints, rtol=1e-3, atol=1e-1)
        torch.testing.assert_close(outputs.logits, expected.logits, rtol=1e-3, atol=1e-3)
