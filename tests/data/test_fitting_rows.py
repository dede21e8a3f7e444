"""Boxes that show nobody: the rows are left out by converters and in training, by the rule of prediction."""

import json

import datasets
import numpy as np
import pytest
from conversion_examples import INTRINSICS, jpeg, person, project

from jointdetr.converters.conversion import convert
from jointdetr.converters.folder import Folder
from jointdetr.data.examples import PoseDataset, PoseExamples
from jointdetr.data.loading import fitting_rows, load_pose_dataset
from jointdetr.data.mixing import RowMixture
from jointdetr.data.schema import pose_features
from jointdetr.image_processing_jointdetr import JointDetrImageProcessorPil
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training.training_data import PoseStream

MISSING = "the box misses the picture"
EMPTY = "no labelled joint in the box"
BOXES = {  # of a picture of 128 x 128 px, in which the joints lie from about (40, 20) to (90, 110)
    "around": ([30.0, 10, 70, 110], None),
    "tight": ([60.0, 50, 10, 12], None),
    "beyond the right edge": ([128.0, 10, 50, 100], MISSING),
    "above": ([30.0, -90, 50, 90], MISSING),
    "of somebody else": ([0.0, 0, 20, 30], EMPTY),
}


def plain(**settings) -> PoseExamples:
    return PoseExamples(JointDetrImageProcessorPil(size={"height": 64, "width": 64}, **settings), HUMAN36M)


def row(box: list[float], **changes) -> dict:
    joints = person(0)
    points = project(joints)
    known = np.ones(17, bool)
    return {
        "image": {"bytes": jpeg(0), "path": None},
        "joints_3d": joints,
        "joints_3d_valid": known,
        "joints_2d": points,
        "joints_2d_valid": known,
        "visible": known,
        "intrinsics": INTRINSICS,
        "box": box,
        "skeleton": HUMAN36M.name,
        "subject": "",
        "action": "",
        "camera": "",
        "frame": 0,
    } | changes


def make_rows(rows: list[dict]) -> datasets.Dataset:
    return datasets.Dataset.from_list(rows, features=pose_features())


@pytest.mark.parametrize(("box", "reason"), BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("labels", [("joints_2d",), ("joints_3d", "intrinsics"), ("joints_3d", "joints_2d")])
def test_converters_leave_them_out(tmp_path, box, reason, labels):
    joints = person(0)
    known = {"joints_3d": joints, "joints_2d": project(joints), "intrinsics": INTRINSICS}
    good = {"image": "0.jpg", "box": BOXES["around"][0]} | {name: known[name].tolist() for name in labels}
    lines = [good, good | {"box": box, "frame": 7}, good]
    (tmp_path / "annotations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    report = convert(Folder(tmp_path), tmp_path / "out")
    frames = load_pose_dataset(tmp_path / "out")["frame"][:]
    assert frames == ([0, 2] if reason else [0, 7, 2])
    assert set(report.skipped) == ({reason} if reason else set())
    if reason:
        assert "frame 7" in report.skipped[reason].examples[0]


@pytest.mark.parametrize(("box", "reason"), BOXES.values(), ids=BOXES)
def test_prediction_and_training_have_the_same_rule(box, reason, caplog):
    rows = make_rows([row(BOXES["around"][0]), row(box, frame=7)])
    dataset = PoseDataset(rows, plain())
    assert len(dataset) == len(fitting_rows(rows)) == (1 if reason else 2)
    assert ("1 of 2 rows are left out" in caplog.text and f"frame 7): {reason}" in caplog.text) == bool(reason)
    processor = JointDetrImageProcessorPil()
    if reason == MISSING:
        with pytest.raises(ValueError, match="must overlap their pictures"):
            processor(np.zeros((128, 128, 3), np.uint8), boxes=[box])
    else:
        assert len(processor(np.zeros((128, 128, 3), np.uint8), boxes=[box])["pixel_values"]) == 1


def test_streams_leave_them_out_and_say_so(caplog):
    rows = make_rows([row(box, frame=number) for number, (box, _) in enumerate(BOXES.values())])
    examples = plain()
    given = list(PoseStream(RowMixture([rows.to_iterable_dataset()], [1.0]), examples, passes=1))
    assert len(given) == 2
    assert [caplog.text.count(reason) for reason in (MISSING, EMPTY)] == [2, 1]
    bad = make_rows([row(BOXES["above"][0])]).to_iterable_dataset()
    with pytest.raises(ValueError, match="none of 1 rows can be trained on"):
        list(PoseStream(RowMixture([bad], [1.0]), examples))


def test_rows_that_are_not_known_to_be_wrong_are_kept():
    unknown = np.zeros(17, bool)
    blind = row(BOXES["tight"][0], joints_2d_valid=unknown, visible=unknown, intrinsics=np.full((3, 3), np.nan))
    unreadable = row(BOXES["above"][0], image={"bytes": b"no picture", "path": None}, visible=unknown)
    assert len(fitting_rows(make_rows([blind, unreadable]))) == 2  # the second fails when it is decoded


def test_a_joint_beside_the_crop_is_not_visible():
    rows = make_rows([row([55.0, 45, 20, 20])])
    labels = PoseDataset(rows, plain(box_padding=1.0)).pose_labels(0)
    points = labels["joints_2d"].numpy()
    inside = ((points >= 0) & (points <= 1)).all(axis=1)
    assert 0 < inside.sum() < 17
    assert labels["visible"].tolist() == inside.tolist()


def test_a_joint_beside_the_picture_is_not_visible_whatever_the_source_says(tmp_path):
    points = project(person(0))
    points[3] = (64, 140)
    line = {"image": "0.jpg", "joints_2d": points.tolist(), "visible": [True] * 17}
    (tmp_path / "annotations.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "0.jpg").write_bytes(jpeg(0))
    convert(Folder(tmp_path), tmp_path / "out")
    assert [not seen for seen in load_pose_dataset(tmp_path / "out")[0]["visible"]] == [j == 3 for j in range(17)]
