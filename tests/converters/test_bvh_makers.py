"""BVH of other makers: how their programs write lines, units and names."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from bvh_examples import REST, hierarchy, write_bvh_file

from jointdetr.converters.conversion import convert, make_converter
from jointdetr.converters.motion_files import Bvh, bvh_skeleton, guess_unit_mm, unit_mm
from jointdetr.formats.bvh import read_bvh

CMU_UNIT_MM = 25.4 / 0.45
UNITS_MM = {"mm": 1.0, "cm": 10.0, "inch": 25.4, "m": 1000.0, "cmu": CMU_UNIT_MM}
LIMBS = [f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle", "shoulder", "elbow")]


def scaled(factor: float, turn: str = "xyz") -> str:
    """The hierarchy of a person of 170 cm with thighs of 40, each offset multiplied, its axes traded or made one."""
    lines = []
    for line in hierarchy().splitlines():
        if "OFFSET" in line:
            x, y, z = (float(word) * factor for word in line.split()[1:])
            offset = {
                "xyz": (x, y, z),
                "along": (np.hypot(x, np.hypot(y, z)), 0, 0),
                "folded": (x, abs(y) * 0.0, abs(y)),
            }
            line = " ".join(map(str, ["OFFSET", *offset[turn]]))
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("unit", UNITS_MM)
@pytest.mark.parametrize("height", [1000, 1300, 1500, 1700, 1850, 2050])
@pytest.mark.parametrize("turn", ["xyz", "along", "folded"])
def test_people_of_any_size_are_right_or_refused(tmp_path, unit, height, turn):
    scale = height / 1700 * 10 / UNITS_MM[unit]
    path = write_bvh_file(tmp_path / "a.bvh", [REST], scaled(scale, turn))
    try:
        assert guess_unit_mm(path, read_bvh(path)) == pytest.approx(UNITS_MM[unit])
    except ValueError as error:
        assert "say the unit" in str(error)
        # what a child in inches and a tall person in CMU's unit share
        assert (unit, height) in {("inch", 1000), ("cmu", 2050), ("cmu", 1850)}


def test_tall_people_of_cmu_are_told_by_its_joints(tmp_path):
    text = scaled(1.15 * 10 / CMU_UNIT_MM)
    path = write_bvh_file(tmp_path / "a.bvh", [REST], text)
    with pytest.raises(ValueError, match=r"fits inch, CMU's 1/0\.45 inch; say the unit"):
        guess_unit_mm(path, read_bvh(path))
    path = write_bvh_file(
        tmp_path / "a.bvh", [REST], text.replace("LeftShoulder", "LHipJoint").replace("Spine", "LowerBack")
    )
    assert guess_unit_mm(path, read_bvh(path)) == pytest.approx(CMU_UNIT_MM)


def test_cmu_files_are_read_right(tmp_path, real_data):
    lines = (real_data / "cmu-mocap" / "subjects" / "01" / "01.asf").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if "lfemur" in line)
    thigh = float(next(line for line in lines[start:] if "length" in line).split()[1])
    text = scaled(thigh / 40)
    path = write_bvh_file(tmp_path / "01_01.bvh", [REST], text)
    (row,) = Bvh(path).rows(Bvh(path).recordings()[0])
    at = dict(zip(Bvh(path).skeleton.joints, row["joints_3d"], strict=True))
    assert np.linalg.norm(at["left_knee"] - at["left_hip"]) == pytest.approx(404, abs=1)


def test_units_are_names_or_millimetres(tmp_path):
    path = write_bvh_file(tmp_path / "a.bvh", [REST])
    converter = make_converter("bvh", path, unit="56.44")
    (row,) = converter.rows(converter.recordings()[0])
    knee = converter.skeleton.joints.index("left_knee")
    assert row["joints_3d"][knee, 1] == pytest.approx(45 * 56.44)
    assert unit_mm("cm") == 10.0
    for wrong in ("furlong", "0", "-1", "nan", "inf", "1e400"):
        with pytest.raises(ValueError, match="`unit` must be one of mm, cm, inch, m or its length in mm, got"):
            Bvh(path, unit=wrong)


def test_without_a_known_limb_the_unit_is_asked_for(tmp_path):
    text = hierarchy()
    for part in ("UpLeg", "Leg", "ForeArm", "Arm"):
        text = text.replace(f"Left{part}", f"Os{part}1x").replace(f"Right{part}", f"Os{part}2x")
    path = write_bvh_file(tmp_path / "a.bvh", [REST], text)
    with pytest.raises(ValueError, match=r"of which none is known by its name among Hips, .* `--set names=FILE`"):
        guess_unit_mm(path, read_bvh(path))


MAKERS = {
    "OpenNI": ("{S}_HIP", "{S}_KNEE", "{S}_FOOT", "{S}_SHOULDER", "{S}_ELBOW"),
    "MotionBuilder": (
        "Character1_{s}UpLeg",
        "Character1_{s}Leg",
        "Character1_{s}Foot",
        "Character1_{s}Arm",
        "Character1_{s}ForeArm",
    ),
    "3ds Max": ("Bip01 {L} Thigh", "Bip01 {L} Calf", "Bip01 {L} Foot", "Bip01 {L} UpperArm", "Bip01 {L} Forearm"),
    "3ds Max, underscores": (
        "Bip001_{L}_Thigh",
        "Bip001_{L}_Calf",
        "Bip001_{L}_Foot",
        "Bip001_{L}_UpperArm",
        "Bip001_{L}_Forearm",
    ),
    "VRoid": (
        "J_Bip_{L}_UpperLeg",
        "J_Bip_{L}_LowerLeg",
        "J_Bip_{L}_Foot",
        "J_Bip_{L}_UpperArm",
        "J_Bip_{L}_LowerArm",
    ),
    "VRM": ("{w}UpperLeg", "{w}LowerLeg", "{w}Foot", "{w}UpperArm", "{w}LowerArm"),
    "GENEA": ("b_{l}_upleg", "b_{l}_leg", "b_{l}_foot", "b_{l}_arm", "b_{l}_forearm"),
    "Rokoko": ("{s}Thigh", "{s}Shin", "{s}Foot", "{s}Arm", "{s}ForeArm"),
    "Xsens": ("{s}Hip", "{s}Knee", "{s}Ankle", "{s}Shoulder", "{s}Elbow"),
    "Xsens segments": ("{s} Upper Leg", "{s} Lower Leg", "{s} Foot", "{s} Upper Arm", "{s} Forearm"),
    "Kinect": ("Hip{s}", "Knee{s}", "Ankle{s}", "Shoulder{s}", "Elbow{s}"),
    "Azure Kinect": ("HIP_{S}", "KNEE_{S}", "ANKLE_{S}", "SHOULDER_{S}", "ELBOW_{S}"),
    "SMPL": ("{L}_Hip", "{L}_Knee", "{L}_Ankle", "{L}_Shoulder", "{L}_Elbow"),
    "Unreal": ("thigh_{l}", "calf_{l}", "foot_{l}", "upperarm_{l}", "lowerarm_{l}"),
    "Rigify": ("DEF-thigh.{L}", "DEF-shin.{L}", "DEF-foot.{L}", "DEF-upper_arm.{L}", "DEF-forearm.{L}"),
    "Acclaim": ("{l}femur", "{l}tibia", "{l}foot", "{l}humerus", "{l}radius"),
    "Daz": ("{l}ThighBend", "{l}Shin", "{l}Foot", "{l}ShldrBend", "{l}ForearmBend"),
    "Reallusion": (
        "CC_Base_{L}_Thigh",
        "CC_Base_{L}_Calf",
        "CC_Base_{L}_Foot",
        "CC_Base_{L}_Upperarm",
        "CC_Base_{L}_Forearm",
    ),
    "OptiTrack": ("{L}Thigh", "{L}Shin", "{L}Foot", "{L}UArm", "{L}FArm"),
    "Mixamo": (
        "mixamorig:{s}UpLeg",
        "mixamorig:{s}Leg",
        "mixamorig:{s}Foot",
        "mixamorig:{s}Arm",
        "mixamorig:{s}ForeArm",
    ),
    "Mixamo without colon": (
        "mixamorig{s}UpLeg",
        "mixamorig{s}Leg",
        "mixamorig{s}Foot",
        "mixamorig{s}Arm",
        "mixamorig{s}ForeArm",
    ),
    "leg for hip": ("{s}Leg", "{s}Knee", "{s}Foot", "{s}Arm", "{s}Elbow"),
}


def renamed(names: tuple[str, ...]) -> str:
    """The hierarchy with names of another maker, and no collars."""
    lines = []
    for line in hierarchy().replace("Shoulder", "Xx").splitlines():
        found = re.fullmatch(r"\s*JOINT (Left|Right)(UpLeg|Leg|Foot|Arm|ForeArm)\s*", line)
        if found:
            side, name = found[1], names[("UpLeg", "Leg", "Foot", "Arm", "ForeArm").index(found[2])]
            words = {"s": side, "S": side.upper(), "L": side[0], "l": side[0].lower(), "w": side.lower()}
            line = f"JOINT {name.format(**words)}"
        lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("names", MAKERS.values(), ids=MAKERS)
def test_names_of_other_makers_give_joints_and_sides(tmp_path, names):
    (tmp_path / "a.bvh").write_text(renamed(names) + "MOTION\nFrames: 1\nFrame Time: 1\n" + "0 " * 48 + "\n")
    skeleton = bvh_skeleton(read_bvh(tmp_path / "a.bvh"))
    assert set(LIMBS) <= set(skeleton.joints)
    pairs = {(skeleton.joints[left], skeleton.joints[right]) for left, right in skeleton.flip_pairs}
    assert {(left, left.replace("left", "right")) for left in LIMBS[:5]} <= pairs


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["CLAVICLE_LEFT", "SHOULDER_LEFT", "WRIST_LEFT", "HAND_LEFT"], ["collar", "shoulder", "wrist", "hand"]),
        (["LeftAnkle", "LeftFoot"], ["ankle", "foot"]),
        (["foot_l", "ball_l", "ik_foot_l", "calf_twist_01_l"], ["ankle", "foot", None, None]),
        (["LeftHand", "LeftHandIndex1", "LeftHandThumb1", "LeftEyeBall"], ["wrist", None, None, "eye"]),
        (["L5", "LowerBack", "Bone.012", "ForeHead"], [None] * 4),
        (["LeftLeg", "weapon_hand_l"], ["knee", None]),
    ],
)
def test_what_is_in_the_company_of_others(tmp_path, names, expected):
    text = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n"
    text += "".join(f"JOINT {name}\n{{\nOFFSET 0 1 0\n}}\n" for name in names) + "}\n"
    (tmp_path / "a.bvh").write_text(text + "MOTION\nFrames: 1\nFrame Time: 1\n0\n")
    wanted = [own if part is None else f"left_{part}" for own, part in zip(names, expected, strict=True)]
    assert list(bvh_skeleton(read_bvh(tmp_path / "a.bvh")).joints) == ["a", *wanted]


def test_unknown_joints_are_named_and_mapped(tmp_path):
    path = write_bvh_file(tmp_path / "a.bvh", [REST], hierarchy().replace("LeftLeg", "Unterschenkel 1"))
    report = convert(Bvh(path, unit="cm"), tmp_path / "out")
    assert report.notes == [
        "joints that keep their own names, which `--set names=FILE` maps: Hips, Unterschenkel 1, Spine"
    ]
    (tmp_path / "names.json").write_text(json.dumps({"Unterschenkel 1": "left_knee", "Hips": "hips"}))
    converter = make_converter("bvh", path, names=tmp_path / "names.json")
    assert {"left_knee", "hips"} <= set(converter.skeleton.joints)
    pairs = {(converter.skeleton.joints[a], converter.skeleton.joints[b]) for a, b in converter.skeleton.flip_pairs}
    assert ("left_knee", "right_knee") in pairs
    assert convert(converter, tmp_path / "mapped").notes[0].endswith(": Spine")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "must be a JSON file, got a broken one"),
        ("[]", "must map names to names"),
        ('{"a": 3}', "must map names to names"),
        (
            '{"LeftLeg": "left_knee", "RightLeg": "left_knee"}',
            "joints must have different names, got 'left_knee' for two of them",
        ),
        ('{"Tail": "tail"}', "`names` must map joints of the file, got Tail too"),
        ('{"LeftLeg": "RightFoot_end"}', "joints must have different names"),
    ],
)
def test_broken_maps_are_refused(tmp_path, content, message):
    path = write_bvh_file(tmp_path / "a.bvh", [REST])
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        make_converter("bvh", path, names=tmp_path / "names.json").skeleton  # noqa: B018


def plain(tmp_path: Path) -> str:
    return write_bvh_file(tmp_path / "plain.bvh", [REST, {"Hips": (1, 2, 3, 10, 20, 30)}]).read_text()


REWRITTEN = {
    "byte-order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "old Macintosh": lambda text: text.replace("\n", "\r").encode(),
    "blank lines": lambda text: ("\n\n" + text.replace("\n", "\n \n")).encode(),
    "end of file mark": lambda text: text.encode() + b"\x1a",
    "lower case": lambda text: text.replace("HIERARCHY", "Hierarchy").replace("MOTION", "Motion ").encode(),
    "braces behind names": lambda text: text.replace("\n{", " {").encode(),
    "braces glued": lambda text: text.replace(" \n{", "{").encode(),
    "braces closed on the line": lambda text: text.replace("\n}\n", " }\n").encode(),
    "a name in Latin-1": lambda text: text.replace("Spine", "R\xfccken").encode("latin-1"),
}


@pytest.mark.parametrize("rewrite", REWRITTEN.values(), ids=REWRITTEN)
def test_lines_as_other_programs_write_them(tmp_path, rewrite):
    text = plain(tmp_path)
    (tmp_path / "other.bvh").write_bytes(rewrite(text))
    expected, found = read_bvh(tmp_path / "plain.bvh"), read_bvh(tmp_path / "other.bvh")
    assert found.names == tuple(
        name.replace("Spine", "R\xfccken") if "R\xfccken" in found.names else name for name in expected.names
    )
    assert found.parents == expected.parents
    np.testing.assert_array_equal(found.positions(), expected.positions())


def test_names_that_are_there_twice_get_numbers(tmp_path):
    (tmp_path / "other.bvh").write_text(plain(tmp_path).replace("JOINT RightFoot", "JOINT LeftFoot"))
    motion = read_bvh(tmp_path / "other.bvh")
    assert {"LeftFoot", "LeftFoot_2"} <= set(motion.names)
    np.testing.assert_array_equal(motion.positions(), read_bvh(tmp_path / "plain.bvh").positions())
