"""The body model: rest shape, joints, kinematics, symmetry, and Human3.6M's proportions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.synthesis.body import BODY_FILE, Body, load_body
from jointdetr.synthesis.poses import sample_skeletons
from jointdetr.synthesis.posing import rotation_about, rotation_between

MIRROR = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def rest(body: Body, people: int) -> Tensor:
    return torch.eye(3).expand(people, len(body.bone_names), 3, 3)


def random_rotations(body: Body, people: int, largest: float) -> Tensor:
    angle = (torch.rand(3, people, len(body.bone_names)) * 2 - 1) * largest
    return rotation_about("x", angle[0]) @ rotation_about("y", angle[1]) @ rotation_about("z", angle[2])


def test_the_file_has_the_promised_sizes(body: Body) -> None:
    assert body.reference.shape == (13718, 3)
    assert len(body.bone_names) == len(body.parents) == 28
    assert body.faces.dtype == torch.int64 and body.faces.max() < 13718
    assert BODY_FILE.stat().st_size < 650_000
    assert all(parent < bone for bone, parent in enumerate(body.parents))


def test_identity_rotations_give_the_mean_at_rest(body: Body) -> None:
    posed = body.pose(torch.zeros(1, 16), rest(body, 1))
    torch.testing.assert_close(posed.vertices[0], body.reference, atol=1e-6, rtol=0)
    torch.testing.assert_close(posed.bones[0], body.bone_rest, atol=1e-6, rtol=0)


def test_it_stands_upright_facing_minus_y_with_its_left_at_plus_x(body: Body) -> None:
    joints = dict(zip(HUMAN36M.joints, body.pose(torch.zeros(1, 16), rest(body, 1)).joints[0], strict=True))
    assert joints["head"][2] > joints["thorax"][2] > joints["spine"][2] > joints["pelvis"][2] > joints["left_knee"][2]
    assert joints["neck"][1] < joints["thorax"][1] - 0.05
    for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist"):
        assert joints[f"left_{name}"][0] > 0.05
        torch.testing.assert_close(joints[f"left_{name}"] * MIRROR, joints[f"right_{name}"], atol=1e-4, rtol=0)


def test_a_posed_body_is_blended_from_its_four_weights_per_vertex(body: Body) -> None:
    with np.load(BODY_FILE) as file:
        bone, weight = file["bone"].astype(int), file["weight"].astype(np.float64)
    weight /= weight.sum(axis=1, keepdims=True)
    shape, rotations = torch.randn(1, 16), random_rotations(body, 1, largest=0.8)
    posed = body.pose(shape, rotations)
    orientations, heads = body.forward_kinematics(body.rest_bones(shape), rotations)
    surface, rest_heads = body.rest_surface(shape)[0].double().numpy(), body.rest_bones(shape)[0].double().numpy()
    for vertex in (0, 881, 5038, 9999, 13717):
        expected = np.zeros(3)
        for k in range(4):
            b = bone[vertex, k]
            turned = orientations[0, b].double().numpy() @ (surface[vertex] - rest_heads[b])
            expected += weight[vertex, k] * (turned + heads[0, b].double().numpy())
        np.testing.assert_allclose(posed.vertices[0, vertex].numpy(), expected, atol=1e-5)


def test_turning_one_bone_moves_what_hangs_from_it_about_its_head(body: Body) -> None:
    rotations = rest(body, 1).clone()
    rotations[:, body.bone("lowerarm01.L")] = rotation_about("x", torch.tensor(-1.0))
    before, after = body.pose(torch.zeros(1, 16), rest(body, 1)), body.pose(torch.zeros(1, 16), rotations)
    elbow, wrist = HUMAN36M.joints.index("left_elbow"), HUMAN36M.joints.index("left_wrist")
    still = [joint for joint in range(17) if joint != wrist]
    torch.testing.assert_close(after.joints[:, still], before.joints[:, still], atol=1e-5, rtol=0)
    forearm = (before.joints[0, wrist] - before.joints[0, elbow])[..., None]
    expected = after.joints[0, elbow] + (rotation_about("x", torch.tensor(-1.0)) @ forearm)[..., 0]
    torch.testing.assert_close(after.joints[0, wrist], expected, atol=1e-5, rtol=0)


def test_turning_the_root_turns_everything(body: Body) -> None:
    shape, rotations = torch.randn(2, 16), random_rotations(body, 2, largest=0.5)
    turn = rotation_about("z", torch.tensor(2.0))
    turned = rotations.clone()
    turned[:, 0] = turn @ rotations[:, 0]
    before, after = body.pose(shape, rotations), body.pose(shape, turned)
    root = before.bones[:, :1]
    torch.testing.assert_close(after.joints - root, (before.joints - root) @ turn.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(after.vertices - root, (before.vertices - root) @ turn.T, atol=1e-5, rtol=0)


def test_joints_alone_are_those_of_the_whole_pose(body: Body) -> None:
    shape, rotations = torch.randn(5, 16), random_rotations(body, 5, largest=0.5)
    torch.testing.assert_close(body.joints(shape, rotations), body.pose(shape, rotations).joints, atol=1e-5, rtol=0)


def test_people_of_a_batch_do_not_touch_each_other(body: Body) -> None:
    shape, rotations = torch.randn(4, 16), random_rotations(body, 4, largest=0.5)
    together, alone = body.pose(shape, rotations), body.pose(shape[2:3], rotations[2:3])
    torch.testing.assert_close(together.vertices[2], alone.vertices[0], atol=1e-5, rtol=0)


def test_a_mirrored_pose_gives_the_mirrored_person(body: Body) -> None:
    rotations = random_rotations(body, 1, largest=0.5)
    other_side = [body.bone(name.translate(str.maketrans("LR", "RL"))) for name in body.bone_names]
    mirror = torch.diag(MIRROR)
    mirrored = (mirror @ rotations @ mirror)[:, other_side]
    joints, flipped = (body.pose(torch.zeros(1, 16), r).joints[0] for r in (rotations, mirrored))
    order = list(range(17))
    for one, other in HUMAN36M.flip_pairs:
        order[one], order[other] = other, one
    torch.testing.assert_close(flipped[order] * MIRROR, joints, atol=2e-3, rtol=0)


def test_nothing_tracks_gradients(body: Body) -> None:
    shape = torch.zeros(1, 16, requires_grad=True)
    assert not body.pose(shape, rest(body, 1)).vertices.requires_grad
    assert not body.joints(shape, rest(body, 1)).requires_grad


def test_rotation_between_turns_one_direction_into_the_other() -> None:
    source, target = torch.randn(50, 3), torch.randn(50, 3)
    rotation = rotation_between(source, target)
    turned = torch.nn.functional.normalize((rotation @ source[..., None])[..., 0], dim=-1)
    torch.testing.assert_close(turned, torch.nn.functional.normalize(target, dim=-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(50, 3, 3), atol=1e-4, rtol=0)


def limb_shares(joints: Tensor) -> dict[str, Tensor]:
    """Lengths of bones as shares of the leg's (batch,), both sides averaged."""

    def length(one: str, other: str) -> Tensor:
        return (joints[:, HUMAN36M.joints.index(one)] - joints[:, HUMAN36M.joints.index(other)]).norm(dim=-1)

    def both(one: str, other: str) -> Tensor:
        return sum(length(one.format(s), other.format(s)) for s in ("left", "right")) / 2

    thigh, shin = both("{}_hip", "{}_knee"), both("{}_knee", "{}_ankle")
    lengths = {
        "thigh": thigh,
        "hip": both("pelvis", "{}_hip"),
        "upper arm": both("{}_shoulder", "{}_elbow"),
        "forearm": both("{}_elbow", "{}_wrist"),
        "shoulder": both("thorax", "{}_shoulder"),
        "lower back": length("pelvis", "spine"),
        "upper back": length("spine", "thorax"),
        "neck": length("thorax", "neck"),
        "face": length("neck", "head"),
    }
    return {name: value / (thigh + shin) for name, value in lengths.items()}


def test_proportions_are_those_of_human36m(body: Body, real_data: Path) -> None:
    with np.load(real_data / "human36m" / "test_h36m_body3d.npz") as file:
        real = limb_shares(torch.from_numpy(file["S"][..., :3]).float())
    synthetic = limb_shares(sample_skeletons(body, range(400)))
    for name, share in synthetic.items():
        # Four real people, in four poses: the synthetic mean must lie among them or 1.5% of a leg beside.
        assert real[name].min() - 0.015 < share.mean() < real[name].max() + 0.015, name
        assert share.std() < 0.03, name
