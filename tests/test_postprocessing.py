"""Queries become skeletons, and these people in the picture and before the camera: exactly, if the net is right."""

import numpy as np
import pytest
import torch

from jointdetr import JointDetrImageProcessorPil
from jointdetr.camera_jointdetr import Camera, Distortion, apply_affine, project
from jointdetr.configuration_jointdetr import JointRefinerConfig
from jointdetr.modeling_jointdetr import JointDetrPoseEstimationOutput
from jointdetr.postprocessing_jointdetr import assemble_poses
from jointdetr.refinement_jointdetr import JointRefiner

INTRINSICS = np.array([[500.0, 0.0, 100.0], [0.0, 510.0, 80.0], [0.0, 0.0, 1.0]])
PLACE = np.array([[0.0, -1.0, 0.0, 100.0], [0.0, 0.0, -1.0, 1500.0], [1.0, 0.0, 0.0, 3000.0]])
LENSES = [None, Distortion("brown", (-0.2, 0.05, 0.001, 0.0)), Distortion("fisheye", (0.02, -0.01, 0.0, 0.0))]
SIZE = (64, 48)
BOX = (60.0, 40.0, 80.0, 90.0)


def make_person() -> tuple[torch.Tensor, torch.Tensor]:
    """Root-relative joints, and the same in camera space, mm."""
    joints = torch.randn(17, 3, dtype=torch.float64) * 250
    joints -= joints[:1].clone()
    return joints, joints + torch.tensor([50.0, 30.0, 3500.0])


