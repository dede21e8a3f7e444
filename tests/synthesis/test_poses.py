"""Sampled people: the same for the same seed, inside joint limits, apart from themselves, on the ground."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.synthesis.body import Body, CapsuleModel, load_body, segment_distance
from jointdetr.synthesis.gestures import GESTURES
from jointdetr.synthesis.poses import (
    ALLOWED_PENETRATION_M,
    PRESETS,
    Activity,
    draw_limbs,
    sample_people,
    sample_poses,
    sample_skeletons,
)
from jointdetr.synthesis.postures import ANKLE_LIMIT, HIP_LIMIT, KNEE_LIMIT, POSTURES, Draws

PRESET_NAMES = sorted(PRESETS)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def turned_home(body: Body, seeds: range, preset: str) -> tuple[Tensor, Tensor, Tensor]:
    """World orientations and heads of all bones, and the rest heads, of sampled people: float64."""
    poses = sample_poses(body, seeds, preset)
    rest = body.rest_bones(poses.shape)
    return *body.forward_kinematics(rest, poses.rotations), rest


def fold_angle(body: Body, seeds: range, preset: str, bones: tuple[str, str, str]) -> tuple[Tensor, Tensor]:
    """Angle of a hinge in degrees, and how far the lower limb points against the hinge's way (below 0: backward).

    The upper bone carries the hinge: the axis about which the limb folds, x of a limb that hangs straight.
    """
    orientations, heads, rest = turned_home(body, seeds, preset)
    upper, lower, end = (body.bone(name) for name in bones)
    limb = torch.nn.functional.normalize(heads[:, lower] - heads[:, upper], dim=-1)
    following = torch.nn.functional.normalize(heads[:, end] - heads[:, lower], dim=-1)
    angle = torch.rad2deg(torch.acos((limb * following).sum(-1).clamp(-1, 1)))
    # The rest pose folds neither knee nor elbow backward: its own y axis, carried along, is the back of the limb.
    back = orientations[:, upper] @ torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    return angle, (following * (back - (back * limb).sum(-1, keepdim=True) * limb)).sum(-1)


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_a_person_depends_on_its_seed_alone(body: Body, preset: str) -> None:
    together = sample_people(body, range(24), preset)
    for seed in (0, 7, 23):
        alone = sample_people(body, [seed], preset)
        torch.testing.assert_close(alone.vertices[0], together.vertices[seed], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.joints[0], together.joints[seed], atol=1e-5, rtol=0)
        assert alone.activity[0] == together.activity[seed]
    backward = sample_people(body, range(23, -1, -1), preset)
    torch.testing.assert_close(backward.joints.flip(0), together.joints, atol=1e-5, rtol=0)


def test_different_seeds_are_different_people(body: Body) -> None:
    skeletons = sample_skeletons(body, range(50))
    distances = torch.cdist(skeletons.flatten(1), skeletons.flatten(1)) + 1e9 * torch.eye(50)
    assert distances.min() > 100


def test_the_global_random_state_is_left_alone(body: Body) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    sample_people(body, [1, 2])
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_people_are_on_the_ground_near_the_origin(body: Body, preset: str) -> None:
    people = sample_people(body, range(40), preset)
    lowest = people.vertices[..., 2].amin(dim=1)
    jumps = torch.tensor([activity.startswith("jumping") for activity in people.activity])
    torch.testing.assert_close(lowest[~jumps], torch.zeros((~jumps).sum()), atol=1e-5, rtol=0)
    assert (lowest[jumps] > 0.04).all() and jumps.any() == (preset == "everything")
    assert people.joints[:, 0, :2].abs().max() < 1e-5
    assert people.vertices[..., :2].abs().max() < 1.6
    assert not people.vertices.requires_grad


def test_everyday_people_are_adults_and_mostly_upright(body: Body) -> None:
    people = sample_people(body, range(100))
    height = people.joints[:, HUMAN36M.joints.index("head"), 2] - people.joints[:, HUMAN36M.joints.index("pelvis"), 2]
    assert (height > 0.45).float().mean() > 0.9
    upright = [activity.split(",")[0] in ("standing", "walking", "leaning") for activity in people.activity]
    assert 0.5 < sum(upright) / len(upright) < 0.85
    standing = torch.tensor([activity.startswith("standing") for activity in people.activity])
    # The forehead joint of an adult of 1.45 m is at about 1.3 m.
    assert people.joints[standing, HUMAN36M.joints.index("head"), 2].min() > 1.2


def test_headings_are_uniform_and_the_sides_alike(body: Body) -> None:
    skeletons = sample_skeletons(body, range(2000))
    across = skeletons[:, HUMAN36M.joints.index("left_hip")] - skeletons[:, HUMAN36M.joints.index("right_hip")]
    quadrant = torch.histc(torch.atan2(across[:, 1], across[:, 0]), bins=4, min=-torch.pi, max=torch.pi)
    assert quadrant.min() > 420
    height = skeletons[..., 2].mean(dim=0)
    for one, other in HUMAN36M.flip_pairs:
        assert abs(height[one] - height[other]) < 25


@pytest.mark.parametrize("preset", PRESET_NAMES)
@pytest.mark.parametrize("side", "LR")
def test_knees_and_elbows_fold_one_way_and_not_too_far(body: Body, preset: str, side: str) -> None:
    seeds = range(400)
    knee, backward = fold_angle(body, seeds, preset, (f"upperleg01.{side}", f"lowerleg01.{side}", f"foot.{side}"))
    assert knee.max() < KNEE_LIMIT[1] + 0.1
    assert (backward[knee > 20] > 0).all()
    assert knee[backward < 0].numel() == 0 or knee[backward < 0].max() < 12  # straight, to within the bone's own slant
    elbow, behind = fold_angle(body, seeds, preset, (f"upperarm01.{side}", f"lowerarm01.{side}", f"wrist.{side}"))
    assert elbow.max() < 145.1
    assert (behind[elbow > 30] < 0).all()


def test_arms_vary(body: Body) -> None:
    poses = sample_poses(body, range(600))
    upright = poses.rotations.clone()
    upright[:, 0] = torch.eye(3, dtype=torch.float64)
    joints = body.joints(poses.shape.float(), upright.float())
    wrist = joints[:, HUMAN36M.joints.index("left_wrist")] - joints[:, HUMAN36M.joints.index("left_shoulder")]
    assert (wrist.std(dim=0) > 0.12).all()
    assert (wrist[:, 2] > 0).float().mean() > 0.12  # raised above the shoulder


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_people_hardly_run_into_themselves(body: Body, preset: str) -> None:
    poses = sample_poses(body, range(600), preset)
    assert (poses.penetration <= ALLOWED_PENETRATION_M).float().mean() > 0.97
    assert poses.penetration.max() < 0.06


def test_a_hand_in_the_belly_is_noticed(body: Body) -> None:
    capsules = CapsuleModel(body)
    shape = torch.zeros(1, 16, dtype=torch.float64)
    rest = body.rest_bones(shape)
    identity = torch.eye(3, dtype=torch.float64).expand(1, 28, 3, 3)
    assert capsules.penetration(shape, rest, identity, rest) < 0.01
    heads = rest.clone()
    heads[:, body.bone("wrist.L")] = rest[:, body.bone("spine04")] - torch.tensor([0.0, 0.12, 0.0]).double()
    assert capsules.penetration(shape, rest, identity, heads) > 0.05


def test_segment_distance_agrees_with_a_dense_search() -> None:
    segments = torch.rand(40, 2, 2, 3, dtype=torch.float64)
    along = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
    for one, other in segments:
        points, others = (torch.lerp(segment[0], segment[1], along) for segment in (one, other))
        assert abs(torch.cdist(points, others).min() - segment_distance(one, other)) < 1e-2
    parallel = torch.tensor([[[0.0, 0, 0], [1, 0, 0]], [[0.5, 2, 0], [3, 2, 0]]], dtype=torch.float64)
    assert segment_distance(parallel[0], parallel[1]) == 2
    point = torch.zeros(2, 3, dtype=torch.float64)
    assert segment_distance(point, parallel[1]) == pytest.approx(4.25**0.5)


@pytest.mark.parametrize("posture", POSTURES)
def test_every_posture_keeps_the_limits_of_the_legs(posture: str) -> None:
    draws = Draws.from_seeds(range(200), [1])
    angles, _ = draw_limbs(draws, [Activity(posture, "arms hanging", "arms hanging", 1.0)] * 200)
    for field in fields(angles):
        assert getattr(angles, field.name).isfinite().all(), field.name
    for angle, (low, high) in (
        (angles.hip_flexion, HIP_LIMIT),
        (angles.knee_flexion, KNEE_LIMIT),
        (angles.ankle_flexion, ANKLE_LIMIT),
    ):
        assert angle.min() >= low and angle.max() <= high


def test_everything_a_preset_names_exists() -> None:
    for preset in PRESETS.values():
        for activity in preset.activities:
            assert activity.posture in POSTURES
            assert {activity.gesture, activity.idle} <= set(GESTURES)
        assert sum(activity.weight for activity in preset.activities) == pytest.approx(1.0)


def test_hands_go_where_their_gesture_says(body: Body) -> None:
    poses = sample_poses(body, range(1500))
    joints = body.joints(poses.shape.float(), poses.rotations.float())
    wrists = joints[:, [HUMAN36M.joints.index("left_wrist"), HUMAN36M.joints.index("right_wrist")]]

    def wrist_distances(gesture: str, joint: str) -> Tensor:
        people = torch.tensor([activity.endswith(f", {gesture}") for activity in poses.activity])
        assert people.sum() > 10
        place = joints[people, HUMAN36M.joints.index(joint)][:, None]
        return (wrists[people] - place).norm(dim=-1)

    assert wrist_distances("phoning", "head").amin(dim=1).max() < 0.35
    assert wrist_distances("eating", "neck").amin(dim=1).max() < 0.35
    assert wrist_distances("hands on hips", "pelvis").amin(dim=1).max() < 0.35
    assert wrist_distances("reaching", "thorax").amax(dim=1).min() > 0.35
    seated = torch.tensor([activity == "sitting, hands on thighs" for activity in poses.activity])
    knees = joints[seated][:, [HUMAN36M.joints.index("left_knee"), HUMAN36M.joints.index("right_knee")]]
    hips = joints[seated][:, [HUMAN36M.joints.index("left_hip"), HUMAN36M.joints.index("right_hip")]]
    assert (wrists[seated] - (knees + hips) / 2).norm(dim=-1).amin(dim=1).max() < 0.3


def test_sitting_is_at_the_height_of_a_chair(body: Body) -> None:
    people = sample_people(body, range(120))
    seated = torch.tensor([activity.startswith("sitting,") for activity in people.activity])
    height = people.joints[seated, 0, 2]
    assert 0.45 < height.mean() < 0.65
    assert height.min() > 0.3 and height.max() < 0.8


def test_skeletons_are_the_joints_of_people_in_millimetres(body: Body) -> None:
    people = sample_people(body, range(10), "everything")
    skeletons = sample_skeletons(body, range(10), "everything")
    torch.testing.assert_close(skeletons, 1000 * (people.joints - people.joints[:, :1]), atol=0.05, rtol=0)


def test_bad_requests_are_refused(body: Body) -> None:
    with pytest.raises(ValueError, match="`preset` must be one of"):
        sample_people(body, [0], "sometimes")
    with pytest.raises(ValueError, match="`seeds` must be one or more"):
        sample_people(body, [])
    with pytest.raises(ValueError, match="`seeds` must be one or more"):
        sample_people(body, [3, -1])
