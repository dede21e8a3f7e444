import itertools
import math

import pytest
import torch

from jointdetr.configuration_jointdetr import JointDetrConfig
from jointdetr.loss_jointdetr import (
    JointDetrLoss,
    PoseLabels,
    PosePredictions,
    coarse_to_fine_weights,
    matching_costs,
    projection_errors,
)
from jointdetr.postprocessing_jointdetr import assign

CPU = torch.device("cpu")


def three_joints(**fields) -> JointDetrConfig:
    skeleton = {"id2label": {0: "hip", 1: "knee", 2: "ankle"}, "joint_parents": [-1, 0, 1]}
    return JointDetrConfig(**skeleton, **{"num_queries": 5, "decoder_layers": 2, "auxiliary_loss": True, **fields})


def random_labels(pictures: int) -> list[dict]:
    return [{"joints_3d": torch.randn(3, 3) * 300, "joints_2d": torch.rand(3, 2)} for _ in range(pictures)]


def random_predictions(pictures: int, layers: int = 2, queries: int = 5) -> PosePredictions:
    shape = (layers, pictures, queries)
    return PosePredictions(torch.randn(*shape, 3), torch.rand(*shape, 2), torch.randn(*shape, 4))


def perfect_predictions(labels: PoseLabels, queries: list[int], layers: int = 2) -> PosePredictions:
    """Queries that hold the labels exactly and with certainty; the other queries are far away and no joint."""
    pictures = len(labels.joints)
    joints, points = torch.full((pictures, 5, 3), 9.0), torch.full((pictures, 5, 2), 9.0)
    logits = torch.zeros(pictures, 5, 4)
    logits[..., 3] = 50.0
    for joint, query in enumerate(queries):
        joints[:, query], points[:, query] = labels.joints[:, joint], labels.points[:, joint]
        logits[:, query] = 50.0 * torch.eye(4)[joint]
    return PosePredictions(*(t.expand(layers, *t.shape) for t in (joints, points, logits)))