def place(joints, points, cameras, missing=(), **others) -> dict[str, torch.Tensor]:
    """Post-process what a network says that sees the joints at these points of the picture, (joints, 2) px."""
    processor = JointDetrImageProcessorPil(size={"height": SIZE[0], "width": SIZE[1]})
    inputs = processor(np.zeros((160, 200, 3), np.uint8), boxes=[BOX], return_tensors="pt")
    in_crop = apply_affine(points.double(), inputs["crop_affine"][0].double()) / torch.tensor([SIZE[1], SIZE[0]])
    logits = torch.full((1, 17, 18), -20.0)
    for joint in range(17):
        logits[:, joint, 17 if joint in missing else joint] = 0.0
    outputs = JointDetrPoseEstimationOutput(
        logits=logits, pred_joints=joints[None].float(), pred_points=in_crop[None].float(), **others
    )
    ((person,),) = processor.post_process_pose_estimation(outputs, inputs, cameras=cameras)
    return person


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens.model if lens else "ideal")
def test_the_place_is_exact_through_any_lens(lens):
    joints, joints_camera = make_person()
    camera = Camera(INTRINSICS, lens, PLACE)
    points = camera.distort(project(joints_camera, torch.from_numpy(INTRINSICS)))
    person = place(joints, points, [camera])
    torch.testing.assert_close(person["joints_camera"], joints_camera.float(), atol=0.1, rtol=0)
    torch.testing.assert_close(person["joints_2d"], points.float(), atol=1e-3, rtol=0)  # where the picture shows them
    assert person["residual_px"] < 1e-3
    assert not person["intrinsics_guessed"]
    world = torch.from_numpy(PLACE)
    back = person["joints_world"].double() @ world[:, :3].T + world[:, 3]
    torch.testing.assert_close(back, person["joints_camera"].double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(person["box"], torch.tensor(BOX))


def test_a_lens_left_out_shows_in_place_and_residual():
    joints, joints_camera = make_person()
    points = Camera(INTRINSICS, "brown:-0.9,0.4,0,0").distort(project(joints_camera, torch.from_numpy(INTRINSICS)))
    person = place(joints, points, [Camera(INTRINSICS)])
    assert (person["joints_camera"][0] - joints_camera[0]).norm() > 10
    assert person["residual_px"] > 0.5


def test_the_residual_is_in_pixels_of_the_picture():
    joints, joints_camera = make_person()
    points = project(joints_camera, torch.from_numpy(INTRINSICS)) + torch.randn(17, 2) * 2
    person = place(joints, points, [Camera(INTRINSICS)])
    seen = project(person["joints_camera"].double(), torch.from_numpy(INTRINSICS))
    expected = (seen - points).square().sum(-1).mean().sqrt()
    assert person["residual_px"].item() == pytest.approx(expected.item(), abs=1e-2)
    assert 1 < expected < 4


def test_outliers_do_not_move_a_person():
    joints, joints_camera = make_person()
    points = project(joints_camera, torch.from_numpy(INTRINSICS))
    points[[3, 16]] += torch.tensor([[40.0, -25.0], [-30.0, 30.0]])
    assert (place(joints, points, [Camera(INTRINSICS)])["joints_camera"][0] - joints_camera[0]).norm() < 15


def test_hidden_is_told_from_outside_the_picture():
    joints, joints_camera = make_person()
    joints_camera[:, 1] += 100
    points = project(joints_camera, torch.from_numpy(INTRINSICS))
    points[5] = torch.tensor([100.0, 161.0])  # seen in the crop, below the picture
    person = place(joints, points, [None])
    expected = ((points >= 0) & (points <= torch.tensor([200, 160]))).all(dim=-1)
    assert person["inside"].tolist() == expected.tolist()
    assert not person["inside"][5]
    assert "joints_camera" not in person and "intrinsics_guessed" not in person


@pytest.mark.parametrize("cameras", [[Camera(INTRINSICS)], [None]], ids=["known", "guessed"])
def test_missing_joints_are_seen_where_their_guess_is(cameras, monkeypatch):
    joints = torch.tensor([[x * 40.0, y * 150.0, 5.0 * x] for x in range(-2, 3) for y in range(-2, 2)][:17]).double()
    camera = Camera.from_field_of_view(60, (200, 160)) if cameras[0] is None else cameras[0]
    matrix = torch.from_numpy(camera.intrinsics)
    points = project(joints + torch.tensor([0.0, 0.0, 1500.0]), matrix)
    from jointdetr import image_processing_jointdetr as module

    def assemble(outputs, threshold, refiner):
        poses = original(outputs, threshold, refiner)
        poses.joints = joints[None].float() * 1.0
        poses.joints[0, 4] = torch.tensor([0.0, 2500.0, 0.0])  # the refiner's guess: far below the picture
        poses.joints[0, 7] = joints[7].float()
        return poses

    original = module.assemble_poses
    monkeypatch.setattr(module, "assemble_poses", assemble)
    person = place(joints, points, cameras, missing=(4, 7))
    assert person["detected"].tolist() == [joint not in (4, 7) for joint in range(17)]
    assert (person["inside"][4].item(), person["inside"][7].item()) == (False, True)
    torch.testing.assert_close(person["joints_2d"][7], points[7].float(), atol=2.0, rtol=0)  # as the guess is right
    assert person["joints_2d"][4, 1] > 160  # below the picture


def test_what_a_confidence_head_says_is_passed_on():
    joints, joints_camera = make_person()
    points = project(joints_camera, torch.from_numpy(INTRINSICS))
    sigmas, visibility = torch.rand(1, 17) * 50, torch.rand(1, 17)
    person = place(joints, points, [None], missing=(2,), pred_sigmas=sigmas, pred_visibility=visibility)
    seen = [joint for joint in range(17) if joint != 2]
    torch.testing.assert_close(person["sigmas"][seen], sigmas[0, seen])
    torch.testing.assert_close(person["visible"][seen], visibility[0, seen])
    assert person["sigmas"][2].isnan() and person["visible"][2].isnan()
    assert not {"sigmas", "visible"} & place(joints, points, [None]).keys()


def test_one_camera_is_wanted_for_each_picture():
    joints, joints_camera = make_person()
    with pytest.raises(ValueError, match="`cameras` must have one entry for each of the 1 pictures, got 2"):
        place(joints, project(joints_camera, torch.from_numpy(INTRINSICS)), [None, None])


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


def test_scores_are_the_chances_of_a_hit_and_what_is_too_unsure_is_a_guess_that_keeps_its_place():
    outputs = outputs_of([[0.9, 0.05, 0.03, 0.02], [0.02, 0.9, 0.05, 0.03], [0.02, 0.05, 0.9, 0.03]])
    plain = assemble_poses(outputs)
    assert plain.scores[0].tolist() == pytest.approx([0.9, 0.9, 0.9]) and plain.detected.all()
    outputs.pred_sigmas = torch.tensor([[0.0, 200.0, 400.0]])  # sure; as likely as not; 1 of 1 + 2^3
    poses = assemble_poses(outputs)
    assert poses.scores[0].tolist() == pytest.approx([0.9, 0.45, 0.1])
    assert poses.detected[0].tolist() == [True, False, False]
    assert torch.equal(poses.joints, plain.joints) and torch.equal(poses.points, plain.points)
    assert torch.equal(poses.sigmas, outputs.pred_sigmas)
    refiner = JointRefiner(JointRefinerConfig(**CHAIN)).eval()  # untrained: a missing one goes to the midpoint
    assert torch.equal(assemble_poses(outputs, refiner=refiner).joints, plain.joints)
    outputs.pred_sigmas[0, 0] = torch.nan
    assert assemble_poses(outputs).scores[0, 0] == 0
    assert assemble_poses(outputs, threshold=0.4).detected[0].tolist() == [False, True, False]


def test_fixed_alignment_takes_queries_as_they_are():
    outputs = JointDetrPoseEstimationOutput(pred_joints=torch.randn(2, 3, 3), pred_points=torch.rand(2, 3, 2))
    poses = assemble_poses(outputs)
    assert torch.equal(poses.joints, outputs.pred_joints) and poses.detected.all() and (poses.scores == 1).all()


@pytest.mark.parametrize("keywords", [{"threshold": 1.5}, {"assignment": "greedy"}])
def test_bad_arguments_are_named(keywords):
    with pytest.raises(ValueError, match=f"`{next(iter(keywords))}` must be .*{next(iter(keywords.values()))}"):
        assemble_poses(TWO_WANT_QUERY_0, **keywords)
