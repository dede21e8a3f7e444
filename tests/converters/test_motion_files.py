"""BVH and Acclaim files: positions against hand answers, names, units, axes, files that are refused, CMU's files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from bvh_examples import BENT, REST, hierarchy, write_bvh_file

from jointdetr.converters.conversion import convert
from jointdetr.converters.motion_files import AsfAmc, Bvh, bvh_skeleton, guess_unit_mm
from jointdetr.data.rows import knee_bend
from jointdetr.data.skeleton_mapping import map_row, map_skeleton
from jointdetr.formats.acclaim import bone_ends_mm, read_amc, read_asf
from jointdetr.formats.bvh import read_bvh
from jointdetr.skeleton_jointdetr import CMU_MOCAP, HUMAN36M


def test_forward_kinematics_gives_what_a_hand_gives(tmp_path):
    motion = read_bvh(write_bvh_file(tmp_path / "a.bvh", [REST, BENT, {"Hips": (0, 0, 0, 90, 0, 0)}]))
    positions = motion.positions()
    at = {name: positions[:, joint] for joint, name in enumerate(motion.names)}
    np.testing.assert_allclose(at["LeftFoot"][0], (10, -85, 0))
    # The thigh forward, the shin down; the root 1, 2, 3 away.
    np.testing.assert_allclose(at["LeftLeg"][1], (11, -3, 43), atol=1e-12)
    np.testing.assert_allclose(at["LeftFoot"][1], (11, -43, 43), atol=1e-12)
    np.testing.assert_allclose(at["LeftFoot_end"][1], (11, -48, 58), atol=1e-12)
    np.testing.assert_allclose(at["RightFoot"][1], (-9, -83, 3), atol=1e-12)
    # A quarter turn about z, from x to y.
    np.testing.assert_allclose(at["LeftFoot"][2], (85, 10, 0), atol=1e-12)
    assert motion.frame_time_s == 0.1
    np.testing.assert_array_equal(motion.positions(step=2), positions[::2])


def test_rotations_apply_in_the_order_of_the_file(tmp_path):
    text = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 3 {}\nEnd Site\n{\nOFFSET 0 0 1\n}\n}\n"
    ends = {}
    for order in ("Xrotation Yrotation Zrotation", "Yrotation Xrotation Zrotation"):
        path = tmp_path / "a.bvh"
        path.write_text(text.replace("{}", order) + "MOTION\nFrames: 1\nFrame Time: 1\n90 90 0\n")
        ends[order[0]] = read_bvh(path).positions()[0, 1]
    np.testing.assert_allclose(ends["X"], (1, 0, 0), atol=1e-12)  # about y to x, then about x: stays
    np.testing.assert_allclose(ends["Y"], (0, -1, 0), atol=1e-12)  # about x to -y, then about y: stays


def test_well_known_names_become_those_of_the_package(tmp_path):
    skeleton = bvh_skeleton(read_bvh(write_bvh_file(tmp_path / "a.bvh", [REST])))
    assert skeleton.joints[:5] == ("Hips", "left_hip", "left_knee", "left_ankle", "LeftFoot_end")
    assert {"left_collar", "left_shoulder", "left_elbow", "skull_base", "head_top"} <= set(skeleton.joints)
    assert len(skeleton.flip_pairs) == 8
    for left, right in skeleton.flip_pairs:
        assert skeleton.joints[left].lower().replace("left", "right") == skeleton.joints[right].lower()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["mixamorig:LeftUpLeg", "mixamorig:RightArm"], ["left_hip", "right_shoulder"]),
        (["lThigh", "rShin", "LHipJoint"], ["left_hip", "right_knee", "LHipJoint"]),
        (["Leg.L", "hand_r", "Lleg"], ["left_knee", "right_wrist", "Lleg"]),
        (["LeftCollar", "LeftShoulder", "LeftElbow"], ["left_collar", "left_shoulder", "left_elbow"]),
        (["Spine", "Legs", "Root"], ["Spine", "Legs", "Root"]),
    ],
)
def test_spellings(tmp_path, names, expected):
    text = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n"
    text += "".join(f"JOINT {name}\n{{\nOFFSET 0 1 0\n}}\n" for name in names) + "}\n"
    (tmp_path / "a.bvh").write_text(text + "MOTION\nFrames: 1\nFrame Time: 1\n0\n")
    assert list(bvh_skeleton(read_bvh(tmp_path / "a.bvh")).joints) == ["a", *expected]


def test_bvh_files_give_all_of_human36m(tmp_path):
    path = write_bvh_file(tmp_path / "a.bvh", [REST])
    converter = Bvh(path)
    (row,) = converter.rows(converter.recordings()[0])
    row = map_row(row, converter.skeleton, HUMAN36M)
    assert row["joints_3d_valid"].all()
    at = dict(zip(HUMAN36M.joints, row["joints_3d"], strict=True))
    np.testing.assert_allclose(at["pelvis"], (0, 50, 0))  # the middle of the hips, 5 cm below the root of the file
    np.testing.assert_allclose(at["head"], (0, -800, 0))
    np.testing.assert_allclose(at["left_wrist"], (740, -500, 0))


def test_a_converter_goes_to_other_processes_without_what_it_cached(tmp_path):
    converter = Bvh(write_bvh_file(tmp_path / "a.bvh", [REST]))
    assert converter.skeleton and "skeleton" in vars(converter)  # cached
    sent = pickle.loads(pickle.dumps(converter))
    assert sent == converter and "skeleton" not in vars(sent)


def test_bvh_files_become_skeletons(tmp_path):
    folder = tmp_path / "bvh"
    (folder / "one").mkdir(parents=True)
    write_bvh_file(folder / "one" / "walk 1.bvh", [REST, BENT, BENT])
    write_bvh_file(folder / "b.bvh", [BENT])
    converter = Bvh(folder, step=2)
    report = convert(converter, tmp_path / "out")
    assert report.rows == {"train": 3} and not report.failed and not report.skipped
    rows = load_skeletons(tmp_path / "out")
    assert [row["frame"] for row in rows] == [0, 0, 2]
    assert {row["action"] for row in rows} == {"b", "walk 1"}
    bent = np.array(rows[0]["joints_3d"])
    knee = converter.skeleton.joints.index("left_knee")
    np.testing.assert_allclose(bent[knee], (100, 50, -400), atol=1e-3)  # mm, y down, facing the camera


def load_skeletons(folder: Path) -> list[dict]:
    import pyarrow.parquet as pq

    return [row for path in sorted((folder / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_axes_and_units(tmp_path):
    turned = hierarchy()
    path = write_bvh_file(tmp_path / "a.bvh", [BENT], turned)
    upright = next(iter(Bvh(path, step=1).rows(Bvh(path).recordings()[0])))["joints_3d"]
    converter = Bvh(path, up="z", unit="inch")
    lying = next(iter(converter.rows(converter.recordings()[0])))["joints_3d"]
    x, y, z = np.array(upright).T
    np.testing.assert_allclose(lying, np.stack([x, z, -y], axis=1) * 2.54, atol=1e-9)
    assert knee_bend(upright, bvh_skeleton(read_bvh(path))) > 0
    assert guess_unit_mm(path, read_bvh(path)) == 10.0


@pytest.mark.parametrize(("factor", "unit_mm"), [(10, 1.0), (1 / 100, 1000.0), (1 / 2.54, 25.4)])
def test_the_unit_is_the_one_of_a_persons_length(tmp_path, factor, unit_mm):
    text = "\n".join(
        " ".join(["OFFSET", *(str(float(word) * factor) for word in line.split()[1:])]) if "OFFSET" in line else line
        for line in hierarchy().splitlines()
    )
    path = write_bvh_file(tmp_path / "a.bvh", [REST], text)
    assert guess_unit_mm(path, read_bvh(path)) == unit_mm


def test_another_size_needs_its_unit(tmp_path):
    path = write_bvh_file(tmp_path / "a.bvh", [REST], hierarchy().replace("-40", "-400"))
    with pytest.raises(
        ValueError, match=r"a\.bvh: bones must be as long as a person's .* got 400 to the knee .* say the unit"
    ):
        guess_unit_mm(path, read_bvh(path))


GOOD = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n}\nMOTION\nFrames: 2\nFrame Time: 1\n0\n1\n"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("HIERARCHY", "", "expected a BVH file"),
        ("MOTION", "", "expected a BVH file"),
        ("OFFSET 0 0 0", "OFFSET 0 0", "line 4: expected 3 finite numbers"),
        ("OFFSET 0 0 0", "OFFSET 0 nan 0", "line 4: expected 3 finite numbers"),
        ("CHANNELS 1", "CHANNELS 2", "line 5: expected CHANNELS"),
        ("Xrotation", "Wrotation", "line 5: expected CHANNELS"),
        ("OFFSET 0 0 0", "JOINT\n{", "line 4: expected a joint's name after JOINT, got none"),
        ("}", "", "line 7: the hierarchy before MOTION is not complete"),
        ("ROOT a", "JOINT a", "line 2: expected one ROOT"),
        ("ROOT a", "ROOT a {}", "line 2: expected a line of a BVH hierarchy, got '{}'"),
        ("OFFSET 0 0 0", "rm -rf", "line 4: expected a line of a BVH hierarchy, got 'rm -rf'"),
        ("Frames: 2", "Frames: 3", "expected 3 frames as line 8 says, got 2; cut off?"),
        ("Frames: 2", "Frames: many", "line 8: expected `Frames:`"),
        ("\n0\n", "\n0 1\n", "line 10: expected 1 finite numbers, got '0 1'"),
        ("\n0\n", "\nzero\n", "line 10: expected 1 finite numbers"),
        ("\n0\n", "\nnan\n", "line 10: expected 1 finite numbers"),
    ],
)
def test_broken_bvh_files_are_refused_with_their_line(tmp_path, before, after, message):
    path = tmp_path / "broken.bvh"
    path.write_text(GOOD)
    assert read_bvh(path).positions().shape == (2, 1, 3)
    path.write_text(GOOD.replace(before, after, 1))
    with pytest.raises(ValueError, match=f"broken.bvh.*{message}"):
        read_bvh(path)


def test_files_of_another_skeleton_fail_alone(tmp_path):
    write_bvh_file(tmp_path / "a.bvh", [REST])
    write_bvh_file(tmp_path / "b.bvh", [REST], hierarchy().replace("RightArm", "Wing"))
    report = convert(Bvh(tmp_path), tmp_path / "out")
    assert report.rows == {"train": 1}
    assert "must have the skeleton of the first one; different are" in report.failed["train-b"]
    assert "b.bvh" in report.failed["train-b"]


@pytest.mark.parametrize("converter", [Bvh, AsfAmc])
def test_a_folder_without_files_is_refused(tmp_path, converter):
    with pytest.raises(ValueError, match="found none"):
        converter(tmp_path).recordings()


def asf_text() -> str:
    """CMU's bones, each one unit long: a straight trunk and legs, arms out; left is +x."""
    parents = {"lowerback": "root", "upperback": "lowerback", "thorax": "upperback", "lowerneck": "thorax"}
    parents |= {"upperneck": "lowerneck", "head": "upperneck"}
    directions = dict.fromkeys(parents, (0, 1, 0))
    for side, x in (("l", 1), ("r", -1)):
        legs = ["hipjoint", "femur", "tibia", "foot", "toes"]
        arms = ["clavicle", "humerus", "radius", "wrist", "hand", "fingers"]
        for chain, first, direction in ((legs, "root", (0, -1, 0)), (arms, "thorax", (x, 0, 0))):
            for above, bone in zip([None, *chain], chain, strict=False):
                parents[side + bone] = first if above is None else side + above
                directions[side + bone] = direction
        directions |= {f"{side}hipjoint": (x, 0, 0), f"{side}foot": (0, 0, 1), f"{side}thumb": (0, 0, 1)}
        parents[f"{side}thumb"] = f"{side}wrist"
    bones = "".join(
        f"begin\nid 1\nname {bone}\ndirection {x} {y} {z}\nlength 4.5\naxis 0 0 0 XYZ\n"
        + ("dof rx\n" if bone.endswith("tibia") else "")
        + "end\n"
        for bone, (x, y, z) in directions.items()
    )
    tree = "".join(f"{parent} {bone}\n" for bone, parent in parents.items())
    units = ":units\nmass 1\nlength 0.45\nangle deg\n"
    root = ":root\norder TX TY TZ RX RY RZ\naxis XYZ\nposition 0 0 0\norientation 0 0 0\n"
    return f"{units}{root}:bonedata\n{bones}:hierarchy\nbegin\n{tree}end\n"


