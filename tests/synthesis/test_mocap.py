"""Motion capture: files read and refused, hand-made rotations, and CMU's recordings on the body."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.synthesis.body import Body, load_body
from jointdetr.synthesis.mocap import (
    LIMB_BONES,
    POINTS_AT,
    TO_BODY_AXES,
    MotionLibrary,
    read_amc,
    read_asf,
    retarget,
    skeletons_from_mocap,
    world_rotations,
)
from jointdetr.synthesis.poses import sample_people, sample_poses, sample_skeletons
from jointdetr.synthesis.rotations import rotation_about

# Bone: parent, direction at rest, channels. A figure with its arms out, in axes y up, facing +z.
FIGURE = {
    "lowerback": ("root", (0, 1, 0), "rx ry rz"),
    "upperback": ("lowerback", (0, 1, 0), ""),
    "thorax": ("upperback", (0, 1, 0), ""),
    "lowerneck": ("thorax", (0, 1, 0), ""),
    "upperneck": ("lowerneck", (0, 1, 0), ""),
    "head": ("upperneck", (0, 1, 0), ""),
}
for side, x in (("l", 1), ("r", -1)):
    FIGURE |= {
        f"{side}clavicle": ("thorax", (x, 0, 0), ""),
        f"{side}humerus": (f"{side}clavicle", (x, 0, 0), "rx ry rz"),
        f"{side}radius": (f"{side}humerus", (x, 0, 0), "ry"),
        f"{side}femur": ("root", (0, -1, 0), "rx ry rz"),
        f"{side}tibia": (f"{side}femur", (0, -1, 0), "rx"),
        f"{side}foot": (f"{side}tibia", (0, 0, 1), ""),
    }
MOTION = """:FULLY-SPECIFIED
:DEGREES
1
root 0 0 0 0 0 0
ltibia 0
lradius 0
2
root 1 2 3 0 0 0
ltibia 90
lradius -90
"""


def asf_text() -> str:
    """The figure as an ASF file."""
    bones = "".join(
        f"  begin\n  id {number}\n  name {name}\n  direction {x} {y} {z}\n  length 5\n  axis 0 0 0 XYZ\n"
        + (f"  dof {channels}\n" if channels else "")
        + "  end\n"
        for number, (name, (_, (x, y, z), channels)) in enumerate(FIGURE.items(), start=1)
    )
    hierarchy = "".join(f"    {parent} {name}\n" for name, (parent, _, _) in FIGURE.items())
    return (
        "# a figure\n:version 1.10\n:root\n  order TX TY TZ RX RY RZ\n  axis XYZ\n:bonedata\n"
        f"{bones}:hierarchy\n  begin\n{hierarchy}  end\n"
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A folder with one skeleton and one motion of two frames."""
    (tmp_path / "figure.asf").write_text(asf_text())
    (tmp_path / "bend.amc").write_text(MOTION)
    return tmp_path


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


def joint(joints: Tensor, name: str) -> Tensor:
    return joints[:, HUMAN36M.joints.index(name)]


def test_the_skeleton_is_read(recording: Path) -> None:
    skeleton = read_asf(recording / "figure.asf")
    assert skeleton.names[0] == "root" and set(skeleton.names[1:]) == set(FIGURE)
    knee = skeleton.names.index("ltibia")
    assert skeleton.names[skeleton.parents[knee]] == "lfemur"
    assert skeleton.channels[0] == ("tx", "ty", "tz", "rx", "ry", "rz") and skeleton.channels[knee] == ("rx",)
    assert skeleton.directions[knee].tolist() == [0, -1, 0]


def test_frames_are_read_and_thinned_out(recording: Path) -> None:
    motion = read_amc(recording / "bend.amc")
    assert motion["ltibia"].tolist() == [[0.0], [90.0]]
    assert motion["root"][1].tolist() == [1, 2, 3, 0, 0, 0]
    assert read_amc(recording / "bend.amc", stride=2)["ltibia"].tolist() == [[0.0]]