def test_assignment_costs_no_more_than_any_other():
    costs = torch.randn(4, 2, 5, 3)
    queries = assign(costs)
    for matrix, chosen in zip(costs.flatten(0, 1), queries.flatten(0, 1), strict=True):
        best = min(sum(matrix[q, j] for j, q in enumerate(order)) for order in itertools.permutations(range(5), 3))
        assert sum(matrix[q, j] for j, q in enumerate(chosen)) == pytest.approx(best.item(), abs=1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_cost_that_is_not_finite_is_avoided_and_never_crashes(bad):
    costs = torch.zeros(1, 5, 3)
    costs[0, :4, 0] = bad
    assert assign(costs)[0, 0] == 4
    assert len(set(assign(torch.full((1, 5, 3), bad))[0].tolist())) == 3


def test_a_prediction_that_is_not_a_number_does_not_stop_the_matching():
    config = three_joints()
    labels = PoseLabels.from_list(random_labels(2), config, CPU)
    predictions = perfect_predictions(labels, [0, 1, 2])
    predictions = PosePredictions(*(t.clone() for t in (predictions.joints, predictions.points, predictions.logits)))
    predictions.joints[0, 1, 3] = torch.nan  # a query that nobody needs
    total = JointDetrLoss(config)(predictions, labels).total
    assert total.item() == pytest.approx(0.0, abs=1e-5)


def test_all_queries_of_a_picture_of_nobody_are_no_joint():
    config = three_joints()
    unlabelled = {"joints_3d": torch.zeros(3, 3), "joints_3d_valid": torch.zeros(3, dtype=torch.bool)}
    predictions = random_predictions(1)
    costs = -predictions.logits.log_softmax(-1)[..., -1]  # (layers, 1, queries)
    for nobody, counted in ((True, [0, 1, 2, 3, 4]), (False, None)):
        labels = PoseLabels.from_list([{**unlabelled, "nobody": nobody}], config, CPU)
        loss = JointDetrLoss(config)(predictions, labels)
        for layer, name in enumerate(("loss_class_0", "loss_class")):
            free = counted or sorted(set(range(5)) - set(loss.queries[layer, 0].tolist()))
            torch.testing.assert_close(loss.terms[name], costs[layer, 0, free].mean())
        assert loss.terms["loss_joint"] == 0.0


def test_projection_loss_by_hand():
    config = three_joints(projection_weight=2.0)
    points = torch.tensor([[0.2, 0.2], [0.4, 0.2], [0.3, 0.5]])
    label = {"joints_3d": torch.full((3, 3), torch.nan), "joints_2d": points}
    labels = PoseLabels.from_list([label], config, CPU)
    loss = JointDetrLoss(config)
    # the same shape, twice as large, elsewhere, at any depth
    same = torch.cat([2.0 * points + 3.0, torch.randn(3, 1)], -1)[None, None]
    assert loss.projection_loss(same, labels).item() == pytest.approx(0.0, abs=1e-6)
    # scattered at random about the right shape: pulled back to it, and neither shrunk nor enlarged on the whole
    noisy = (same + 0.1 * torch.randn(1, 1, 3, 3)).requires_grad_()
    errors = projection_errors(noisy, labels)
    centred = (noisy - noisy.mean(2, keepdim=True))[..., :2]
    assert (errors * centred).sum().item() == pytest.approx(0.0, abs=1e-5)
    # mirrored in y, it is no image of the labels: they are made twice as large and no more
    mirrored = torch.cat([points * torch.tensor([1.0, -1.0]), torch.zeros(3, 1)], -1)[None, None]
    about = points - points.mean(0)
    expected = (about * torch.tensor([1.0, -1.0]) - 2.0 * about).abs().sum(-1).mean()
    assert loss.projection_loss(mirrored, labels).item() == pytest.approx(expected.item())
    predictions = random_predictions(1)
    terms = loss(predictions, labels).terms
    assert {"loss_projection", "loss_projection_0"} <= set(terms)


def test_expected_errors_of_2d_labels_by_hand():
    config = three_joints(projection_weight=1.0)
    points = torch.tensor([[0.2, 0.2], [0.4, 0.2], [0.3, 0.5]])
    labels = PoseLabels.from_list([{"joints_3d": torch.full((3, 3), torch.nan), "joints_2d": points}], config, CPU)
    mirrored = torch.cat([points * torch.tensor([1.0, -1.0]), torch.zeros(3, 1)], -1)[None]  # (1, joints, 3)
    about = points - points.mean(0)
    errors = math.sqrt(1.5) * (about * torch.tensor([1.0, -1.0]) - 2.0 * about).norm(dim=-1)
    loss = JointDetrLoss(config).sigma_loss(errors.log()[None], mirrored, labels)
    torch.testing.assert_close(loss, (errors.log() + 1.0).mean())
    assert JointDetrLoss(three_joints()).sigma_loss(errors.log()[None], mirrored, labels) == 0.0


def test_bones_without_3d_labels_are_as_long_as_those_with():
    config = three_joints(projection_weight=1.0)
    known = torch.tensor([[0.0, 0, 0], [0, 300, 0], [0, 300, 400]])
    unknown = {"joints_3d": torch.full((3, 3), torch.nan), "joints_2d": torch.rand(3, 2)}
    labels = PoseLabels.from_list([{"joints_3d": known}, unknown], config, CPU)
    joints = torch.zeros(1, 2, 3, 3)
    joints[0, 1, 1:, 0] = torch.tensor([0.1, 0.6])  # bones of 100 and 500 mm, where 300 and 400 are usual
    assert JointDetrLoss(config).bone_loss(joints, labels).item() == pytest.approx((0.2 + 0.1) / 2)
    alone = PoseLabels.from_list([unknown], config, CPU)
    assert JointDetrLoss(config).bone_loss(joints[:, 1:], alone) == 0.0  # nothing to compare with


def test_projection_loss_leaves_size_and_place_and_joints_with_3d_labels_alone():
    config = three_joints(projection_weight=1.0)
    joints = torch.randn(1, 1, 3, 3, requires_grad=True)
    points = torch.rand(3, 2)
    labels = PoseLabels.from_list([{"joints_3d": torch.zeros(3, 3), "joints_2d": points}], config, CPU)
    assert JointDetrLoss(config).projection_loss(joints, labels) == 0.0
    known = torch.tensor([True, True, False])
    label = {"joints_3d": torch.full((3, 3), torch.nan), "joints_2d": points, "joints_2d_valid": known}
    labels = PoseLabels.from_list([label], config, CPU)
    JointDetrLoss(config).projection_loss(joints, labels).sum().backward()
    assert joints.grad[..., 2].abs().max() == 0.0 and joints.grad[0, 0, 2].abs().max() == 0.0
    assert joints.grad[0, 0, :2, :2].abs().min() > 0.0


def test_costs_by_hand():
    config = three_joints(matching_class_weight=2.0, joint_weight=5.0, joint_2d_weight=7.0)
    labels = PoseLabels.from_list(
        [
            {
                "joints_3d": torch.tensor([[0.0, 0, 0], [100, 200, -300], [0, 0, 0]]),
                "joints_3d_valid": torch.tensor([True, True, False]),
                "joints_2d": torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.25, 1.0]]),
            }
        ],
        config,
        CPU,
    )
    predictions = PosePredictions(torch.zeros(1, 1, 5, 3), torch.zeros(1, 1, 5, 2), torch.zeros(1, 1, 5, 4))
    costs = matching_costs(predictions, labels, config)[0, 0, 0]
    # probability 1/4 each; 600 mm in three axes; 1.25 sides of the input for the joint with a 2D label alone
    assert costs.tolist() == pytest.approx([-0.5, -0.5 + 5 * 0.6, -0.5 + 7 * 1.25])