AMC = (
    ":FULLY-SPECIFIED\n:DEGREES\n1\nroot 9 9 9 0 0 0\nltibia 90\nrtibia 0\n2\nroot 0 0 0 0 90 0\nltibia 0\nrtibia 0\n"
)


@pytest.fixture
def asf_folder(tmp_path) -> Path:
    folder = tmp_path / "mocap"
    folder.mkdir()
    (folder / "01.asf").write_text(asf_text())
    (folder / "01_01.amc").write_text(AMC)
    return folder


def test_acclaim_bones_end_where_a_hand_says(asf_folder):
    skeleton = read_asf(asf_folder / "01.asf")
    ends = bone_ends_mm(skeleton, read_amc(asf_folder / "01_01.amc"))
    at = {name: ends[:, bone] for bone, name in enumerate(skeleton.names)}
    bone = 254.0  # 4.5 units of 25.4 / 0.45 mm
    np.testing.assert_allclose(at["lfemur"][0], (bone, -bone, 0), atol=1e-9)
    np.testing.assert_allclose(at["ltibia"][0], (bone, -bone, -bone), atol=1e-9)  # backwards
    np.testing.assert_allclose(at["lfoot"][0], (bone, -2 * bone, -bone), atol=1e-9)  # points down
    np.testing.assert_allclose(at["rtibia"][0], (-bone, -2 * bone, 0), atol=1e-9)
    np.testing.assert_allclose(at["rfingers"][1], (0, 3 * bone, 6 * bone), atol=1e-9)  # turned by 90 degrees about y


