"""A model for another skeleton: joints of the same name say what they said, the rest starts as an untrained one."""

import copy
import math

import pytest
import torch

from jointdetr import (
    HUMAN36M,
    MPI_INF_3DHP,
    JointDetrConfig,
    JointDetrForPoseEstimation,
    JointRefiner,
    JointRefinerConfig,
    Skeleton,
)
from jointdetr.modeling_jointdetr import CLASS_PRIOR
from jointdetr.training.adaptation import adapt_to_skeleton

WITH_HANDS = Skeleton(
    name="with_hands",
    joints=("left_hand", *HUMAN36M.joints, "right_hand"),
    parents=(14, -1, *(parent + 1 for parent in HUMAN36M.parents[1:]), 17),
    flip_pairs=((0, 18), *((first + 1, second + 1) for first, second in HUMAN36M.flip_pairs)),
    root=1,
)
SHUFFLED = Skeleton(
    name="shuffled",
    joints=tuple(reversed(HUMAN36M.joints)),
    parents=tuple(16 - parent if parent >= 0 else -1 for parent in reversed(HUMAN36M.parents)),
    flip_pairs=(),
    root=16,
)
CHAIN = Skeleton("chain", tuple(f"joint{i}" for i in range(30)), tuple(range(-1, 29)), (), 0)


