"""The plain folder format: written by hand, read back; world coordinates, own skeletons; broken lines refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from conversion_examples import INTRINSICS, STANDING, jpeg, person, project
from typer.testing import CliRunner

from jointdetr.cli import app
from jointdetr.converters import folder as folder_module
from jointdetr.converters.conversion import convert
from jointdetr.converters.folder import Folder
from jointdetr.data.loading import load_pose_dataset
from jointdetr.formats.skeletons import read_skeleton, skeleton_json
from jointdetr.skeleton_jointdetr import HUMAN36M, SKELETONS, Skeleton

MARKERS = {
    "name": "markers",
    "joints": ["waist", "head", "left_hand", "right_hand"],
    "parents": [None, "waist", "waist", "waist"],
    "flip_pairs": [["left_hand", "right_hand"]],
    "root": "waist",
}
MARKERS_MM = np.array([(0, 0, 0), (0, -600, 0), (500, -300, -50), (-500, -300, -50)], dtype=float) + [0, 0, 4000]


def write_source(folder: Path, lines: list[dict | str], skeleton: dict | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "annotations.jsonl").write_text("\n".join(texts) + "\n")
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg(number))
    if skeleton is not None:
        (folder / "skeleton.json").write_text(json.dumps(skeleton))
    return folder


def line(number: int = 0, **changes) -> dict:
    joints = person(number)
    values = {
        "image": f"{number}.jpg",
        "joints_3d": joints.tolist(),
        "joints_2d": project(joints).tolist(),
        "intrinsics": INTRINSICS.tolist(),
        "subject": "me",
        "frame": number,
    }
    return {key: value for key, value in {**values, **changes}.items() if value != "drop"}


def converted(tmp_path: Path, source: Path, split: str = "train"):
    report = convert(Folder(source), tmp_path / "out")
    return report, load_pose_dataset(tmp_path / "out", split)


def test_a_box_may_show_nobody(tmp_path):
    lines = [{"image": "0.jpg", "box": [1, 2, 30, 40], "nobody": True}, line(1)]
    report, rows = converted(tmp_path, write_source(tmp_path / "mine", lines))
    assert list(rows["nobody"]) == [True, False]
    assert rows[0]["box"] == [1, 2, 30, 40] and not any(rows[0]["joints_2d_valid"])
    lines = [line(0, nobody=True), {"image": "1.jpg", "nobody": True}, line(2), line(1)]
    report, _ = converted(tmp_path / "wrong", write_source(tmp_path / "wrong" / "mine", lines))
    assert {reason: skipped.count for reason, skipped in report.skipped.items()} == {
        "joints of nobody": 1,
        "a box without an area": 1,
    }


def test_lines_become_rows(tmp_path):
    lines = [line(0, box=[30, 20, 70, 100], camera="phone"), line(1, split="test"), line(2, joints_2d="drop")]
    report, rows = converted(tmp_path, write_source(tmp_path / "mine", lines))
    assert report.rows == {"test": 1, "train": 2} and not report.skipped and not report.failed
    assert rows["frame"][:] == [0, 2] and rows["camera"][:] == ["phone", ""] and rows[0]["box"] == [30, 20, 70, 100]
    np.testing.assert_allclose(rows[1]["joints_2d"], project(person(2)), atol=0.01)  # projected
    assert set(rows["skeleton"]) == {"human36m"}
    assert read_skeleton(tmp_path / "out" / "skeleton.json") == HUMAN36M


def test_world_coordinates_are_taken_to_the_camera(tmp_path):
    turn = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    shift = np.array([100.0, 200, 4000])
    joints = person(0)
    world = (joints - shift) @ turn
    for extrinsics in (np.column_stack([turn, shift]), np.vstack([np.column_stack([turn, shift]), [0, 0, 0, 1]])):
        lines = [line(joints_3d=world.tolist(), extrinsics=extrinsics.tolist())]
        source = write_source(tmp_path / f"mine{len(extrinsics)}", lines)
        (row,) = Folder(source).rows(Folder(source).recordings()[0])
        np.testing.assert_allclose(row["joints_3d"], joints, atol=1e-9)


def test_unknown_joints_are_null(tmp_path):
    joints_3d, joints_2d = person(0).tolist(), project(person(0)).tolist()
    joints_3d[3], joints_2d[5] = None, None
    lines = [line(joints_3d=joints_3d, joints_2d=joints_2d), line(1, joints_3d="drop", intrinsics="drop")]
    _, rows = converted(tmp_path, write_source(tmp_path / "mine", lines))
    assert [not valid for valid in rows[0]["joints_3d_valid"]] == [joint == 3 for joint in range(17)]
    assert [not valid for valid in rows[0]["joints_2d_valid"]] == [joint == 5 for joint in range(17)]
    assert not any(rows[1]["joints_3d_valid"]) and all(rows[1]["joints_2d_valid"])
    assert np.isnan(rows[1]["intrinsics"]).all()


def test_joints_of_ones_own(tmp_path):
    lines = [
        {"image": "0.jpg", "joints_3d": MARKERS_MM.tolist(), "intrinsics": INTRINSICS.tolist(), "visible": [True] * 4}
    ]
    source = write_source(tmp_path / "mine", lines, MARKERS)
    report, rows = converted(tmp_path, source)
    assert report.rows == {"train": 1}
    assert rows[0]["skeleton"] == "markers" and rows[0]["frame"] == 0
    skeleton = read_skeleton(tmp_path / "out" / "skeleton.json")
    assert skeleton == Skeleton("markers", tuple(MARKERS["joints"]), (-1, 0, 0, 0), ((2, 3),), 0)


def test_skeletons_without_pictures(tmp_path):
    import pyarrow.parquet as pq

    lines = [{"joints_3d": (STANDING + 10 * number).tolist()} for number in range(3)]
    report = convert(Folder(write_source(tmp_path / "mine", lines)), tmp_path / "out")
    assert report.rows == {"train": 3}
    rows = pq.read_table(next((tmp_path / "out" / "data").glob("*.parquet"))).to_pylist()
    assert "image" not in rows[0] and [row["frame"] for row in rows] == [0, 1, 2]
    np.testing.assert_allclose(rows[2]["joints_3d"], STANDING, atol=1e-3)


def test_recordings_hold_some_lines_each(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "ROWS_PER_RECORDING", 2)
    lines = [line(number % 3, frame=number, split="train" if number % 2 else "test") for number in range(7)]
    report, rows = converted(tmp_path, write_source(tmp_path / "mine", lines))
    assert report.rows == {"test": 4, "train": 3}
    assert len(list((tmp_path / "out" / "data").glob("test-*.parquet"))) == 2
    assert rows["frame"][:] == [1, 3, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": "0.jpg", "joints_3d": [[1, 2', "line 2: expected a JSON object, got"),
        ("[1, 2]", r"line 2: expected a JSON object, got \[1, 2\]"),
        ("", "line 2: expected a JSON object"),
        ('{"joints_3d": [], "split": "a b"}', "line 2: `split` must be a word, such as train, got 'a b'"),
    ],
)
def test_broken_lines_stop_before_anything_is_written(tmp_path, text, message):
    source = write_source(tmp_path / "mine", [line(0), text, line(1)])
    with pytest.raises(ValueError, match=f"annotations.jsonl, {message}"):
        convert(Folder(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"joints_3d": [[0, 0, 0]] * 16}, "`joints_3d` must be numbers of shape (17, 3), got [[0, 0, 0], "),
        ({"joints_3d": [[0, 0]] * 17}, "`joints_3d` must be numbers of shape (17, 3), got [[0, 0], "),
        ({"joints_2d": [[0, 0], [1]]}, "`joints_2d` must be numbers of shape (17, 2), got [[0, 0], [1]]"),
        ({"joints_2d": "here"}, "`joints_2d` must be numbers of shape (17, 2), got 'here'"),
        ({"intrinsics": [[1, 0], [0, 1]]}, "`intrinsics` must be numbers of shape (3, 3)"),
        ({"visible": "all"}, "`visible` must be a list of true and false, got 'all'"),
        ({"subject": 3}, "`subject` must be a text, got 3"),
        ({"frame": 1.5}, "`frame` must be a whole number, got 1.5"),
        ({"joint_names": []}, "the keys must be of ["),
        ({"image": "drop"}, "`image` must be a text, got None"),
        ({"nobody": "yes"}, "`nobody` must be true or false, got 'yes'"),
    ],
)
def test_wrong_lines_are_left_out_with_their_number(tmp_path, changes, said):
    report, rows = converted(tmp_path, write_source(tmp_path / "mine", [line(0), line(1, **changes), line(2)]))
    assert rows["frame"][:] == [0, 2]
    (example,) = report.skipped["a line that is not as docs/data.md says"].examples
    assert "annotations.jsonl, line 2: " in example and said in example


def test_a_lost_picture_and_a_line_without_labels_are_left_out(tmp_path):
    lines = [line(0, image="lost.jpg"), {"image": "1.jpg"}, line(2), line(1)]
    report, rows = converted(tmp_path, write_source(tmp_path / "mine", lines))
    assert len(rows) == 2
    assert "lost.jpg" in report.skipped["the picture does not exist"].examples[0]
    assert report.skipped["no joint is labelled"].count == 1


@pytest.mark.parametrize("factor", [0.001, 0.1])
def test_other_units_are_noticed(tmp_path, factor):
    lines = [line(number, joints_3d=(person(number) * factor).tolist()) for number in range(3)]
    report = convert(Folder(write_source(tmp_path / "mine", lines)), tmp_path / "out")
    assert "are these millimetres?" in report.failed["train-0000"]
    assert "annotations.jsonl, frame 2" in report.failed["train-0000"]


def test_a_folder_without_lines_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must hold annotations.jsonl, got none"):
        Folder(tmp_path).recordings()
    (tmp_path / "annotations.jsonl").write_text("")
    assert not Folder(tmp_path).recordings()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": "tail"}, "`root` must name joints of `joints`, got 'tail'"),
        ({"parents": [None, "waist", "waist"]}, "`parents` must have one entry for each of the 4 joints, got 3"),
        ({"parents": [None, "head", "waist", "waist"]}, "`parents` must lead from every joint to the root"),
        ({"flip_pairs": [["left_hand"]]}, "`flip_pairs` must be pairs of joints"),
        ({"flip_pairs": "none"}, "`flip_pairs` must be a list"),
        ({"joints": [1, 2]}, "`joints` must be a list of names"),
        ({"name": "human36m"}, "`name` must not be that of another skeleton"),
        ({"bones": []}, "expected the keys"),
    ],
)
def test_broken_skeletons_are_refused(tmp_path, changes, message):
    source = write_source(tmp_path / "mine", [line(0)], MARKERS | changes)
    with pytest.raises(ValueError, match=f"skeleton.json must describe a skeleton: {message}"):
        convert(Folder(source), tmp_path / "out")
    (source / "skeleton.json").write_text("{")
    with pytest.raises(ValueError, match="skeleton.json must describe a skeleton"):
        convert(Folder(source), tmp_path / "out")


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_skeleton_files_are_read_back(tmp_path, skeleton):
    (tmp_path / "skeleton.json").write_text(skeleton_json(skeleton))
    assert read_skeleton(tmp_path / "skeleton.json") == skeleton


def test_the_command_converts_maps_and_draws(tmp_path):
    lines = [{"image": "0.jpg", "joints_3d": MARKERS_MM.tolist(), "intrinsics": INTRINSICS.tolist()}]
    source = write_source(tmp_path / "mine", lines, MARKERS)
    arguments = ["convert", "folder", str(source), str(tmp_path / "out"), "--check", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out" / "check").glob("*.png"))) == 1
    source = write_source(tmp_path / "people", [line(0), line(1)])
    arguments = ["convert", "folder", str(source), str(tmp_path / "lsp"), "--skeleton", "lsp"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert set(load_pose_dataset(tmp_path / "lsp")["skeleton"]) == {"lsp"}
    refused = CliRunner().invoke(app, [*arguments[:-1], "cat"])
    assert refused.exit_code == 2 and "`skeleton` must be one of human36m" in refused.output