def test_coarse_to_fine_weights_by_hand():
    target = torch.zeros(1, 3, 3)
    predicted = torch.tensor([[[60.0, 0, 80], [30, 40, 0], [0, 0, 0]]]).expand(3, 1, 3, 3)  # 100, 50 and 0 mm off
    weights = coarse_to_fine_weights(
        predicted, target, torch.tensor([100.0, 50.0, 0.0]), torch.tensor([0.1, 0.2, 0.3])
    )
    assert weights.squeeze(1).tolist() == [
        pytest.approx([0.1, 0.1, 0.1]),
        pytest.approx([1.0, 0.2, 0.2]),
        pytest.approx([1.0, 1.0, 0.3]),
    ]


def test_joint_loss_by_hand():
    config = three_joints(coarse_thresholds=[100.0, 0.0], coarse_discounts=[0.5, 0.1])
    labels = PoseLabels.from_list([{"joints_3d": torch.zeros(3, 3)}], config, CPU)
    joints = torch.zeros(2, 1, 3, 3)
    joints[:, 0, 1] = torch.tensor([0.03, 0.0, 0.04])  # 50 mm off, 70 mm in L1
    joints[:, 0, 2] = torch.tensor([0.3, 0.0, 0.4])  # 500 mm off, 700 mm in L1
    losses = JointDetrLoss(config).joint_loss(joints, labels)
    assert losses.tolist() == pytest.approx([(0.5 * 0.07 + 0.7) / 3, (0.07 + 0.7) / 3])


def test_class_loss_by_hand():
    config = three_joints(no_joint_weight=0.1, decoder_layers=1)
    labels = PoseLabels.from_list([{"joints_3d": torch.zeros(3, 3)}], config, CPU)
    logits = torch.zeros(1, 1, 5, 4)
    loss = JointDetrLoss(config).class_loss(logits, torch.tensor([[[0, 1, 2]]]), labels)
    assert loss.item() == pytest.approx(torch.tensor(4.0).log().item())  # uniform, whatever the weights
    logits[..., 3] = 100.0  # certain of "no joint": right for two queries of weight 0.1, wrong for three of weight 1
    loss = JointDetrLoss(config).class_loss(logits, torch.tensor([[[0, 1, 2]]]), labels)
    assert loss.item() == pytest.approx(100 * 3 / 3.2, rel=1e-5)


def test_perfect_predictions_cost_nothing_in_any_order():
    config = three_joints()
    labels = PoseLabels.from_list(random_labels(2), config, CPU)
    for queries in ([0, 1, 2], [4, 0, 3]):
        loss = JointDetrLoss(config)(perfect_predictions(labels, queries), labels)
        assert loss.total.item() == pytest.approx(0.0, abs=1e-5)
        assert loss.queries.tolist() == [[queries] * 2] * 2
        assert loss.matching_cost.tolist() == pytest.approx([-10.0, -10.0])  # certain, and at no distance
        assert set(loss.terms) == {
            f"{n}{i}" for n in ("loss_joint", "loss_joint_2d", "loss_class") for i in ("", "_0")
        }


