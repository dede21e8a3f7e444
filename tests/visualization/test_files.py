"""Writing poses by the suffix of the path: each kind of file, nobody, several people."""

import csv

import numpy as np
import pytest
import torch
from moving_people import moving

from jointdetr.motion import load_motions, motion_rows
from jointdetr.motion.angles import joint_angles
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.visualization import write_csv, write_poses


def film() -> list[dict]:
    """Rows of two people, the second with fewer frames, a missing joint and no known place."""
    first = moving(frames=3, root_camera=np.tile([100.0, 200, 3000], (3, 1)), scores=np.full((3, 17), 0.75))
    second = moving(frames=2, person=1)
    second.joints[0, 4], second.detected[0, 4] = np.nan, False
    return motion_rows([first, second])


@pytest.mark.parametrize("suffix", [".json", ".npz", ".parquet"])
def test_tables_are_read_back(suffix, tmp_path):
    assert write_poses(film(), tmp_path / f"film{suffix}", HUMAN36M) == {tmp_path / f"film{suffix}": ""}
    first, second = load_motions(tmp_path / f"film{suffix}")
    assert (len(first), len(second)) == (3, 2)
    assert second.missing.sum() == 1
    np.testing.assert_allclose(first.joints, moving(frames=3).joints, atol=1e-3)
    np.testing.assert_allclose(first.root_camera, np.tile([100.0, 200, 3000], (3, 1)), atol=1e-3)


def test_csv_has_a_row_for_each_joint(tmp_path):
    write_poses(film(), tmp_path / "film.csv", HUMAN36M)
    with open(tmp_path / "film.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == (3 + 2) * 17
    head = next(row for row in rows if (row["frame"], row["person"], row["joint"]) == ("2", "0", "head"))
    expected = moving(frames=3).joints[2, 10]
    assert float(head["x_mm"]) == pytest.approx(expected[0], abs=0.006)
    assert float(head["camera_z_mm"]) == pytest.approx(expected[2] + 3000, abs=0.006)
    assert (float(head["time_s"]), head["score"], head["detected"], head["x_px"]) == (0.08, "0.75", "1", "")
    missing = next(row for row in rows if (row["person"], row["joint"], row["frame"]) == ("1", "left_hip", "0"))
    assert (missing["x_mm"], missing["camera_x_mm"], missing["detected"]) == ("", "", "0")


def test_people_of_a_picture_are_tensors(tmp_path):
    person = {"joints": torch.zeros(17, 3), "detected": torch.ones(17, dtype=torch.bool), "scores": torch.ones(17)}
    write_csv([person, person], tmp_path / "picture.csv", HUMAN36M)
    assert len((tmp_path / "picture.csv").read_text().splitlines()) == 1 + 2 * 17


def test_each_person_has_a_bvh_and_all_share_a_glb(tmp_path):
    written = write_poses(film(), tmp_path / "film.bvh", HUMAN36M)
    assert [path.name for path in written] == ["film.person1.bvh", "film.person2.bvh"]
    assert "left_hip in 1" in written[tmp_path / "film.person2.bvh"]
    one = write_poses(motion_rows([moving()]), tmp_path / "one.bvh", HUMAN36M)
    assert [path.name for path in one] == ["one.bvh"]
    (note,) = write_poses(film(), tmp_path / "film.glb", HUMAN36M).values()
    assert note.startswith("person 1: constant bone lengths move joints by 0.0 mm")
    assert {path.name for path in tmp_path.iterdir()} == {*(path.name for path in written), "one.bvh", "film.glb"}


@pytest.mark.parametrize("suffix", [".bvh", ".glb"])
def test_people_of_whom_nothing_is_known_are_left_out_of_animation(suffix, tmp_path):
    unknown = moving(person=1)
    unknown.joints[:] = np.nan
    written = write_poses(motion_rows([moving(), unknown]), tmp_path / f"film{suffix}", HUMAN36M)
    assert list(written) == [tmp_path / f"film{suffix}"]
    assert write_poses(motion_rows([unknown]), tmp_path / f"unknown{suffix}", HUMAN36M) == {}


@pytest.mark.parametrize("suffix", [".json", ".npz", ".csv", ".parquet", ".html"])
def test_nobody_is_an_empty_table(suffix, tmp_path):
    write_poses([], tmp_path / f"nobody{suffix}", HUMAN36M)
    assert (tmp_path / f"nobody{suffix}").stat().st_size > 0
    if suffix in (".json", ".parquet", ".npz"):
        assert load_motions(tmp_path / f"nobody{suffix}") == []


@pytest.mark.parametrize("suffix", [".bvh", ".glb"])
def test_nobody_is_no_animation(suffix, tmp_path):
    assert write_poses([], tmp_path / f"nobody{suffix}", HUMAN36M) == {}
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"film.fbx: expected a file of poses ending in .json, .npz, .*, got '.fbx'"):
        write_poses(film(), tmp_path / "film.fbx", HUMAN36M)


def test_each_person_has_marker_files_and_all_share_a_table_of_angles(tmp_path):
    for suffix in ("trc", "c3d"):
        written = write_poses(film(), tmp_path / f"film.{suffix}", HUMAN36M)
        assert [path.name for path in written] == [f"film.person1.{suffix}", f"film.person2.{suffix}"]
        assert written[tmp_path / f"film.person2.{suffix}"] == "2 frames at 25 Hz; missing: left_hip in 1"
    for suffix in ("csv", "parquet"):
        path = tmp_path / f"film.angles.{suffix}"
        assert write_poses(film(), path, HUMAN36M) == {path: ""}
    with open(tmp_path / "film.angles.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["person"]) for row in rows] == [
        ("0", "0"),
        ("0", "1"),
        ("1", "0"),
        ("1", "1"),
        ("2", "0"),
    ]
    assert rows[1]["left_hip_flexion_deg"] == ""  # its hip is missing
    angles = joint_angles(moving(frames=3))
    assert float(rows[4]["right_knee_flexion_deg"]) == pytest.approx(angles["right_knee_flexion"][2], abs=1e-3)


def test_people_of_a_film_may_stand_on_the_floor(tmp_path):
    person = moving(frames=3, root_camera=np.tile([100.0, 200, 3000], (3, 1)))
    (path,) = write_poses(motion_rows([person]), tmp_path / "film.trc", HUMAN36M, on_floor=True).items()
    assert "person 1 on the floor: turned upright by" in path[1]
    write_poses(motion_rows([person]), tmp_path / "film.json", HUMAN36M, on_floor=True)
    np.testing.assert_allclose(load_motions(tmp_path / "film.json")[0].joints, person.joints, atol=1e-3)
    with pytest.raises(ValueError, match="needs the root's place"):
        write_poses(motion_rows([moving(frames=3)]), tmp_path / "film.glb", HUMAN36M, on_floor=True)
