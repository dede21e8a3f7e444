"""What the benchmarks check before they time anything, on small models; never a time."""

import mmap

import bfloat16
import data_path
import deformable_attention
import deformable_attention_gpu
import growth
import pytest
import timing
import torch
import training_step
import whole_model
from PIL import Image
from transformers import ResNetConfig

from jointdetr import JointDetrConfig, JointDetrForPoseEstimation
from jointdetr.loss_jointdetr import JointDetrLoss, PoseLabels


def test_contestants_take_turns():
    calls = []
    times = timing.take_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2)
    assert calls == ["a", "b"] * 3 and [len(values) for values in times.values()] == [2, 2]


def test_the_reference_is_as_fast_as_itself():
    rows = timing.compare({"a": lambda: sum(range(1000)), "b": lambda: None}, "a", rounds=3)
    assert rows[0]["ratio"] == 1 and [row["contestant"] for row in rows] == ["a", "b"]


def test_memory_of_a_tensor_is_seen():
    assert timing.peak_memory_mb(lambda: torch.ones(64, 2**18)) == pytest.approx(64, abs=16)
    assert timing.peak_memory_mb(lambda: None) < 16


def test_both_models_encode_alike_and_can_be_trained():
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    other, ours = whole_model.make_models(backbone)
    pictures = torch.randn(1, 3, 64, 64)
    whole_model.check(other, ours, pictures)
    for step in whole_model.training_steps(other, ours, pictures).values():
        step()
    assert all(parameter.grad is not None for parameter in ours.model.encoder.parameters())
    with torch.no_grad():
        ours.model.encoder.layers[0].mlp.fc1.weight.mul_(2)
    with pytest.raises(RuntimeError, match="the encoders differ"):
        whole_model.check(other, ours, pictures)


def test_converted_models_find_the_same_joints(tiny_model_folder):
    models = bfloat16.convert(JointDetrForPoseEstimation.from_pretrained(tiny_model_folder).eval())
    assert [model.dtype.itemsize for model in models.values()] == [4, 4, 2, 2]
    pictures = torch.randn(2, 3, 64, 64)
    contestants = {name: bfloat16.forward(model, pictures) for name, model in models.items()}
    bfloat16.check(contestants)
    contestants["wrong"] = lambda: contestants["float32"]() + 100
    with pytest.raises(RuntimeError, match="a joint moved by 173.2 mm"):
        bfloat16.check(contestants)


def test_pages_that_are_taken_anew_are_counted():
    pages = 256  # too few for a large page
    letters = b"x" * (pages * mmap.PAGESIZE)
    assert growth.page_faults(lambda: mmap.mmap(-1, len(letters)).write(letters)) == pytest.approx(pages, abs=32)
    assert growth.page_faults(lambda: None) < 32


def test_the_loss_waits_for_the_device_once():
    config = JointDetrConfig(num_queries=20)
    labels = PoseLabels.from_list(training_step.draw_labels(config, 2), config, torch.device("cpu"))
    predictions = training_step.draw_predictions(config, 2)
    assert training_step.count_transfers(JointDetrLoss(config), predictions, labels) == 1


def test_waiting_is_counted():
    def loss(predictions, labels):
        predictions.joints[labels > 0].sum().item()
        return labels.cpu()

    predictions = training_step.draw_predictions(JointDetrConfig(num_queries=17), 1)
    mask = torch.ones_like(predictions.joints[..., 0])
    assert training_step.count_transfers(loss, predictions, mask) == 3


def test_crops_show_the_same_as_vitpose():
    picture = Image.effect_noise((160, 120), 60).resize((640, 480)).convert("RGB")
    crops = data_path.processors(picture, data_path.draw_boxes(3, picture))
    wanted, got = crops["VitPose"](), crops["jointdetr"]()
    data_path.check(wanted, got)
    with pytest.raises(RuntimeError, match="the crops differ"):
        data_path.check(wanted, got.flip(3))


def test_exponents_of_powers():
    amounts = [1, 2, 4, 8, 16]
    assert growth.exponent(amounts, [3 * amount**2 for amount in amounts]) == pytest.approx(2)


def test_kernels_are_checked_and_their_bytes_counted():
    case = deformable_attention_gpu.SMALL_CASES[0]
    inputs = deformable_attention_gpu.Inputs(case)
    deformable_attention_gpu.check(inputs)
    tokens, samples = 20 * 2 * 8, 20 * 2 * 2 * 2  # numbers of the values, and of the weights
    tensors = 4 * (tokens + 3 * samples)
    answer = 4 * 20 * 2 * 8
    assert deformable_attention_gpu.bytes_needed(inputs, training=False) == tensors + answer
    assert deformable_attention_gpu.bytes_needed(inputs, training=True) == 3 * tensors + 2 * answer
    rows = deformable_attention_gpu.measure(case, "bf16", True, (timing.CPU, 1, 1e9))
    assert [row["contestant"] for row in rows] == ["kernels", "grid_sample", "transformers"]
    assert rows[2]["ratio"] == 1 and all(row["bandwidth %"] > 0 for row in rows)


def test_a_wrong_kernel_is_found(monkeypatch):
    inputs = deformable_attention_gpu.Inputs(deformable_attention_gpu.SMALL_CASES[0])
    monkeypatch.setattr(deformable_attention_gpu, "ours", lambda inputs: 1.01 * deformable_attention.ours(inputs))
    with pytest.raises(RuntimeError, match="differ from the plain form's"):
        deformable_attention_gpu.check(inputs)
