"""Training steps and synthetic people on a GPU that is not there: nothing stays on the CPU, little is waited for.

PyTorch cannot forget a device that was made up, so all of it runs in a process of its own.
"""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig

from jointdetr import JointDetrConfig, JointDetrForPoseEstimation, JointDetrImageProcessor, JointDetrPipeline
from jointdetr.data.examples import stack_labels, unstack_labels
from jointdetr.layers_jointdetr import JointDetrConfidenceHead
from jointdetr.postprocessing_jointdetr import assemble_poses
from jointdetr.synthesis.rows import PersonRows, RowSettings

PRETENDED = os.environ.get("JOINTDETR_PRETENDED_GPU") == "1"
KNOWS_DEVICES_OF_PYTHON = "_setup_privateuseone_for_python_backend" in dir(torch.utils.backend_registration)
in_own_process = pytest.mark.skipif(not PRETENDED, reason="runs in a process of its own")


@pytest.mark.skipif(PRETENDED, reason="the other tests run here")
@pytest.mark.skipif(not KNOWS_DEVICES_OF_PYTHON, reason="PyTorch is too old")
def test_passes_in_a_process_of_its_own():
    command = [sys.executable, "-m", "pytest", "-q", __file__]
    result = subprocess.run(command, env=os.environ | {"JOINTDETR_PRETENDED_GPU": "1"}, capture_output=True, text=True)
    assert result.returncode == 0 and " passed" in result.stdout, result.stdout


@in_own_process
def test_the_gpu_refuses_and_counts():
    from pretended_gpu import GPU, pretended_gpu

    with pretended_gpu() as gpu:
        numbers = torch.tensor([1.0, 2.0, 3.0]).to(GPU, non_blocking=True)
        assert not gpu.waits and numbers.device == GPU
        numbers[1:] *= 2
        with pytest.raises(RuntimeError, match="of the CPU and of the GPU"):
            numbers + torch.ones(3)
        assert not gpu.waits
        assert numbers.tolist() == [1.0, 4.0, 6.0] and numbers.sum().item() == 11.0
        assert len(numbers[numbers > 2.0]) == 2
        assert dict(gpu.waits) == {"from the GPU": 1, "_local_scalar_dense.default": 1, "index.Tensor": 1}
        torch.zeros(3).to(GPU)
        assert gpu.waits["to the GPU"] == 1


@in_own_process
def test_people_are_those_that_the_cpu_draws():
    from pretended_gpu import GPU, pretended_gpu

    settings = RowSettings(seed=3, size=32)
    wanted = PersonRows(settings).render(range(2))
    with pretended_gpu():
        assert PersonRows(replace(settings, device=str(GPU))).render(range(2)) == wanted


def everything_on() -> JointDetrForPoseEstimation:
    """A small model with all that training knows."""
    backbone = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = JointDetrConfig(
        backbone_config=backbone,
        d_model=32,
        num_queries=20,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        predict_confidence=True,
        attn_implementation="eager",  # PyTorch chooses another by the device, and does not know this one
    )
    return JointDetrForPoseEstimation(config).train()


def draw_label() -> dict[str, torch.Tensor]:
    return {
        "joints_3d": torch.randn(17, 3) * 300,
        "joints_3d_valid": torch.rand(17) > 0.2,
        "joints_2d": torch.rand(17, 2),
        "joints_2d_valid": torch.rand(17) > 0.2,
        "visible": torch.rand(17) > 0.5,
    }


@in_own_process
def test_a_step_waits_for_the_matching_alone():
    from pretended_gpu import GPU, pretended_gpu

    model = everything_on()
    labels = stack_labels([draw_label() for _ in range(3)])
    with pretended_gpu() as gpu:
        model.to(GPU)
        pictures = torch.randn(3, 3, 64, 64).to(GPU, non_blocking=True)
        on_gpu = unstack_labels({name: values.to(GPU, non_blocking=True) for name, values in labels.items()})
        gpu.waits.clear()
        outputs = model(pictures, labels=on_gpu)
        assert dict(gpu.waits) == {"from the GPU": 1}
        assert {value.device for value in outputs.loss_dict.values()} == {outputs.loss.device} == {GPU}
        assert assemble_poses(outputs).joints.device == GPU


@in_own_process
def test_people_are_looked_at_again_as_on_the_cpu():
    """A network that expects errors of a metre of everybody looks from all sides."""
    from pretended_gpu import GPU, pretended_gpu

    processor = JointDetrImageProcessor(size={"height": 64, "width": 64})
    model = everything_on()
    for head in (module for module in model.modules() if isinstance(module, JointDetrConfidenceHead)):
        torch.nn.init.normal_(head[-1].weight, std=0.1)
        torch.nn.init.zeros_(head[-1].bias)  # the logarithm of a metre
    poser = JointDetrPipeline(model=model, image_processor=processor, device="cpu")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8))
    inputs = processor(image, boxes=[[[10.0, 5.0, 60.0, 70.0], [30.0, 20.0, 40.0, 50.0]]], return_tensors="pt")
    with torch.no_grad():
        wanted, _ = poser.look_again([image], inputs, poser.run_model(inputs["pixel_values"]))
        assert not torch.equal(wanted["crop_affine"], inputs["crop_affine"])
        with pretended_gpu():
            poser.model.to(GPU)
            poser.device = GPU
            moved = {name: values.to(GPU) for name, values in inputs.items()}
            found, _ = poser.look_again([image], moved, poser.run_model(moved["pixel_values"]))
            assert found["crop_affine"].device == GPU
            torch.testing.assert_close(found["crop_affine"].cpu(), wanted["crop_affine"])
