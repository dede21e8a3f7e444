import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import ResNetConfig

from jointdetr import JointDetrConfig, JointDetrForPoseEstimation
from jointdetr.loss_jointdetr import PoseLabels
from jointdetr.queries_jointdetr import JointDetrDenoisingQueries

TRAINING_FIELDS = {"num_query_groups": 3, "num_denoising_groups": 2}


def tiny_config(**fields) -> JointDetrConfig:
    backbone = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", out_features=["stage1", "stage2"]
    )
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "num_feature_levels": 2, "num_queries": 20}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    return JointDetrConfig(backbone_config=backbone, **sizes, **heads, **fields)


def labels_of(pictures: int) -> list[dict]:
    return [{"joints_3d": torch.randn(17, 3) * 300, "joints_2d": torch.rand(17, 2)} for _ in range(pictures)]


def make_model(**fields) -> JointDetrForPoseEstimation:
    torch.manual_seed(0)
    model = JointDetrForPoseEstimation(tiny_config(**fields))
    with torch.no_grad():  # heads that start at zero would hide what the queries see
        for head in model.model.decoder.heads:
            head.joint_head[-1].weight.normal_(std=0.1)
            head.point_head[-1].weight.normal_(std=0.1)
    return model


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_neither_other_groups_nor_denoising_queries_change_what_the_first_group_predicts(implementation):
    pixels = torch.randn(2, 3, 64, 64)
    model = make_model(**TRAINING_FIELDS)
    model.config._attn_implementation = implementation  # the backbone has no attention, and would refuse
    model.eval()
    alone = model(pixels)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    together = model(pixels, labels=labels_of(2))
    assert together.pred_joints.shape == alone.pred_joints.shape == (2, 20, 3)
    torch.testing.assert_close(together.pred_joints, alone.pred_joints, atol=1e-2, rtol=1e-5)  # mm
    torch.testing.assert_close(together.logits, alone.logits, atol=1e-5, rtol=1e-5)
    assert together.matched_queries.shape == (2, 2, 17)
    assert together.matched_queries.max() < 20
    assert together.matching_cost.shape == (2,)


def test_every_weight_of_the_training_queries_learns():
    model = make_model(**TRAINING_FIELDS, joint_loss="likelihood").train()
    model(torch.randn(2, 3, 64, 64), labels=labels_of(2)).loss.backward()
    still = [
        name
        for name, parameter in model.named_parameters()
        if ("query_groups" in name or "denoising" in name or "sigma_head.4" in name or "couplings.0.4.bias" in name)
        and (parameter.grad is None or parameter.grad.abs().sum() == 0)
    ]
    assert not still


def test_training_queries_stay_out_of_evaluation():
    model = make_model(**TRAINING_FIELDS).eval()
    outputs = model(torch.randn(1, 3, 64, 64), labels=labels_of(1))
    assert not [name for name in outputs.loss_dict if "denoising" in name]
    assert outputs.last_hidden_state.shape[1] == 20


def test_a_model_with_training_queries_survives_saving(tmp_path):
    model = make_model(**TRAINING_FIELDS, joint_loss="likelihood", class_quality_scale=50.0).eval()
    model.save_pretrained(tmp_path)
    again = JointDetrForPoseEstimation.from_pretrained(tmp_path)
    for (name, old), new in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(old, new), name
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(again(pixels).pred_sigmas, model(pixels).pred_sigmas)


def test_deviations_of_the_likelihood_become_sigmas():
    outputs = make_model(joint_loss="likelihood").eval()(torch.randn(1, 3, 64, 64))
    # three axes with the deviation that an untrained head expects, 100 mm
    torch.testing.assert_close(outputs.pred_sigmas, torch.full((1, 20), 100.0 * 3**0.5))


def test_denoising_queries_start_near_their_labels():
    torch.manual_seed(0)
    config = tiny_config(num_denoising_groups=3, denoising_label_noise=0.0)
    made = JointDetrDenoisingQueries(config)
    given = labels_of(2)
    given[1]["joints_2d_valid"] = torch.zeros(17, dtype=torch.bool)
    labels = PoseLabels.from_list(given, config, torch.device("cpu"))
    queries = made(labels)
    assert queries.group_sizes == [17] * 3
    assert queries.content.shape == queries.positions.shape == (2, 51, 16)
    away = (queries.joints.unflatten(1, (3, 17)) - labels.joints[:, None]).abs()
    assert 0.15 < away.max() <= 0.2
    away = (queries.points.unflatten(1, (3, 17)) - labels.points[:, None]).abs()
    assert 0.05 < away[0].max() <= 0.1 + 1e-6
    assert queries.points[1].min() < 0.2 and queries.points[1].max() > 0.8  # anywhere, where the place is unknown
    assert torch.equal(queries.content[0, :17], made.content.weight)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"query_alignment": "fixed", "num_queries": 17, "num_denoising_groups": 1}, "num_denoising_groups"),
        ({"query_alignment": "fixed", "num_queries": 17, "num_query_groups": 2}, "num_query_groups"),
        ({"num_query_groups": 0}, "num_query_groups"),
        ({"denoising_label_noise": 1.5}, "denoising_label_noise"),
        ({"class_quality_scale": 0.0}, "class_quality_scale"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, name):
    with pytest.raises(StrictDataclassError) as error:
        JointDetrConfig(**fields)
    assert f"`{name}`" in str(error.value.__cause__)