def test_order_of_pictures_and_of_queries_does_not_matter():
    config = three_joints()
    labels, predictions = random_labels(3), random_predictions(3)
    loss = JointDetrLoss(config)(predictions, PoseLabels.from_list(labels, config, CPU)).total
    order, queries = torch.tensor([2, 0, 1]), torch.randperm(5)
    moved = PosePredictions(
        *(t[:, order][:, :, queries] for t in (predictions.joints, predictions.points, predictions.logits))
    )
    other = JointDetrLoss(config)(moved, PoseLabels.from_list([labels[i] for i in order], config, CPU)).total
    assert other.item() == pytest.approx(loss.item(), rel=1e-6)


def test_no_labelled_joint_gives_finite_loss_and_gradient():
    config = three_joints()
    predictions = random_predictions(2)
    for tensor in (predictions.joints, predictions.points, predictions.logits):
        tensor.requires_grad_()
    labels = [{"joints_3d": torch.full((3, 3), torch.nan)}, {}]
    total = JointDetrLoss(config)(predictions, PoseLabels.from_list(labels, config, CPU)).total
    total.backward()
    assert total.isfinite()
    assert predictions.joints.grad.abs().sum() == 0
    assert predictions.logits.grad.isfinite().all()


def test_the_query_of_an_unlabelled_joint_is_not_pushed():
    config = three_joints(decoder_layers=1)
    predictions = random_predictions(1, layers=1)
    predictions.logits[0, 0, 4] = torch.tensor([0.0, 0.0, 9.0, 0.0])  # query 4 says ankle
    predictions.logits.requires_grad_()
    valid = torch.tensor([True, True, False])
    label = {"joints_3d": torch.zeros(3, 3), "joints_3d_valid": valid}
    total = JointDetrLoss(config)(predictions, PoseLabels.from_list([label], config, CPU)).total
    total.backward()
    assert predictions.logits.grad[0, 0, 4].abs().sum() == 0
    assert (predictions.logits.grad[0, 0, :4].abs().sum(-1) > 0).all()


def test_fixed_alignment_judges_the_last_layer_alone_and_by_plain_l1():
    fields = {"num_queries": 3, "joint_weight": 1.0, "joint_2d_weight": 0.0, "auxiliary_loss": False}
    config = three_joints(query_alignment="fixed", **fields)
    labels = PoseLabels.from_list([{"joints_3d": torch.zeros(3, 3)}], config, CPU)
    joints = torch.zeros(2, 1, 3, 3)
    joints[0], joints[1, 0, 2, 0] = 7.0, 0.3
    loss = JointDetrLoss(config)(PosePredictions(joints, torch.zeros(2, 1, 3, 2), None), labels)
    assert loss.total.item() == pytest.approx(0.1)
    assert set(loss.terms) == {"loss_joint", "loss_joint_2d"}
    assert loss.queries is loss.matching_cost is None


def test_without_auxiliary_loss_the_last_layer_alone_is_matched_and_has_a_loss():
    labels = PoseLabels.from_list(random_labels(2), three_joints(), CPU)
    predictions = random_predictions(2)
    alone = JointDetrLoss(three_joints(auxiliary_loss=False))(predictions, labels)
    all_layers = JointDetrLoss(three_joints())(predictions, labels)
    assert set(alone.terms) == {"loss_joint", "loss_joint_2d", "loss_class"}
    for name, value in alone.terms.items():
        torch.testing.assert_close(value, all_layers.terms[name])
    assert torch.equal(alone.queries, all_layers.queries[-1].expand(2, -1, -1))  # of every layer, to look at them all
    assert torch.equal(alone.matching_cost, all_layers.matching_cost[-1:])


