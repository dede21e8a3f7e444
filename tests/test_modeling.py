import math

import numpy as np
import pytest
import torch
from transformers import DeformableDetrConfig, DeformableDetrModel, ResNetConfig

from jointdetr.configuration_jointdetr import JointDetrConfig, JointRefinerConfig
from jointdetr.layers_jointdetr import JointDetrDeformableAttention, JointDetrInputProjection
from jointdetr.modeling_jointdetr import JointDetrForPoseEstimation, JointDetrModel
from jointdetr.postprocessing_jointdetr import assemble_poses
from jointdetr.refinement_jointdetr import JointRefiner

BACKBONE = {
    "model_type": "resnet",
    "layer_type": "basic",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "out_features": ["stage2", "stage3", "stage4"],
}
SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_layers": 3,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 32,
}


def tiny_config(**fields) -> JointDetrConfig:
    return JointDetrConfig(**{"backbone_config": dict(BACKBONE), **SIZES, "num_queries": 20, **fields})


def tiny_model(**fields) -> JointDetrForPoseEstimation:
    return JointDetrForPoseEstimation(tiny_config(**fields)).eval()


def lively(model: JointDetrForPoseEstimation) -> JointDetrForPoseEstimation:
    """Give the layers that start at zero some weight, so that every input matters to the output."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.weight.abs().sum() == 0:
            torch.nn.init.normal_(module.weight, std=0.02)
    return model


def random_labels(pictures: int) -> list[dict]:
    return [
        {
            "joints_3d": torch.randn(17, 3) * 300,
            "joints_3d_valid": torch.ones(17, dtype=torch.bool),
            "joints_2d": torch.rand(17, 2),
            "joints_2d_valid": torch.ones(17, dtype=torch.bool),
            "visible": torch.rand(17) < 0.5,
        }
        for _ in range(pictures)
    ]


def test_initial_values_are_those_that_were_meant():
    model = tiny_model()
    attentions = [module for module in model.modules() if isinstance(module, JointDetrDeformableAttention)]
    assert len(attentions) == 5
    for attention in attentions:
        offsets = attention.sampling_offsets.bias.view(4, 4, 4, 2)  # (heads, levels, points, 2)
        assert offsets[0, 0].tolist() == [[1, 0], [2, 0], [3, 0], [4, 0]]
        assert torch.allclose(offsets[1, 3], torch.tensor([[0.0, 1], [0, 2], [0, 3], [0, 4]]), atol=1e-6)
        assert attention.sampling_offsets.weight.abs().sum() == attention.attention_weights.weight.abs().sum() == 0
    for head in model.model.decoder.heads:
        assert head.class_head.bias[:-1].tolist() == pytest.approx([math.log(0.01 / 0.99)] * 17)
        assert head.class_head.bias[-1] == 0
        assert head.joint_head[-1].weight.abs().sum() == head.point_head[-1].bias.abs().sum() == 0


@pytest.mark.parametrize("spread", [0.0, 1.5, 3.0])
def test_untrained_queries_differ_in_what_they_take_themselves_for_as_far_as_the_config_says(spread):
    model = tiny_model(num_queries=200, class_spread=spread).train()
    heads = [layer.class_head for layer in model.model.decoder.heads]
    assert all(torch.equal(heads[0].weight, head.weight) for head in heads)
    logits = model.model(torch.randn(2, 3, 64, 64)).layer_logits - heads[0].bias  # (layers, batch, queries, classes)
    first, *later = (logits - model.model.query_start.logits).std(2).mean((1, 2)).tolist()
    assert first == pytest.approx(spread, rel=0.15)
    assert all(0.5 * spread <= other <= first for other in later)  # what queries have read is alike, and adds up


@pytest.mark.parametrize(("init_std", "expected"), [(0.05, 0.05), (None, math.sqrt(2 / (32 + 64)))])
def test_linear_weights_start_as_wide_as_the_config_says_or_as_their_layer_asks(init_std, expected):
    model = tiny_model(init_std=init_std, decoder_ffn_dim=64)
    weight = model.model.decoder.layers[0].mlp.fc1.weight
    assert weight.shape == (64, 32) and weight.std().item() == pytest.approx(expected, rel=0.1)
    assert model.model.query_position_embeddings.weight.std().item() == pytest.approx(1.0, rel=0.1)


def test_queries_start_as_joints_of_their_own_and_at_the_pose_that_they_are_told():
    model = tiny_model(num_queries=20, class_spread=0.0)
    picture = torch.randn(1, 3, 64, 64)
    outputs = model.model(picture)
    assert outputs.layer_logits[..., :17].argmax(-1).tolist() == [[[q % 17 for q in range(20)]]] * 3
    assert not outputs.layer_joints.any() and (outputs.layer_points == 0.5).all()
    joints, points = torch.randn(17, 3), torch.rand(17, 2)
    model.model.query_start.stand_as(joints, points)
    outputs = model.model(picture)
    torch.testing.assert_close(outputs.layer_joints[1, 0, [2, 19]], joints[[2, 2]])
    torch.testing.assert_close(outputs.layer_points[1, 0, [2, 19]], points[[2, 2]])
    assert not model(picture).pred_joints[0, 0].equal(torch.zeros(3))


def test_without_a_learned_start_queries_begin_at_the_root_where_their_embedding_says():
    model = tiny_model(learned_start=False)
    outputs = model.model(torch.randn(1, 3, 64, 64))
    start = model.model.reference_points(model.model.query_position_embeddings.weight[:, :32]).sigmoid()
    assert model.model.query_start is None and not outputs.layer_joints.any()
    torch.testing.assert_close(outputs.layer_points[0, 0], start)


def test_loading_keeps_the_class_heads_of_all_layers(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        for number, head in enumerate(model.model.decoder.heads):
            head.class_head.weight.fill_(number)
    model.save_pretrained(tmp_path)
    loaded = JointDetrForPoseEstimation.from_pretrained(tmp_path)
    assert [head.class_head.weight.unique().tolist() for head in loaded.model.decoder.heads] == [[0.0], [1.0], [2.0]]


def test_output_shapes_and_units():
    model = tiny_model()
    outputs = model(torch.randn(2, 3, 64, 96))
    assert outputs.logits.shape == (2, 20, 18)
    assert outputs.pred_joints.shape == (2, 20, 3) and outputs.pred_points.shape == (2, 20, 2)
    assert len(outputs.auxiliary_outputs) == 2
    assert outputs.encoder_last_hidden_state.shape == (2, 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2, 32)
    assert outputs.loss is None
    base = model.model(torch.zeros(2, 3, 64, 96))
    last = model(torch.zeros(2, 3, 64, 96))
    assert torch.allclose(last.pred_joints, base.layer_joints[-1] * 1000.0)


@pytest.mark.parametrize("size", [(64, 64), (50, 77), (33, 128)])
def test_a_batch_is_as_its_pictures_one_by_one(size):
    model = lively(tiny_model())
    pictures = torch.randn(3, 3, *size)
    together = model(pictures)
    for index in range(3):
        alone = model(pictures[index : index + 1])
        for name in ("logits", "pred_joints", "pred_points"):
            assert torch.allclose(together[name][index], alone[name][0], atol=1e-4), name


def test_what_lies_in_the_padding_does_not_matter():
    model = lively(tiny_model())
    mask = torch.zeros(1, 96, 96, dtype=torch.long)
    mask[:, :64, :80] = 1
    picture = torch.randn(1, 3, 96, 96)
    other = torch.where(mask[:, None].bool(), picture, torch.randn_like(picture) * 9)
    assert torch.equal(model(picture, mask).pred_joints, model(other, mask).pred_joints)


def test_padding_moves_no_token_and_no_place():
    model = lively(tiny_model())
    features = [torch.randn(1, 32, size, size) for size in (8, 4, 2)]
    padded = [torch.nn.functional.pad(feature, (0, feature.shape[-1], 0, feature.shape[-1])) for feature in features]
    coarsest = torch.randn(1, 32, 1, 1)
    mask = torch.nn.functional.pad(torch.ones(1, 64, 64, dtype=torch.long), (0, 64, 0, 64))

    def estimate(levels, last, pixel_values, pixel_mask):
        model.model.backbone = lambda _: type("Maps", (), {"feature_maps": levels})
        model.model.input_proj = lambda maps: [*maps, last]
        return model(pixel_values, pixel_mask)

    del model.model.backbone, model.model.input_proj
    alone = estimate(features, coarsest, torch.zeros(1, 3, 64, 64), None)
    inside = estimate(padded, torch.nn.functional.pad(coarsest, (0, 1, 0, 1)), torch.zeros(1, 3, 128, 128), mask)
    assert torch.allclose(inside.pred_joints, alone.pred_joints, atol=1e-3)
    assert torch.allclose(inside.pred_points, alone.pred_points, atol=1e-6)


def test_a_mask_without_padding_changes_nothing():
    model = lively(tiny_model())
    picture = torch.randn(1, 3, 64, 64)
    plain, masked = model(picture), model(picture, torch.ones(1, 64, 64, dtype=torch.long))
    assert torch.allclose(plain.pred_joints, masked.pred_joints, atol=1e-4)


def test_layers_add_up_changes():
    model = tiny_model()
    for index, head in enumerate(model.model.decoder.heads):
        torch.nn.init.constant_(head.joint_head[-1].bias, 0.1 * (index + 1))
        torch.nn.init.constant_(head.point_head[-1].bias, 0.01)
    outputs = model.model(torch.randn(1, 3, 64, 64))
    assert outputs.layer_joints.mean((1, 2, 3)).tolist() == pytest.approx([0.1, 0.3, 0.6])
    assert torch.allclose(outputs.layer_points[2, 0], model.model.query_start.points + 0.03, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "reached"),
    [
        ({}, [True, True, True]),
        ({"detach_layers": True}, [True, True, True]),
        ({"detach_layers": True, "auxiliary_loss": True}, [False, False, True]),
        ({"query_alignment": "fixed", "num_queries": 17}, [True, True, True]),
        ({"query_alignment": "fixed", "num_queries": 17, "detach_layers": True}, [True, True, True]),
        (
            {
                "query_alignment": "fixed",
                "num_queries": 17,
                "detach_layers": True,
                "auxiliary_loss": True,
            },
            [False, False, True],
        ),
    ],
)
def test_gradient_reaches_back_unless_it_is_kept_and_all_layers_have_a_loss(fields, reached):
    model = tiny_model(decoder_connection=False, **fields)
    model.model(torch.randn(1, 3, 64, 64)).layer_joints[2].sum().backward()
    assert [bool(head.joint_head[-1].bias.grad.any()) for head in model.model.decoder.heads] == reached


def test_groups_of_queries_do_not_see_each_other():
    picture = torch.randn(1, 3, 64, 64)
    for groups, seen in ((1, True), (2, False)):
        model = tiny_model(num_queries=40, query_groups=groups, attn_implementation="eager")
        before = model.model(picture, output_attentions=True)
        with torch.no_grad():
            model.model.query_position_embeddings.weight[20:] += torch.randn(20, 1)
        after = model.model(picture).last_hidden_state
        assert torch.equal(before.last_hidden_state[:, :20], after[:, :20]) is not seen
        assert before.decoder_attentions[0].shape[0] == groups
        assert before.decoder_attentions[0].shape[2:] == (40 // groups, 40 // groups)


def test_the_connection_carries_one_layer_into_the_next():
    picture = torch.randn(1, 3, 64, 64)
    for connected in (True, False):
        model = tiny_model(decoder_connection=connected)
        before = model.model(picture).last_hidden_state
        torch.nn.init.constant_(model.model.decoder.heads[0].joint_head[-1].bias, 1.0)
        assert torch.equal(before, model.model(picture).last_hidden_state) is not connected


@pytest.mark.parametrize("fields", [{}, {"query_alignment": "fixed", "num_queries": 17, "num_feature_levels": 1}])
def test_every_parameter_learns(fields):
    model = lively(tiny_model(predict_confidence=True, **fields)).train()
    model(torch.randn(2, 3, 64, 64), labels=random_labels(2)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_the_confidence_head_changes_no_prediction_and_starts_from_its_prior():
    model = tiny_model(predict_confidence=True)
    plain = tiny_model()
    plain.load_state_dict(model.state_dict(), strict=False)
    pixel_values = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        outputs, without = model(pixel_values), plain(pixel_values)
    assert without.pred_sigmas is None and without.pred_visibility is None
    assert torch.equal(outputs.pred_joints, without.pred_joints)
    torch.testing.assert_close(outputs.pred_sigmas, torch.full((2, 20), 100.0))
    torch.testing.assert_close(outputs.pred_visibility, torch.full((2, 20), 0.5))


def test_baseline_has_one_query_per_joint_and_no_classes():
    outputs = tiny_model(query_alignment="fixed", num_queries=17)(torch.randn(1, 3, 64, 64))
    assert outputs.logits is None and outputs.pred_joints.shape == (1, 17, 3)


def test_overfits_one_batch_to_15_mm():
    model = tiny_model(encoder_layers=1, decoder_layers=2).train()
    pictures, labels = torch.randn(2, 3, 64, 64), random_labels(2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, (300 - step) / 150)
        loss = model(pictures, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    poses = assemble_poses(model(pictures))
    target = torch.stack([label["joints_3d"] for label in labels])
    assert poses.detected.all()
    assert (poses.joints - target).norm(dim=-1).mean() < 15


def test_half_precision_stays_near_full(tmp_path):
    model = lively(tiny_model())
    for head in model.model.decoder.heads:
        torch.nn.init.normal_(head.joint_head[-1].bias, std=0.4)  # poses as large as people
    model.save_pretrained(tmp_path)
    pictures = torch.randn(2, 3, 64, 64)
    full = JointDetrForPoseEstimation.from_pretrained(tmp_path, dtype=torch.float32).eval()(pictures)
    for dtype, tolerance_mm in ((torch.bfloat16, 30.0), (torch.float16, 5.0)):
        half = JointDetrForPoseEstimation.from_pretrained(tmp_path, dtype=dtype).eval()(pictures.to(dtype))
        assert half.pred_joints.dtype == torch.float32 and full.pred_joints.abs().max() > 200
        assert (half.pred_joints - full.pred_joints).abs().max() < tolerance_mm


def test_gradient_checkpointing_gives_the_same_gradients():
    pictures, labels = torch.randn(1, 3, 64, 64), random_labels(1)
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = lively(tiny_model()).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(pictures, labels=labels).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-5), name


def test_eager_attention_equals_sdpa_and_shows_its_weights():
    model = lively(tiny_model())
    picture = torch.randn(1, 3, 64, 64)
    sdpa = model(picture)
    model.set_attn_implementation("eager")
    eager = model(picture, output_attentions=True, output_hidden_states=True)
    assert torch.allclose(sdpa.pred_joints, eager.pred_joints, atol=1e-3)
    assert [weights.shape for weights in eager.attentions] == [(1, 4, 20, 20)] * 3
    assert [weights.shape for weights in eager.cross_attentions] == [(1, 20, 4, 4, 4)] * 3
    assert len(eager.hidden_states) >= 3


def test_compiles_without_a_graph_break():
    model = lively(tiny_model(encoder_layers=1, decoder_layers=1))
    picture = torch.randn(1, 3, 64, 64)
    compiled = torch.compile(model.model, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(picture).layer_joints, model.model(picture).layer_joints, atol=1e-5)


def test_saving_and_loading_keeps_everything(tmp_path):
    model = lively(tiny_model(refiner_config=JointRefinerConfig(hidden_size=16)))
    model.save_pretrained(tmp_path)
    loaded, info = JointDetrForPoseEstimation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert not any(p.requires_grad for p in loaded.refiner.parameters())


def test_a_trained_refiner_is_taken_over():
    model = tiny_model()
    refiner = JointRefiner(JointRefinerConfig(hidden_size=16))
    model.set_refiner(refiner)
    assert model.refiner is refiner and model.config.refiner_config is refiner.config
    other = JointRefiner(JointRefinerConfig(id2label={0: "a", 1: "b"}, joint_parents=[-1, 0], hidden_size=16))
    with pytest.raises(ValueError, match="must have the model's skeleton"):
        model.set_refiner(other)


def test_what_a_processor_returns_besides_is_ignored():
    model = tiny_model()
    picture = torch.randn(1, 3, 64, 64)
    extra = {"crop_affine": torch.eye(3)[None, :2], "image_index": torch.tensor([0])}
    assert torch.equal(model(picture).pred_joints, model(pixel_values=picture, **extra).pred_joints)


def test_frozen_batch_norm_stays_frozen_in_training():
    model = tiny_model(freeze_batch_norm=True).train()
    norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    before = norm.running_mean.clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(before, norm.running_mean) and not norm.weight.requires_grad


@pytest.mark.parametrize("padded", [False, True])
def test_encoder_equals_transformers_deformable_detr(padded):
    backbone = ResNetConfig(**{k: v for k, v in BACKBONE.items() if k != "model_type"})
    sizes = SIZES | {"d_model": 64}
    source = DeformableDetrModel(DeformableDetrConfig(backbone_config=backbone, num_queries=20, **sizes)).eval()
    for module in source.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.1)
    model, info = JointDetrForPoseEstimation.from_deformable_detr(source, output_loading_info=True, num_queries=20)
    assert "encoder.layers.1.mlp.fc2.weight" in info["taken"] and "input_proj.3.0.weight" in info["taken"]
    assert "decoder.layers.2.encoder_attn.sampling_offsets.weight" in info["taken"]
    assert info["unused"] == ["reference_points.bias", "reference_points.weight"]  # queries have a start of their own
    own = ("decoder.heads", "decoder.connections", "query_start")
    assert all(name.startswith(own) or "num_batches" in name for name in info["new"])
    pictures, mask = torch.randn(2, 3, 96, 80), torch.ones(2, 96, 80, dtype=torch.long)
    if padded:
        mask[0, 64:], mask[0, :, 48:] = 0, 0
        pictures = pictures * mask[:, None]
    source_sizes = [(12, 10), (6, 5), (3, 3), (2, 2)]
    expected = source(pictures, mask).encoder_last_hidden_state
    actual = model(pictures, mask if padded else None).encoder_last_hidden_state
    picture = torch.cat(
        [torch.nn.functional.interpolate(mask[:, None].float(), size=size).flatten(1) for size in source_sizes], 1
    ).bool()
    assert torch.allclose(actual[picture], expected[picture], atol=1e-4)  # padded tokens hold nothing of use


def test_a_batch_without_people_is_refused():
    with pytest.raises(ValueError, match="`pixel_values` must hold at least one crop"):
        tiny_model()(torch.zeros(0, 3, 64, 64))


def test_base_model_alone_can_be_made():
    assert JointDetrModel(tiny_config())(torch.randn(1, 3, 64, 64)).layer_logits.shape == (3, 1, 20, 18)


def test_a_level_of_a_single_pixel_has_the_right_gradient_in_half_precision():
    torch.manual_seed(0)
    projection = JointDetrInputProjection(tiny_config(num_feature_levels=3, d_model=32), [8, 32])
    projection[2][1] = torch.nn.Identity()  # the norm of a single pixel magnifies rounding errors
    stages = (torch.randn(2, 8, 3, 3), torch.randn(2, 32, 1, 1))
    gradients = []
    for half in (True, False):
        unclean = [torch.full((size,), torch.nan, dtype=torch.bfloat16) for size in range(5, 12000, 37)]
        del unclean  # what is read without having been written is not a number
        projection.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            levels = projection(stages)
        sum(level.float().square().sum() for level in levels).backward()
        gradients.append(projection[2][0].weight.grad.clone())
    assert levels[2].shape == (2, 32, 1, 1)
    torch.testing.assert_close(gradients[0], gradients[1], atol=0.05 * gradients[1].abs().max().item(), rtol=0.0)


def test_layers_do_not_ask_for_the_storage_of_weights(tiny_model_folder):
    """Quantised weights are stored as integers, and a layer of them has no `weight.dtype` to go by."""
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder).eval()
    quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    pixels = torch.randn(2, 3, 128, 128)
    skeletons = torch.randn(2, 17, 3) * 300
    with torch.no_grad():
        found, expected = quantised(pixel_values=pixels), model(pixel_values=pixels)
        refined = quantised.refiner(skeletons).joints, model.refiner(skeletons).joints
    torch.testing.assert_close(found.pred_joints, expected.pred_joints, rtol=0.1, atol=20.0)
    torch.testing.assert_close(*refined, rtol=0.1, atol=20.0)


@pytest.mark.parametrize("integers", [torch.int8, torch.uint8])
def test_weights_stored_as_integers_do_not_touch_the_input(tiny_model_folder, integers, monkeypatch):
    class StoredAsIntegers(torch.nn.Module):
        """A linear layer as bitsandbytes has it: the weight is integers, the input must not be."""

        def __init__(self, layer: torch.nn.Linear):
            super().__init__()
            self.weight = torch.nn.Parameter(layer.weight.detach().to(integers), requires_grad=False)
            self.layer = [layer]

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            assert values.is_floating_point()
            return self.layer[0](values)

    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder).eval()
    pixels, skeletons = torch.randn(2, 3, 128, 128), torch.randn(2, 17, 3) * 300
    with torch.no_grad():
        expected = model(pixel_values=pixels).pred_joints, model.refiner(skeletons).joints
        for module in list(model.modules()):
            for name, child in list(module.named_children()):
                if type(child) is torch.nn.Linear:
                    setattr(module, name, StoredAsIntegers(child))
        found = model(pixel_values=pixels).pred_joints, model.refiner(skeletons).joints
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_arrays_are_refused_with_what_is_needed(tiny_model_folder):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder).eval()
    with pytest.raises(ValueError, match='must be a tensor, got ndarray: .* `return_tensors="pt"`'):
        model(pixel_values=np.zeros((1, 3, 64, 64), np.float32))


@pytest.mark.parametrize("part", ["base", "whole"])
def test_hidden_states_and_attentions_have_the_names_of_encoder_decoder_models(tiny_model_folder, part):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder, attn_implementation="eager").eval()
    config = model.config
    with torch.no_grad():
        outputs = (model.model if part == "base" else model)(
            torch.randn(2, 3, 128, 128), output_hidden_states=True, output_attentions=True
        )
    assert len(outputs.encoder_attentions) == config.encoder_layers
    assert len(outputs.decoder_attentions) == len(outputs.cross_attentions) == config.decoder_layers
    torch.testing.assert_close(outputs.encoder_hidden_states[-1], outputs.encoder_last_hidden_state)
    torch.testing.assert_close(outputs.decoder_hidden_states[-1], outputs.last_hidden_state)
    assert outputs.decoder_hidden_states == outputs.hidden_states
    plain = model(torch.randn(1, 3, 128, 128))
    assert plain.encoder_hidden_states is plain.decoder_attentions is plain.encoder_attentions is None