def test_acclaim_files_become_skeletons(asf_folder, tmp_path):
    report = convert(AsfAmc(asf_folder, step=1), tmp_path / "out")
    assert report.rows == {"train": 2} and not report.failed
    rows = load_skeletons(tmp_path / "out")
    assert {row["skeleton"] for row in rows} == {"cmu_mocap"} and [row["frame"] for row in rows] == [0, 1]
    knee = CMU_MOCAP.joints.index("left_ankle")
    np.testing.assert_allclose(rows[0]["joints_3d"][knee], (254, 254, 254), atol=1e-3)


def test_a_motion_needs_one_skeleton_beside_it(asf_folder):
    (asf_folder / "02.asf").write_text(asf_text())
    with pytest.raises(ValueError, match=r"must hold one \*\.asf file for its \*\.amc files, got 2"):
        AsfAmc(asf_folder).recordings()


def test_a_missing_bone_fails_its_recording(asf_folder, tmp_path):
    (asf_folder / "01.asf").write_text(asf_text().replace("lthumb", "tail"))
    report = convert(AsfAmc(asf_folder), tmp_path / "out")
    assert "01_01.amc" in report.failed["train-01_01"] and "missing are ['lthumb']" in report.failed["train-01_01"]


def test_cmu_recordings_are_people(real_data):
    converter = AsfAmc(real_data / "cmu-mocap", step=120)
    recordings = converter.recordings()
    assert len(recordings) > 20
    joints = np.array([row["joints_3d"] for entry in recordings[:6] for row in converter.rows(entry)])
    mapped, mask = map_skeleton(joints, CMU_MOCAP, HUMAN36M)
    assert mask.all()
    assert np.mean([knee_bend(pose, HUMAN36M) for pose in mapped]) > 20
    lengths = np.linalg.norm(mapped - mapped[:, list(HUMAN36M.parents)], axis=-1).mean(axis=0)
    expected = {"left_knee": 430, "left_ankle": 430, "spine": 250, "left_elbow": 280, "head": 115}
    for joint, length in expected.items():  # mm, of Human3.6M's actors
        assert lengths[HUMAN36M.joints.index(joint)] == pytest.approx(length, rel=0.15), joint
    heads = mapped[:, HUMAN36M.joints.index("head"), 1] - mapped[:, HUMAN36M.joints.index("pelvis"), 1]
    assert np.median(heads) < -600  # upright: y is down