def test_rotations_are_about_a_bones_own_axes_and_carried_down(tmp_path: Path) -> None:
    text = asf_text().replace(
        "name ltibia\n  direction 0 -1 0\n  length 5\n  axis 0 0 0",
        "name ltibia\n  direction 0 -1 0\n  length 5\n  axis 0 0 90",
    )
    (tmp_path / "figure.asf").write_text(text)
    skeleton = read_asf(tmp_path / "figure.asf")
    motion = {"root": torch.tensor([[0, 0, 0, 10.0, 20.0, 30.0]]).double(), "ltibia": torch.tensor([[40.0]]).double()}
    turned = world_rotations(skeleton, motion)[0]
    x, y, z = (torch.deg2rad(torch.tensor(angle, dtype=torch.float64)) for angle in (10.0, 20.0, 30.0))
    root = rotation_about("z", z) @ rotation_about("y", y) @ rotation_about("x", x)
    # The bone's x axis is turned by 90 degrees about z: it lies along y.
    knee = root @ rotation_about("y", torch.deg2rad(torch.tensor(40.0, dtype=torch.float64)))
    torch.testing.assert_close(turned[skeleton.names.index("head")], root)
    torch.testing.assert_close(turned[skeleton.names.index("lfoot")], knee)


def test_limbs_point_where_the_recorded_ones_do(body: Body, recording: Path) -> None:
    rotations = retarget(body, read_asf(recording / "figure.asf"), read_amc(recording / "bend.amc"))
    heads = body.pose(torch.zeros(2, 16), rotations.float()).bones

    def direction(name: str) -> Tensor:
        part, side = name.split(".")
        along = heads[:, body.bone(f"{POINTS_AT[part]}.{side}")] - heads[:, body.bone(name)]
        return torch.nn.functional.normalize(along, dim=-1)

    down, back, left, forward = torch.tensor([[0, 0, -1], [0, 1, 0], [1, 0, 0], [0, -1, 0]]).float()
    expected = {
        "upperleg01.L": (down, down),
        "lowerleg01.L": (down, back),
        "lowerleg01.R": (down, down),
        "upperarm01.L": (left, left),
        "lowerarm01.L": (left, forward),
        "lowerarm01.R": (-left, -left),
    }
    for name, directions in expected.items():
        torch.testing.assert_close(direction(name), torch.stack(directions), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":hierarchy", ":family", "expected a section `:hierarchy`"),
        ("order TX", "sequence TX", "has no line `order`"),
        ("direction 0 1 0", "direction 0 up 0", r"figure.asf, line 10: expected 3 numbers after `direction`"),
        ("direction 0 1 0", "direction 0 nan 0", r"line 10: expected 3 numbers"),
        ("axis 0 0 0 XYZ", "axis 0 0 0 ZYX", r"line 12: expected an axis in the order XYZ, got \['ZYX'\]"),
        ("dof rx", "dof tilt", r"line 13: expected channels such as rx or ty, got \['tilt'\]"),
        ("begin\n  id 1\n", "id 1\n", r"line 8: `name` stands outside"),
        ("root lowerback", "root tail", "`tail` is not a bone"),
        ("root lowerback", "lfemur lowerback", "`lfemur` has children but no parent yet"),
    ],
)
def test_broken_skeletons_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in asf_text()
    (tmp_path / "figure.asf").write_text(asf_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_asf(tmp_path / "figure.asf")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":DEGREES", ":RADIANS", r"bend.amc, line 2: expected angles in degrees"),
        ("ltibia 90", "ltibia bent", r"line 9: expected 1 numbers after `ltibia`, got \['bent'\]"),
        ("ltibia 90\n", "", r"line 9: the frame that ends here .* different are \['ltibia'\]"),
        ("ltibia 90", "ltibia 90 1", r"the frame that ends here .* different are \['ltibia'\]"),
        ("1\nroot", "root", r"line 3: expected a frame's number before `root`"),
        (MOTION, ":DEGREES\n", "expected at least one frame, found none"),
    ],
)
def test_broken_motions_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MOTION
    (tmp_path / "bend.amc").write_text(MOTION.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_amc(tmp_path / "bend.amc")


def test_a_motion_of_another_skeleton_is_refused(body: Body, recording: Path) -> None:
    skeleton, motion = read_asf(recording / "figure.asf"), read_amc(recording / "bend.amc")
    with pytest.raises(ValueError, match=r"unknown bones \['tail'\]"):
        world_rotations(skeleton, motion | {"tail": torch.zeros(2, 1)})
    with pytest.raises(ValueError, match="`ltibia` must have the channels"):
        world_rotations(skeleton, motion | {"ltibia": torch.zeros(2, 3)})
    skeleton.names[skeleton.names.index("head")] = "skull"
    with pytest.raises(ValueError, match=r"missing are \['head'\]"):
        retarget(body, skeleton, motion)


def test_a_folder_must_hold_recordings(body: Body, recording: Path, tmp_path: Path) -> None:
    assert len(MotionLibrary(body, recording, stride=1)) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="found none"):
        MotionLibrary(body, tmp_path / "empty")
    (recording / "other.asf").write_text(asf_text())
    with pytest.raises(ValueError, match=r"must hold one \*.asf file"):
        MotionLibrary(body, recording)


