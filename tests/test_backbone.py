"""BlazePose's network: the same numbers as MediaPipe's, stages as they are said to be, and what is frozen."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoBackbone

from jointdetr import JointDetrConfig, JointDetrForPoseEstimation
from jointdetr.backbone_jointdetr import BlazePoseBackbone, BlazePoseConfig

STAGES = ["stem", "stage1", "stage2", "stage3", "stage4", "stage5"]
SMALL = {"embedding_size": 4, "hidden_sizes": [4, 4, 4, 4, 4, 4], "pyramid_size": 4, "head_size": 4}

# MediaPipe's own values behind its trunk at stride 8 (every fourth channel) for `waves()`, by TFLite's interpreter
TRUNK_VALUES = {
    (4, 6): [-52.684, -27.722, -96.3, 60.03, 59.064, 40.949, -6.894, 53.006],
    (16, 16): [-56.351, -18.449, -92.358, 65.398, 61.565, 37.889, -18.838, 59.439],
    (26, 10): [-55.458, -22.796, -85.907, 61.439, 64.781, 41.341, -14.584, 63.682],
}


def waves() -> torch.Tensor:
    """A picture in [0, 1] of 256 x 256 px that needs no file: (1, 3, 256, 256)."""
    c, y, x = np.meshgrid(np.arange(3), np.arange(256), np.arange(256), indexing="ij")
    return torch.from_numpy((0.5 + 0.5 * np.sin(0.05 * x + 0.03 * y * (c + 1) + c)).astype(np.float32))[None]


def small(**fields) -> BlazePoseBackbone:
    return BlazePoseBackbone(BlazePoseConfig(**SMALL, out_features=STAGES, **fields)).eval()


def test_the_attention_of_the_network_around_it_may_be_chosen(shipped_checkpoint):
    for name in ("sdpa", "eager"):
        model = JointDetrForPoseEstimation.from_pretrained(shipped_checkpoint, attn_implementation=name)
        assert model.config._attn_implementation == name


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (3, 64, 64)])
def test_what_are_no_colour_pictures_is_refused(shape):
    with pytest.raises(ValueError, match=r"must have the shape \(batch, 3, height, width\), got \(.*64, 64\)"):
        small()(torch.zeros(shape))


def test_the_trunk_of_the_shipped_checkpoint_gives_mediapipes_values(shipped_checkpoint):
    """As far as it was frozen when the checkpoint was trained."""
    trained = JointDetrForPoseEstimation.from_pretrained(shipped_checkpoint).model.backbone
    backbone = BlazePoseBackbone(BlazePoseConfig(out_features=["stage2"])).eval()
    backbone.load_state_dict(trained.state_dict())
    with torch.no_grad():
        stage = backbone((waves() - backbone.mean) / backbone.std).feature_maps[0]
    trunk = stage[0, : backbone.config.hidden_sizes[2] : 4]
    for (row, column), expected in TRUNK_VALUES.items():
        torch.testing.assert_close(trunk[:, row, column], torch.tensor(expected), atol=0.02, rtol=1e-3)


def test_all_stages_are_those_of_mediapipes_interpreter():
    """Where its file and the interpreter are there; JOINTDETR_POSE_LANDMARK names `pose_landmark_full.tflite`."""
    source = os.environ.get("JOINTDETR_POSE_LANDMARK")
    if (
        source is None
        or importlib.util.find_spec("ai_edge_litert") is None
        or importlib.util.find_spec("tflite") is None
    ):
        pytest.skip("needs JOINTDETR_POSE_LANDMARK, ai-edge-litert and tflite")
    from ai_edge_litert.interpreter import Interpreter

    from tools.import_blazepose import load_weights

    interpreter = Interpreter(source, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], waves().permute(0, 2, 3, 1).numpy())
    interpreter.invoke()

    def theirs(*tensors: int) -> torch.Tensor:
        return torch.cat([torch.from_numpy(interpreter.get_tensor(n)).permute(0, 3, 1, 2) for n in tensors], 1)

    backbone = BlazePoseBackbone(BlazePoseConfig(out_features=STAGES)).eval()
    load_weights(backbone, Path(source))
    with torch.no_grad():
        maps = dict(zip(STAGES, backbone((waves() - backbone.mean) / backbone.std).feature_maps, strict=True))
    folded = torch.nn.functional.pixel_unshuffle(theirs(277), 2)
    expected = {
        "stem": theirs(204),
        "stage2": theirs(226, 277),
        "stage3": torch.cat([theirs(251, 275), folded], 1),
        "stage4": theirs(269, 300),
        "stage5": theirs(316),
    }
    for name, values in expected.items():
        assert (maps[name] - values).abs().max() < 1e-3 * values.abs().max(), name


def test_stages_have_the_channels_and_strides_that_are_said():
    backbone = small()
    maps = backbone(torch.randn(2, 3, 64, 128)).feature_maps
    for stage, channels, stride in zip(maps, backbone.channels, (2, 4, 8, 16, 32, 64), strict=True):
        assert stage.shape == (2, channels, 64 // stride, 128 // stride)
    assert BlazePoseBackbone(BlazePoseConfig(out_features=STAGES)).channels == [24, 24, 80, 328, 432, 288]


def test_pictures_of_other_sizes_are_refused():
    with pytest.raises(ValueError, match=r"multiples of 64 px, got \(64, 96\)"):
        small()(torch.randn(1, 3, 64, 96))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"depths": [1, 2]}, r"`depths` must hold six numbers, got \[1, 2\]"),
        ({"strides": [1, 1, 1, 1, 1, 1]}, r"`strides` must be \[1, 2, 2, 2, 1, 2\]"),
        ({"frozen_stages": 8}, "`frozen_stages` must be from 0 to 7, got 8"),
    ],
)
def test_configurations_that_cannot_be_are_refused(fields, said):
    with pytest.raises((ValueError, StrictDataclassError), match=f"(?s){said}"):
        BlazePoseConfig(**fields)


def test_frozen_stages_get_no_gradient_after_loading_and_in_training(tmp_path):
    small(frozen_stages=3).save_pretrained(tmp_path)
    for backbone in (small(frozen_stages=3), BlazePoseBackbone.from_pretrained(tmp_path)):
        backbone.train()
        learns = {
            name.split(".")[0] + name.split(".")[1] for name, p in backbone.named_parameters() if p.requires_grad
        }
        frozen = {
            name.split(".")[0] + name.split(".")[1] for name, p in backbone.named_parameters() if not p.requires_grad
        }
        assert frozen == {"stemweight", "stembias", "trunk0", "trunk1", "trunk2"}
        assert {"trunk3", "trunk5", "head0", "expandweight"} <= learns
    assert not any(parameter.requires_grad for parameter in small(frozen_stages=7).parameters())
    assert all(parameter.requires_grad for parameter in small().parameters())


def test_autocast_leaves_the_network_in_full_precision():
    backbone, pictures = small(), torch.randn(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        inside = backbone(pictures).feature_maps
    for first, second in zip(inside, backbone(pictures).feature_maps, strict=True):
        assert first.dtype == torch.float32
        torch.testing.assert_close(first, second)


def test_auto_classes_know_it_and_it_makes_a_pose_model():
    assert isinstance(AutoBackbone.from_config(BlazePoseConfig(**SMALL)), BlazePoseBackbone)
    config = JointDetrConfig(
        backbone_config={"model_type": "blazepose", **SMALL, "out_features": ["stage3", "stage4"]},
        **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
    )
    model = JointDetrForPoseEstimation(config)
    assert isinstance(model.model.backbone, BlazePoseBackbone)
    assert model(torch.randn(1, 3, 64, 64)).pred_joints.shape == (1, 100, 3)
