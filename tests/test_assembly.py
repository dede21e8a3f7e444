import pytest
import torch

from jointdetr.assembly_jointdetr import assemble_poses
from jointdetr.configuration_jointdetr import JointRefinerConfig
from jointdetr.modeling_jointdetr import JointDetrPoseEstimationOutput
from jointdetr.refinement_jointdetr import JointRefiner

CHAIN = {"id2label": {0: "hip", 1: "knee", 2: "ankle"}, "joint_parents": [-1, 0, 1]}


def outputs_of(probabilities: list[list[float]]) -> JointDetrPoseEstimationOutput:
    """One picture whose queries have the given class probabilities; query q lies at (q, q, q) mm and (q, q)."""
    logits = torch.tensor(probabilities).log()[None]
    places = torch.arange(len(probabilities), dtype=torch.float32)[None, :, None]
    return JointDetrPoseEstimationOutput(
        logits=logits, pred_joints=places.expand(-1, -1, 3), pred_points=places.expand(-1, -1, 2)
    )


TWO_WANT_QUERY_0 = outputs_of([[0.6, 0.3, 0.05, 0.05], [0.55, 0.05, 0.1, 0.3], [0.01, 0.01, 0.9, 0.08]])


# means of 0, 1 and 2, weighted by the squares of each column
AVERAGES = [
    (0.55**2 + 2 * 0.01**2) / (0.6**2 + 0.55**2 + 0.01**2),
    (0.05**2 + 2 * 0.01**2) / (0.3**2 + 0.05**2 + 0.01**2),
    (0.1**2 + 2 * 0.9**2) / (0.05**2 + 0.1**2 + 0.9**2),
]


def test_each_joint_gets_a_query_of_its_own():
    poses = assemble_poses(TWO_WANT_QUERY_0, threshold=0.1)
    assert poses.scores[0].tolist() == pytest.approx([0.55, 0.3, 0.9])  # 0.55 + 0.3 beats 0.6 + 0.05
    assert poses.detected.all()


def test_argmax_may_use_a_query_twice():
    poses = assemble_poses(TWO_WANT_QUERY_0, threshold=0.1, assignment="argmax")
    assert poses.scores[0].tolist() == pytest.approx([0.6, 0.3, 0.9])


def test_positions_are_means_of_all_queries_by_their_squared_probabilities():
    for assignment in ("hungarian", "argmax"):
        poses = assemble_poses(TWO_WANT_QUERY_0, threshold=0.1, assignment=assignment)
        assert poses.joints[0, :, 0].tolist() == pytest.approx(AVERAGES)
        assert poses.points[0, :, 1].tolist() == pytest.approx(AVERAGES)
    sure = outputs_of([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    assert assemble_poses(sure).joints[0, :, 0].tolist() == [1.0, 0.0, 2.0]


def test_joints_below_the_threshold_are_missing_and_never_zero():
    poses = assemble_poses(TWO_WANT_QUERY_0, threshold=0.5)
    assert poses.detected[0].tolist() == [True, False, True]
    assert poses.joints[0, 1].isnan().all() and poses.points[0, 1].isnan().all()


def test_the_refiner_fills_what_is_missing():
    refiner = JointRefiner(JointRefinerConfig(**CHAIN)).eval()  # untrained, so it puts the midpoint
    poses = assemble_poses(TWO_WANT_QUERY_0, threshold=0.5, refiner=refiner)
    assert poses.joints[0, :, 0].tolist() == pytest.approx([AVERAGES[0], (AVERAGES[0] + AVERAGES[2]) / 2, AVERAGES[2]])
    assert not poses.detected[0, 1] and poses.points[0, 1].isnan().all()


def test_the_refiner_is_told_what_the_model_expects_of_its_joints():
    refiner = JointRefiner(JointRefinerConfig(**CHAIN, use_sigmas=True, unknown_sigma=70.0)).eval()
    torch.nn.init.ones_(refiner.output_projection.bias)  # every joint moves by its own expected error
    outputs = outputs_of([[0.6, 0.3, 0.05, 0.05], [0.55, 0.05, 0.1, 0.3], [0.01, 0.01, 0.9, 0.08]])
    outputs.pred_sigmas = torch.tensor([[10.0, 20.0, 30.0]])
    midpoint = (AVERAGES[0] + AVERAGES[2]) / 2
    poses = assemble_poses(outputs, threshold=0.5, refiner=refiner)
    assert poses.joints[0, :, 0].tolist() == pytest.approx([AVERAGES[0] + 20, midpoint + 70, AVERAGES[2] + 30])
    assert poses.sigmas[0, 1].isnan()
    outputs.pred_sigmas = None  # a model without a confidence head
    poses = assemble_poses(outputs, threshold=0.5, refiner=refiner)
    assert poses.joints[0, :, 0].tolist() == pytest.approx([AVERAGES[0] + 70, midpoint + 70, AVERAGES[2] + 70])


def test_a_prediction_that_is_not_finite_is_missing():
    outputs = outputs_of([[0.9, 0.05, 0.03, 0.02], [0.02, 0.9, 0.05, 0.03], [0.02, 0.05, 0.9, 0.03]])
    outputs.pred_joints = outputs.pred_joints.clone()
    outputs.pred_joints[0, 1] = torch.inf
    poses = assemble_poses(outputs)
    assert poses.detected[0].tolist() == [True, False, True]
    # the others' means leave it out
    assert poses.joints[0, 0, 0].item() == pytest.approx(2 * 0.02**2 / (0.9**2 + 0.02**2))
    assert poses.joints[0, 1].isnan().all()


def test_confidence_goes_with_the_query_and_is_unknown_where_the_joint_is_missing():
    outputs = outputs_of([[0.6, 0.3, 0.05, 0.05], [0.55, 0.05, 0.1, 0.3], [0.01, 0.01, 0.9, 0.08]])
    outputs.pred_sigmas = torch.tensor([[10.0, 20.0, 30.0]])
    outputs.pred_visibility = torch.tensor([[0.1, 0.2, 0.3]])
    poses = assemble_poses(outputs, threshold=0.5)
    assert poses.detected.tolist() == [[True, False, True]]
    assert poses.sigmas[0, [0, 2]].tolist() == [20.0, 30.0] and poses.sigmas[0, 1].isnan()
    assert poses.visible[0, [0, 2]].tolist() == pytest.approx([0.2, 0.3]) and poses.visible[0, 1].isnan()


def test_fixed_alignment_takes_queries_as_they_are():
    outputs = JointDetrPoseEstimationOutput(pred_joints=torch.randn(2, 3, 3), pred_points=torch.rand(2, 3, 2))
    poses = assemble_poses(outputs)
    assert torch.equal(poses.joints, outputs.pred_joints) and poses.detected.all() and (poses.scores == 1).all()


@pytest.mark.parametrize("keywords", [{"threshold": 1.5}, {"assignment": "greedy"}])
def test_bad_arguments_are_named(keywords):
    with pytest.raises(ValueError, match=f"`{next(iter(keywords))}` must be .*{next(iter(keywords.values()))}"):
        assemble_poses(TWO_WANT_QUERY_0, **keywords)