def test_every_group_of_queries_has_the_loss_of_a_picture_of_its_own():
    labels = random_labels(2)
    fields = {"num_queries": 10, "predict_confidence": True}
    grouped, whole = three_joints(**fields, query_groups=2), three_joints(**fields, query_groups=1)
    first, second = (random_predictions(2) for _ in range(2))
    parts = [
        torch.cat([getattr(each, name) for each in (first, second)], 2) for name in ("joints", "points", "logits")
    ]
    predictions = PosePredictions(*parts, confidence=torch.randn(2, 10, 2))
    loss = JointDetrLoss(grouped)(predictions, PoseLabels.from_list(labels, grouped, CPU))
    first.confidence, second.confidence = predictions.confidence.split(5, 1)
    apart = [JointDetrLoss(whole)(each, PoseLabels.from_list(labels, whole, CPU)) for each in (first, second)]
    for name in loss.terms:
        torch.testing.assert_close(loss.terms[name], (apart[0].terms[name] + apart[1].terms[name]) / 2)
    assert torch.equal(loss.queries, apart[0].queries)


def test_fixed_alignment_with_auxiliary_loss_is_coarse_to_fine():
    thresholds = {"coarse_thresholds": [100.0, 0.0], "coarse_discounts": [0.5, 0.1]}
    config = three_joints(query_alignment="fixed", num_queries=3, auxiliary_loss=True, **thresholds)
    labels = PoseLabels.from_list([{"joints_3d": torch.zeros(3, 3)}], config, CPU)
    joints = torch.zeros(2, 1, 3, 3)
    joints[:, 0, 1] = torch.tensor([0.03, 0.0, 0.04])  # 50 mm off, 70 mm in L1
    loss = JointDetrLoss(config)(PosePredictions(joints, torch.zeros(2, 1, 3, 2), None), labels)
    assert loss.terms["loss_joint_0"].item() == pytest.approx(0.5 * 0.07 / 3)
    assert loss.terms["loss_joint"].item() == pytest.approx(0.07 / 3)


def test_confidence_losses_by_hand():
    loss = JointDetrLoss(three_joints(predict_confidence=True))
    labels = PoseLabels.from_list(
        [
            {"joints_3d": torch.zeros(3, 3), "visible": torch.tensor([True, False, True])},
            {"joints_2d": torch.zeros(3, 2)},
        ],
        three_joints(),
        CPU,
    )
    joints = torch.tensor([0.3, 0.0, 0.4]).expand(2, 3, 3).clone().requires_grad_()  # 0.5 units off
    at_best = loss.sigma_loss(torch.full((2, 3), 0.5).log(), joints, labels)
    assert at_best.item() == pytest.approx(math.log(0.5) + 1)  # the picture without a 3D label does not count
    for expected_error in (0.4, 0.6):
        assert loss.sigma_loss(torch.full((2, 3), expected_error).log(), joints, labels) > at_best
    assert not at_best.requires_grad
    logits = torch.tensor([[0.0, -50.0, 50.0], [9.0, 9.0, 9.0]])
    assert loss.visibility_loss(logits, labels).item() == pytest.approx(math.log(2) / 3)


def test_confidence_is_that_of_the_query_that_inference_takes():
    config = three_joints(predict_confidence=True, decoder_layers=1)
    labels = PoseLabels.from_list([{"joints_3d": torch.zeros(3, 3)}], config, CPU)
    joints = torch.zeros(1, 1, 5, 3)
    joints[..., 4, :] = torch.tensor([0.3, 0.0, 0.4])  # the last query is half a unit off, but sure to be joint 0
    logits = torch.full((1, 1, 5, 4), -20.0)
    logits[0, 0, [0, 1, 2], [0, 1, 2]], logits[0, 0, 4, 0] = 1.0, 1.1
    confidence = torch.zeros(1, 5, 2)  # expecting errors of one unit
    predictions = PosePredictions(joints, torch.zeros(1, 1, 5, 2), logits, confidence)
    terms = JointDetrLoss(config)(predictions, labels).terms
    assert terms["loss_sigma"].item() == pytest.approx((0.5 + 0 + 0) / 3)


def test_labels_of_another_skeleton_are_named():
    with pytest.raises(ValueError, match=r"`joints_3d` of labels\[1\] must have shape \(3, 3\), got \(17, 3\)"):
        PoseLabels.from_list([{}, {"joints_3d": torch.zeros(17, 3)}], three_joints(), CPU)
