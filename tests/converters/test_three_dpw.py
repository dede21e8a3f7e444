"""3DPW: sequences written as the official pickles are, read back; broken and hostile ones refused."""

from pathlib import Path

import numpy as np
import pytest
from conversion_examples import INTRINSICS, project
from three_dpw_examples import WORLD_TO_CAMERA, python2_pickle, sequence, smpl_person, write_source

from jointdetr.converters.conversion import ConversionSettings, convert
from jointdetr.converters.three_dpw import FOUND_JOINTS, ThreeDpw
from jointdetr.data.loading import load_pose_dataset
from jointdetr.skeleton_jointdetr import COCO

WORLD_TO_CAMERA[:3, :3] = [[0.8, 0, -0.6], [0, -1, 0], [-0.6, 0, -0.8]]  # the world's y points up
WORLD_TO_CAMERA[:3, 3] = (0.5, -0.2, 3.0)  # metres


def test_found_joints_are_those_of_coco_and_a_neck():
    assert set(FOUND_JOINTS) == {*COCO.joints, "neck"} and len(FOUND_JOINTS) == 18


def test_sequences_become_rows(tmp_path):
    values = sequence()
    values["campose_valid"][1][2] = 0
    source = write_source(write_source(tmp_path / "3DPW", values), sequence(2, 1), "train", "walk_01")
    report = convert(ThreeDpw(source), ConversionSettings(tmp_path / "out"))
    assert report.rows == {"test": 7, "train": 2} and not report.failed
    assert report.skipped["the camera's pose is not valid"].count == 1
    assert report.reprojection_px["max"] < 0.01
    rows = load_pose_dataset(tmp_path / "out", "test")
    assert rows["frame"][:] == [0, 0, 1, 1, 2, 3, 3] and rows["subject"][:] == ["0", "1", "0", "1", "0", "0", "1"]
    assert set(rows["skeleton"]) == {"smpl"} and set(rows["action"]) == {"downtown_00"}
    np.testing.assert_allclose(rows[0]["joints_3d"], smpl_person(0), atol=0.01)
    np.testing.assert_allclose(rows[0]["joints_2d"], project(smpl_person(0)), atol=0.01)
    np.testing.assert_allclose(rows[0]["intrinsics"], INTRINSICS)


def test_every_nth_frame(tmp_path):
    source = write_source(tmp_path, sequence())
    converter = ThreeDpw(source, step=3)
    assert [row["frame"] for row in converter.rows(converter.recordings()[0])] == [0, 0, 3, 3]


def test_a_missing_picture_is_reported_with_its_frame(tmp_path):
    source = write_source(tmp_path / "3DPW", sequence())
    (source / "imageFiles" / "downtown_00" / "image_00001.jpg").unlink()
    report = convert(ThreeDpw(source), ConversionSettings(tmp_path / "out"))
    assert report.rows == {"test": 6}
    (refusals,) = report.skipped.values()
    assert refusals.count == 2 and "downtown_00.pkl, frame 1" in refusals.examples[0]
    assert "image_00001.jpg" in refusals.examples[0]


class Hostile:
    """Writes a file when a plain unpickler reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (str(self.path), "w"))


def test_a_hostile_pickle_runs_nothing(tmp_path):
    values = sequence() | {"texture_maps": Hostile(tmp_path / "pwned")}
    source = write_source(tmp_path / "3DPW", values)
    write_source(source, sequence(), name="good_00")
    report = convert(ThreeDpw(source), ConversionSettings(tmp_path / "out"))
    assert report.rows == {"test": 8}  # the other sequence
    assert "downtown_00.pkl: expected arrays and numbers only, got a pickle of" in report.failed["downtown_00"]
    assert not (tmp_path / "pwned").exists()


def changed(**changes: object) -> dict:
    return sequence() | changes


GOOD = sequence()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], "must be a dictionary with the keys .* got list"),
        ({"poses": 1}, r"must be a dictionary with the keys .* got \['poses'\]"),
        (
            changed(cam_poses=np.zeros((4, 3, 4))),
            r"`cam_poses` .* must have the shape \(None, 4, 4\), got \(4, 3, 4\)",
        ),
        (changed(cam_intrinsics="none"), "`cam_intrinsics` .* must be an array of numbers, got str"),
        (changed(jointPositions=[np.zeros((4, 66))] * 2), r"`jointPositions\[0\]` .* shape \(4, 72\), got \(4, 66\)"),
        (changed(poses2d=GOOD["poses2d"][:1]), "`poses2d` .* one array for each person"),
        (changed(campose_valid=[np.ones(3)] * 2), r"`campose_valid\[0\]` .* shape \(4,\), got \(3,\)"),
        (changed(cam_poses=np.linalg.inv(GOOD["cam_poses"])), "miss `poses2d`, .* world to the camera"),
        (changed(jointPositions=[j * 1000 for j in GOOD["jointPositions"]]), "miss `poses2d`, .* metres"),
    ],
)
def test_broken_sequences_fail_with_their_name(tmp_path, values, message):
    source = write_source(tmp_path, values)
    converter = ThreeDpw(source)
    with pytest.raises(ValueError, match=message) as error:
        list(converter.rows(converter.recordings()[0]))
    assert "downtown_00.pkl" in str(error.value)


def test_nan_in_joints_leaves_the_row_out(tmp_path):
    values = sequence()
    values["jointPositions"][0][1, 5] = np.nan
    report = convert(ThreeDpw(write_source(tmp_path / "3DPW", values)), ConversionSettings(tmp_path / "out"))
    rows = load_pose_dataset(tmp_path / "out", "test")
    assert report.rows == {"test": 8}
    valid = np.array(rows[2]["joints_3d_valid"])
    assert valid.sum() == 23 and not valid[1]  # the joint alone is not known
    assert not np.array(rows[2]["joints_2d_valid"])[1]


@pytest.mark.parametrize(
    ("missing", "message"), [("sequenceFiles", "must have sequences as"), ("imageFiles", "imageFiles")]
)
def test_missing_folders_are_named(tmp_path, missing, message):
    source = write_source(tmp_path / "3DPW", sequence())
    (source / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=message):
        list(ThreeDpw(source).rows(ThreeDpw(source).recordings()[0]))
    if missing == "imageFiles":
        converter = ThreeDpw(source, images=tmp_path / "elsewhere")
        assert len(list(converter.rows(converter.recordings()[0]))) == 8


def test_pickles_are_as_python_2_wrote_them(tmp_path):
    import pickletools

    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(python2_pickle(sequence()))}
    assert "BINSTRING" in opcodes and not opcodes & {"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "FRAME"}
    named = {
        argument for opcode, argument, _ in pickletools.genops(python2_pickle(sequence())) if opcode.name == "GLOBAL"
    }
    assert named == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
