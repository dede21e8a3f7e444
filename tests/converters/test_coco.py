"""COCO: annotation files as the official ones are, read back; compared with pycocotools; broken ones refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from coco_examples import PEOPLE, annotation, write_source
from conversion_examples import jpeg

from jointdetr.converters import coco
from jointdetr.converters.coco import CocoKeypoints
from jointdetr.converters.conversion import convert, make_converter
from jointdetr.data.loading import load_pose_dataset
from jointdetr.skeleton_jointdetr import CMU_MOCAP, COCO, HUMAN36M


def test_people_become_rows_without_3d(tmp_path):
    report = convert(CocoKeypoints(write_source(tmp_path / "coco", PEOPLE)), tmp_path / "out")
    assert report.rows == {"validation": 2} and not report.failed
    assert {reason: refusals.count for reason, refusals in report.skipped.items()} == {
        "a crowd": 1,
        "too few joints are labelled": 1,
    }
    rows = load_pose_dataset(tmp_path / "out", "validation")
    assert rows["frame"][:] == [100, 101] and rows["subject"][:] == ["8", "7"]
    row = rows[1]
    assert not any(row["joints_3d_valid"]) and np.isnan(row["intrinsics"]).all()
    assert row["box"] == [10.5, 20.0, 90.0, 100.0] and row["skeleton"] == "coco"
    np.testing.assert_allclose(row["joints_2d"][2], (28.5, 94.5))  # px centres at .5
    assert row["visible"] == [joint % 2 == 1 for joint in range(17)] and all(row["joints_2d_valid"])


def test_labels_are_those_of_pycocotools(tmp_path):
    pycocotools = pytest.importorskip("pycocotools.coco")
    source = write_source(tmp_path / "coco", PEOPLE)
    official = pycocotools.COCO(str(source / "annotations" / "person_keypoints_val2017.json"))
    converter = CocoKeypoints(source, fewest_joints=1)
    rows = [row for row in converter.rows(converter.recordings()[0]) if isinstance(row, dict)]
    assert [int(row["subject"]) for row in rows] == [8, 7, 9]
    for row in rows:
        (theirs,) = official.loadAnns([int(row["subject"])])
        keypoints = np.array(theirs["keypoints"]).reshape(17, 3)
        labelled = keypoints[:, 2] > 0
        np.testing.assert_array_equal(np.isfinite(row["joints_2d"]).all(axis=1), labelled)
        np.testing.assert_allclose(row["joints_2d"][labelled], keypoints[labelled, :2] + 0.5)
        assert row["image"].name == official.loadImgs([row["frame"]])[0]["file_name"]
    names = official.loadCats([1])[0]["keypoints"]
    assert tuple(names) == COCO.joints


def test_recordings_hold_some_pictures_each(tmp_path, monkeypatch):
    monkeypatch.setattr(coco, "PICTURES_PER_RECORDING", 2)
    source = write_source(tmp_path / "coco", [annotation(number, 100 + number) for number in range(3)])
    write_source(source, [annotation(0, 100)], "train2017", 1)
    report = convert(CocoKeypoints(source), tmp_path / "out")
    assert report.rows == {"train": 1, "validation": 3}
    assert len(list((tmp_path / "out" / "data").glob("validation-*.parquet"))) == 2


def test_mapped_to_human36m_for_mixed_training(tmp_path):
    source = write_source(tmp_path / "coco", [annotation(0, 100), annotation(1, 101, labelled=16)])
    report = convert(CocoKeypoints(source), tmp_path / "out", skeleton=HUMAN36M)
    assert report.rows == {"validation": 2}
    rows = load_pose_dataset(tmp_path / "out", "validation")
    first, second = rows[0], rows[1]
    assert first["skeleton"] == "human36m"
    assert [not valid for valid in first["joints_2d_valid"]] == [name == "head" for name in HUMAN36M.joints]
    hips = (np.array([20 + 44, 100 - 33]) + [20 + 48, 100 - 36]) / 2 + 0.5
    np.testing.assert_allclose(first["joints_2d"][0], hips)
    assert first["visible"][0] is False  # the right hip is hidden, so the middle is
    assert first["visible"][HUMAN36M.joints.index("left_hip")] is True
    lost = np.array(first["joints_2d_valid"]) & ~np.array(second["joints_2d_valid"])
    assert [HUMAN36M.joints[joint] for joint in np.flatnonzero(lost)] == ["right_ankle"]
    with pytest.raises(ValueError, match="cannot be mapped to 'cmu_mocap': nothing gives its root 'root'"):
        convert(CocoKeypoints(source), tmp_path / "cmu", skeleton=CMU_MOCAP)


def test_pictures_may_lie_elsewhere(tmp_path):
    source = write_source(tmp_path / "coco", [annotation(0, 100)])
    (source / "images").mkdir()
    (source / "val2017").rename(source / "images" / "val2017")
    assert sum(convert(CocoKeypoints(source), tmp_path / "a").rows.values()) == 1
    (source / "images").rename(tmp_path / "pictures")
    converter = CocoKeypoints(source, images=tmp_path / "pictures")
    assert sum(convert(converter, tmp_path / "b").rows.values()) == 1
    report = convert(CocoKeypoints(source), tmp_path / "c")
    assert "the pictures of val2017 must lie in" in report.failed["validation-000"]


def test_a_missing_picture_is_reported(tmp_path):
    source = write_source(tmp_path / "coco", [annotation(number, 100 + number) for number in range(3)])
    (source / "val2017" / "000000000101.jpg").unlink()
    report = convert(CocoKeypoints(source), tmp_path / "out")
    assert report.rows == {"validation": 2}
    assert "frame 101" in report.skipped["the picture does not exist"].examples[0]


def test_wrong_key_points_are_reported(tmp_path):
    people = [annotation(0, 100), annotation(1, 101), annotation(2, 102, keypoints=[1, 2, 2])]
    report = convert(CocoKeypoints(write_source(tmp_path / "coco", people)), tmp_path / "out")
    assert report.rows == {"validation": 2}
    assert "frame 102: annotation 2 has 3 numbers" in report.skipped["not 17 key points"].examples[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be a JSON file, got a broken one"),
        ("[]", "expected a JSON object"),
        ("{}", "`images` must be a list, got None"),
        ('{"images": []}', "`annotations` must be a list, got None"),
        ('{"images": [{"id": 1}], "annotations": []}', "entry 0 of `images`: `file_name` must be a text, got None"),
        ('{"images": [], "annotations": [{"bbox": []}]}', "entry 0 of `annotations`: `image_id` must be"),
    ],
)
def test_broken_files_are_named(tmp_path, text, message):
    source = write_source(tmp_path, [])
    (source / "annotations" / "person_keypoints_val2017.json").write_text(text)
    with pytest.raises(ValueError, match=f"person_keypoints_val2017.json.*{message}"):
        CocoKeypoints(source).recordings()


def test_annotations_of_unknown_pictures_are_refused(tmp_path):
    with pytest.raises(ValueError, match="entry 0 of `annotations`: `image_id` must be an `id` of `images`, got 999"):
        CocoKeypoints(write_source(tmp_path, [annotation(0, 999)])).recordings()


def test_a_folder_without_annotations_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"COCO must have annotations as .*person_keypoints_\*\.json, got none"):
        CocoKeypoints(tmp_path).recordings()
    with pytest.raises(ValueError, match="COCO must have annotations as .*nowhere.*json, got none"):
        CocoKeypoints(tmp_path / "nowhere").recordings()


def write_file(path: Path, categories: list[dict], annotations: list[dict], picture: int | str = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": picture, "file_name": "a.jpg"}]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))
    (path.parent / "a.jpg").write_bytes(jpeg(0))
    return path


def first_row(converter: CocoKeypoints) -> dict:
    return next(row for row in converter.rows(converter.recordings()[0]) if isinstance(row, dict))


PLACES = {joint: (20.0 + 4 * number, 100.0 - 3 * number) for number, joint in enumerate(COCO.joints)}


def named(names: list[str], joints: list[str], **changes) -> tuple[dict, dict]:
    """A category whose key points have these names, and an annotation where they are these joints, or none (None)."""
    keypoints = [[*PLACES[joint], 2] if joint else [1.0, 1.0, 2] for joint in joints]
    category = {"id": 3, "name": "person", "keypoints": names} | changes
    return category, annotation(1, 100, category_id=3, keypoints=[value for point in keypoints for value in point])


def spelled(style: str, joint: str) -> str:
    side, _, part = joint.rpartition("_")
    spellings = {"camel": f"{side}{part.title()}", "blank": f"{side} {part}".strip().title()}
    spellings |= {"short": f"{side[:1]}_{part}".strip("_"), "behind": f"{part}.{side[:1].upper()}".strip(".")}
    return spellings[style]


@pytest.mark.parametrize("style", ["camel", "blank", "short", "behind"])
@pytest.mark.parametrize("seed", [0, 1])
def test_key_points_go_by_their_names(tmp_path, style, seed):
    order = np.random.default_rng(seed).permutation(17)
    joints = [COCO.joints[place] for place in order]
    category, person = named([spelled(style, joint) for joint in joints], joints)
    row = first_row(CocoKeypoints(write_file(tmp_path / "labels.json", [category], [person])))
    np.testing.assert_allclose(row["joints_2d"], np.array([*PLACES.values()]) + 0.5)


def test_joints_that_coco_does_not_have_are_said(tmp_path):
    joints = [joint for joint in COCO.joints if joint != "left_ear"]
    category, person = named(["neck", *joints, "tail"], [None, *joints, None])
    converter = CocoKeypoints(write_file(tmp_path / "labels.json", [category], [person]))
    report = convert(converter, tmp_path / "out")
    assert any("joints that COCO does not have: neck, tail" in note for note in report.notes)
    assert any("joints of COCO that lack: left_ear" in note for note in report.lines())
    row = first_row(converter)
    assert [not known for known in row["joints_2d_valid"]] == [joint == "left_ear" for joint in COCO.joints]


def test_names_of_ones_own_are_mapped_or_refused(tmp_path):
    own = [f"Punkt {number}" for number in range(17)]
    path = write_file(tmp_path / "labels.json", *([part] for part in named(own, list(COCO.joints))))
    with pytest.raises(ValueError, match="labels.json: `keypoints` of category 'person' must be joints of COCO"):
        CocoKeypoints(path).recordings()
    (tmp_path / "names.json").write_text(json.dumps(dict(zip(own, COCO.joints, strict=True))))
    converter = make_converter("coco", path, names=tmp_path / "names.json")
    np.testing.assert_allclose(first_row(converter)["joints_2d"], np.array([*PLACES.values()]) + 0.5)


@pytest.mark.parametrize(("name", "tail", "rows"), [("human", "", 1), ("Player 7", "", 1), ("dog", "tail", 0)])
def test_people_by_other_names(tmp_path, name, tail, rows):
    category, person = named([f"{joint}{tail}" for joint in COCO.joints], list(COCO.joints), name=name)
    report = convert(CocoKeypoints(write_file(tmp_path / "labels.json", [category], [person])), tmp_path / "out")
    assert report.rows == {"train": rows}
    if not rows:
        assert "annotation 1 is a dog" in report.skipped["another category than people"].examples[0]


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"num_keypoints": None}, 1),
        ({"num_keypoints": "drop"}, 1),
        ({"num_keypoints": 0}, 0),
        ({"bbox": None}, 1),
        ({"bbox": "drop"}, 1),
        ({"iscrowd": None}, 1),
        ({"category_id": None}, 1),
        ({"id": "5f0c9a5e-2d2e"}, 1),
        ({"id": 3.0}, 1),
        ({"image_id": "100"}, 1),
        ({"keypoints": [30, 40, 3] * 17}, 0),
    ],
)
def test_fields_that_other_programs_write_otherwise(tmp_path, changes, rows):
    category, person = named(list(COCO.joints), list(COCO.joints))
    person = {key: value for key, value in (person | changes).items() if value != "drop"}
    good = annotation(2, 100, category_id=3)
    converter = CocoKeypoints(write_file(tmp_path / "labels.json", [category], [good, person]))
    report = convert(converter, tmp_path / "out")
    assert report.rows == {"train": 1 + rows} and not report.failed


def test_pictures_with_texts_for_numbers_are_counted(tmp_path):
    people = [annotation(1, "img_7"), annotation(2, "img_7")]
    source = write_file(tmp_path / "labels.json", [{"id": 1, "name": "person"}], people, "img_7")
    convert(CocoKeypoints(source), tmp_path / "out")
    rows = load_pose_dataset(tmp_path / "out")
    assert rows["frame"][:] == [0, 0] and rows["subject"][:] == ["1", "2"]


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("annotations/person_keypoints_default.json", "train"),
        ("annotations/person_keypoints_val2014.json", "validation"),
        ("annotations/person_keypoints_test-dev.json", "test"),
        ("person_keypoints_Validation.json", "validation"),
        ("valid/_annotations.coco.json", "validation"),
        ("labels.json", "train"),
    ],
)
def test_the_split_is_in_the_name(tmp_path, file, split):
    path = write_file(tmp_path / file, [], [annotation(1, 100)])
    assert {recording.split for recording in CocoKeypoints(path).recordings()} == {split}
    if "person_keypoints" in file:
        assert {recording.split for recording in CocoKeypoints(tmp_path).recordings()} == {split}


def test_files_of_one_split_are_converted_together(tmp_path):
    for year in ("2014", "2017"):
        write_source(tmp_path / "coco", [annotation(1, 100)], f"train{year}", 1)
    report = convert(CocoKeypoints(tmp_path / "coco"), tmp_path / "out")
    assert report.rows == {"train": 2} and not report.failed