def test_people_take_their_poses_from_motions(body: Body, recording: Path) -> None:
    library = MotionLibrary(body, recording, stride=1)
    poses = sample_poses(body, range(60), motions=library, motion_share=0.5)
    plain = sample_poses(body, range(60))
    recorded = torch.tensor([activity == "motion bend" for activity in poses.activity])
    assert 15 < recorded.sum() < 45
    torch.testing.assert_close(poses.rotations[~recorded], plain.rotations[~recorded])
    torch.testing.assert_close(poses.shape, plain.shape)
    people = sample_people(body, range(8), motions=library, motion_share=1.0)
    assert people.activity == ["motion bend"] * 8
    again = sample_people(body, [5], motions=library, motion_share=1.0)
    torch.testing.assert_close(again.vertices[0], people.vertices[5], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def cmu(body: Body, real_data: Path) -> MotionLibrary:
    """Walking, running, punching: subject 2 of the CMU data base."""
    return MotionLibrary(body, real_data / "cmu-mocap" / "subjects" / "02", stride=60)


def test_cmu_recordings_become_people(body: Body, cmu: MotionLibrary) -> None:
    skeletons = skeletons_from_mocap(body, cmu)
    assert skeletons.shape == (len(cmu), 17, 3) and skeletons.isfinite().all()
    walking = skeletons[cmu.clip_of_frame == cmu.clips.index("02_01")]
    head, foot = joint(walking, "head"), torch.minimum(joint(walking, "left_ankle"), joint(walking, "right_ankle"))
    assert (head[:, 2] > 550).all() and (foot[:, 2] < -700).all()
    # Thigh and shin of a walker never fold forward, seen along the way the hips face.
    across = joint(walking, "left_hip") - joint(walking, "right_hip")
    forward = torch.stack([across[:, 1], -across[:, 0]], dim=-1) / across[:, :2].norm(dim=-1, keepdim=True)
    for name in ("left", "right"):
        thigh = (joint(walking, f"{name}_knee") - joint(walking, f"{name}_hip"))[:, :2]
        shin = (joint(walking, f"{name}_ankle") - joint(walking, f"{name}_knee"))[:, :2]
        assert ((thigh - shin) * forward).sum(-1).min() > -60


def test_cmu_limbs_keep_their_direction(body: Body, real_data: Path) -> None:
    folder = real_data / "cmu-mocap" / "subjects" / "02"
    skeleton, motion = read_asf(folder / "02.asf"), read_amc(folder / "02_05.amc", stride=200)
    rotations = retarget(body, skeleton, motion)
    heads = body.pose(torch.zeros(len(rotations), 16), rotations.float()).bones
    recorded = world_rotations(skeleton, motion)
    for name, part in LIMB_BONES.items():
        if part not in POINTS_AT:
            continue
        bone = skeleton.names.index(f"r{name}")
        expected = (TO_BODY_AXES @ recorded[:, bone] @ skeleton.directions[bone][:, None])[..., 0].float()
        found = heads[:, body.bone(f"{POINTS_AT[part]}.R")] - heads[:, body.bone(f"{part}.R")]
        torch.testing.assert_close(torch.nn.functional.normalize(found, dim=-1), expected, atol=1e-3, rtol=0)


def test_cmu_people_are_drawn(body: Body, cmu: MotionLibrary) -> None:
    skeletons = sample_skeletons(body, range(40), motions=cmu, motion_share=1.0)
    assert skeletons.isfinite().all()
    poses = sample_poses(body, range(40), motions=cmu, motion_share=1.0)
    assert len(set(poses.activity)) > 3 and all(activity.startswith("motion 02_") for activity in poses.activity)