def test_bvh_files_of_this_package_are_read_back(tmp_path):
    from conversion_examples import person

    from jointdetr.formats.bvh import write_bvh
    from jointdetr.motion import PoseMotion

    joints = np.stack([person(frame) - person(frame)[0] for frame in range(4)])
    motion = PoseMotion(HUMAN36M, np.arange(4) / 25, joints, np.ones((4, 17), bool))
    rig = write_bvh(motion, tmp_path / "a.bvh")
    read = read_bvh(tmp_path / "a.bvh")
    assert read.frame_time_s == pytest.approx(1 / 25) and guess_unit_mm(tmp_path / "a.bvh", read) == 1000.0
    converter = Bvh(tmp_path / "a.bvh", step=1)
    back = np.stack([row["joints_3d"] for row in converter.rows(converter.recordings()[0])])  # (frames, joints, 3)
    for own, name in (("left_knee", "left_knee"), ("right_wrist", "right_wrist"), ("left_ankle", "left_ankle")):
        there = back[:, converter.skeleton.joints.index(name)] - back[:, 0]
        distance = np.linalg.norm(there - joints[:, HUMAN36M.joints.index(own)], axis=-1)
        moved = rig.error_mm[:, HUMAN36M.joints.index(own)]
        np.testing.assert_allclose(distance, moved, atol=1.0)
        assert moved.max() < 60