def disturbed(model: JointDetrForPoseEstimation) -> JointDetrForPoseEstimation:
    """Every weight matters: none is zero any more."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.randn_like(parameter) * 0.05
    return model.eval()


@pytest.fixture(scope="module")
def model(tiny_model_folder) -> JointDetrForPoseEstimation:
    torch.manual_seed(1)
    return disturbed(JointDetrForPoseEstimation.from_pretrained(tiny_model_folder, predict_confidence=True))


@pytest.fixture(scope="module")
def baseline(model) -> JointDetrForPoseEstimation:
    fields = {"query_alignment": "fixed", "num_queries": 17}
    config = type(model.config).from_dict(model.config.to_dict() | fields)
    return disturbed(JointDetrForPoseEstimation(config))


def numbers_of(skeleton: Skeleton, names: tuple[str, ...] = HUMAN36M.joints) -> list[int]:
    return [skeleton.joints.index(name) for name in names]


@pytest.mark.parametrize("alignment", ["model", "baseline"])
def test_the_same_joints_in_another_order_give_the_same_answers(alignment, request):
    model = request.getfixturevalue(alignment)
    adapted = adapt_to_skeleton(model, SHUFFLED)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before, after = model(pixels), adapted(pixels)
    order = numbers_of(SHUFFLED)
    if alignment == "model":
        torch.testing.assert_close(after.logits[..., [*order, 17]], before.logits)
        torch.testing.assert_close(after.pred_joints, before.pred_joints, atol=1e-3, rtol=1e-5)
    else:
        torch.testing.assert_close(after.pred_joints[:, order], before.pred_joints, atol=1e-3, rtol=1e-5)
    skeletons = torch.randn(2, 17, 3) * 300
    refined = adapted.refiner(skeletons[:, numbers_of(HUMAN36M, SHUFFLED.joints)]).joints
    torch.testing.assert_close(refined[:, order], model.refiner(skeletons).joints, atol=1e-3, rtol=1e-5)
    assert adapted.config.skeleton.joints == SHUFFLED.joints


def test_new_joints_leave_what_the_old_ones_say(model):
    adapted = adapt_to_skeleton(model, WITH_HANDS)
    old = numbers_of(WITH_HANDS)
    for before, after in zip(model.model.decoder.heads, adapted.model.decoder.heads, strict=True):
        torch.testing.assert_close(after.class_head.weight[[*old, 19]], before.class_head.weight)
        torch.testing.assert_close(after.class_head.bias[[*old, 19]], before.class_head.bias)
        new_bias = after.class_head.bias[numbers_of(WITH_HANDS, ("left_hand", "right_hand"))]
        torch.testing.assert_close(new_bias, torch.full((2,), math.log(CLASS_PRIOR / (1 - CLASS_PRIOR))))
    before, after = model.model.decoder.connections[0], adapted.model.decoder.connections[0]
    torch.testing.assert_close(
        after.fc1.weight[:, [0, 1, 2, 3, 4, *(5 + joint for joint in old), 24]], before.fc1.weight
    )
    kept = {name for name, weight in model.state_dict().items() if weight.shape == adapted.state_dict()[name].shape}
    assert all(torch.equal(adapted.state_dict()[name], model.state_dict()[name]) for name in kept)
    assert {name.split(".")[-2] for name in set(model.state_dict()) - kept} == {
        *("class_head", "fc1", "input_projection", "output_projection")
    }


def test_the_refinement_network_moves_old_joints_as_before_and_new_ones_not_at_all(model):
    adapted = adapt_to_skeleton(model, WITH_HANDS)
    old, new = numbers_of(WITH_HANDS), numbers_of(WITH_HANDS, ("left_hand", "right_hand"))
    skeletons = torch.randn(3, 19, 3) * 300
    refined = adapted.refiner(skeletons).joints
    torch.testing.assert_close(refined[:, old], model.refiner(skeletons[:, old]).joints, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(refined[:, new], skeletons[:, new])


def test_the_refinement_network_reads_the_expected_errors_of_old_joints_alone(model):
    told = copy.deepcopy(model)
    refiner_config = JointRefinerConfig(hidden_size=32, num_blocks=1, use_sigmas=True)
    told.set_refiner(JointRefiner(refiner_config))
    adapted = adapt_to_skeleton(disturbed(told), WITH_HANDS)
    old = numbers_of(WITH_HANDS)
    skeletons, sigmas = torch.randn(3, 19, 3) * 300, 200 * torch.rand(3, 19)
    refined = adapted.refiner(skeletons, sigmas=sigmas).joints
    expected = told.refiner(skeletons[:, old], sigmas=sigmas[:, old]).joints
    torch.testing.assert_close(refined[:, old], expected, atol=1e-3, rtol=1e-5)
    assert torch.equal(refined[:, [0, 18]], skeletons[:, [0, 18]])


def test_a_joint_does_not_read_a_parent_that_is_another_one(model):
    adapted = adapt_to_skeleton(model, MPI_INF_3DHP)
    weight = adapted.refiner.input_projection.weight.unflatten(1, (17, 11))
    spine, neck = (MPI_INF_3DHP.joints.index(name) for name in ("spine", "neck"))
    assert weight[:, spine, [3, 4, 5, 9]].all()  # below the pelvis in both
    assert not weight[:, neck, [3, 4, 5, 9]].any()  # below the thorax, then below the spine
    assert weight[:, neck, [0, 1, 2]].all()


def test_the_baseline_keeps_the_queries_of_its_joints(baseline):
    adapted = adapt_to_skeleton(baseline, WITH_HANDS)
    queries = adapted.model.query_position_embeddings.weight
    torch.testing.assert_close(queries[numbers_of(WITH_HANDS)], baseline.model.query_position_embeddings.weight)
    assert adapted.config.num_queries == len(queries) == 19
    assert queries[0].std() > 0.5  # drawn anew


def test_queries_grow_to_the_number_of_joints(model):
    adapted = adapt_to_skeleton(model, CHAIN)
    queries = adapted.model.query_position_embeddings.weight
    torch.testing.assert_close(queries[:20], model.model.query_position_embeddings.weight)
    assert len(queries) == adapted.config.num_queries == 30
    assert queries[20:].std() > 0.5


@pytest.mark.parametrize(("skeleton", "groups"), [(SHUFFLED, 5), (WITH_HANDS, 5), (CHAIN, 1)])
def test_groups_without_room_for_all_joints_become_one(tiny_model_folder, skeleton, groups):
    config = JointDetrConfig.from_pretrained(tiny_model_folder, num_queries=100, query_groups=5)
    grouped = disturbed(JointDetrForPoseEstimation(config))
    adapted = adapt_to_skeleton(grouped, skeleton)
    assert (adapted.config.num_queries, adapted.config.query_groups) == (100, groups)
    queries = adapted.model.query_position_embeddings.weight
    torch.testing.assert_close(queries, grouped.model.query_position_embeddings.weight)


def test_queries_keep_what_they_start_as_and_take_themselves_for_no_new_joint(tiny_model_folder):
    config = JointDetrConfig.from_pretrained(tiny_model_folder, learned_start=True)
    started = disturbed(JointDetrForPoseEstimation(config))
    start, adapted = started.model.query_start, adapt_to_skeleton(started, WITH_HANDS).model.query_start
    old = numbers_of(WITH_HANDS)
    torch.testing.assert_close(adapted.joints, start.joints)
    torch.testing.assert_close(adapted.points, start.points)
    torch.testing.assert_close(adapted.logits[:, [*old, 19]], start.logits)
    assert not adapted.logits[:, [0, 18]].any()


def test_it_trains_saves_and_loads(model, tmp_path):
    adapted = adapt_to_skeleton(model, WITH_HANDS).train()
    labels = {"joints_3d": torch.randn(19, 3) * 300, "joints_3d_valid": torch.ones(19, dtype=torch.bool)}
    adapted(torch.randn(1, 3, 64, 64), labels=[labels]).loss.backward()
    assert adapted.model.decoder.heads[0].class_head.weight.grad[0].any()
    assert all(parameter.grad is None for parameter in adapted.refiner.parameters())
    adapted.save_pretrained(tmp_path)
    again, info = JointDetrForPoseEstimation.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    assert again.config.flip_pairs == [list(pair) for pair in WITH_HANDS.flip_pairs]
    weights = adapted.state_dict()
    assert [n for n, value in again.state_dict().items() if not torch.equal(value, weights[n])] == []


def test_transformers_own_way_draws_every_class_head_anew(model, tmp_path):
    """`ignore_mismatched_sizes` goes by shape: it keeps no joint, and has to start as an untrained model does."""
    model.save_pretrained(tmp_path)
    fields = adapt_to_skeleton(model, WITH_HANDS).config
    loaded = JointDetrForPoseEstimation.from_pretrained(tmp_path, config=fields, ignore_mismatched_sizes=True)
    bias = loaded.model.decoder.heads[0].class_head.bias
    expected = torch.tensor([math.log(CLASS_PRIOR / (1 - CLASS_PRIOR))] * 19 + [0.0])
    torch.testing.assert_close(bias.detach(), expected)
