"""Motions: what a table of poses says is what is read back, from each kind of file, and damage is named."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from jointdetr.formats.motions import at_even_times
from jointdetr.motion import PoseMotion, load_motions, motion_rows, motion_schema, motions_from_rows
from jointdetr.skeleton_jointdetr import HUMAN36M, Skeleton
from jointdetr.visualization import write_json, write_npz

CHAIN = Skeleton("chain", ("a", "b", "c"), (-1, 0, 1), (), 0)


def make_motions() -> list[PoseMotion]:
    """Two people of a film; the second comes later, has a missing joint and no known place."""
    generator = np.random.default_rng(0)
    first, second = generator.normal(0, 300, (5, 17, 3)), generator.normal(0, 300, (3, 17, 3))
    second[1, 4] = np.nan
    return [
        PoseMotion(
            HUMAN36M,
            np.arange(5) / 25,
            first,
            generator.random((5, 17)) > 0.2,
            scores=generator.random((5, 17)),
            joints_2d=generator.random((5, 17, 2)) * 500,
            root_camera=generator.normal(0, 100, (5, 3)) + [0, 0, 4000],
            boxes=generator.random((5, 4)) * 100,
            sigmas=generator.random((5, 17)) * 50,
        ),
        PoseMotion(
            HUMAN36M, np.array([1, 2, 4]) / 25, second, np.isfinite(second).all(-1), person=3, frames=[1, 2, 4]
        ),
    ]


def assert_same(read: list[PoseMotion], written: list[PoseMotion], tolerance: float) -> None:
    assert [motion.person for motion in read] == [motion.person for motion in written]
    for got, expected in zip(read, written, strict=True):
        assert got.skeleton == expected.skeleton
        optional = ("scores", "joints_2d", "root_camera", "boxes", "sigmas")
        for name in ("times_s", "frames", "joints", "detected", *optional):
            value = getattr(expected, name)
            assert (getattr(got, name) is None) == (value is None), name
            if value is not None:
                np.testing.assert_allclose(getattr(got, name), value, atol=tolerance, err_msg=name)


def write_parquet(motions: list[PoseMotion], path, schema: pa.Schema | None = None) -> None:
    rows = [{name: np.asarray(value).tolist() for name, value in row.items()} for row in motion_rows(motions)]
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema or motion_schema(HUMAN36M)), path)


class TestPoseMotion:
    def test_knows_its_frames_and_its_place(self):
        motion = make_motions()[0]
        assert len(motion) == 5
        np.testing.assert_array_equal(motion.frames, range(5))
        np.testing.assert_allclose(motion.joints_camera[2, 6], motion.joints[2, 6] + motion.root_camera[2])
        assert make_motions()[1].missing.sum() == 1

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"times_s": []}, "at least one frame"),
            ({"times_s": [0.0, 0.0]}, "must rise"),
            ({"times_s": [0.0, np.nan]}, "must rise"),
            ({"joints": np.zeros((2, 4, 3))}, r"`joints` must have the shape \(2, 3, 3\), got \(2, 4, 3\)"),
            ({"root_camera": np.zeros(3)}, "`root_camera` must have the shape"),
        ],
    )
    def test_refuses_what_does_not_fit(self, change, complaint):
        fields = {"times_s": [0.0, 1.0], "joints": np.zeros((2, 3, 3)), "detected": np.ones((2, 3))} | change
        with pytest.raises(ValueError, match=complaint):
            PoseMotion(CHAIN, **fields)


class TestRows:
    def test_people_of_a_picture_are_a_film_of_one_frame(self):
        people = [{"joints": torch.full((3, 3), float(n)), "detected": torch.ones(3, dtype=bool)} for n in range(2)]
        first, second = motions_from_rows(people, CHAIN)
        assert (first.person, second.person, len(second)) == (0, 1, 1)
        np.testing.assert_array_equal(second.joints, np.ones((1, 3, 3)))
        assert motions_from_rows([], CHAIN) == []

    def test_rows_and_motions_are_the_same_thing(self):
        rows = motion_rows(make_motions())
        assert [(row["frame"], row["person"]) for row in rows][:4] == [(0, 0), (1, 0), (1, 3), (2, 0)]
        assert_same(motions_from_rows(reversed(rows), HUMAN36M), make_motions(), 1e-9)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"joints": [[0, 0, 0]]}, r"row 1: `joints` must be numbers of the shape \(3, 3\), got \[\[0"),
            ({"joints": "up"}, "row 1: `joints` must be numbers"),
            ({"joints": None}, "row 1 has no `joints`"),
            ({"detected": [True, None, True]}, "row 1: `detected` must be known"),
            ({"time_s": None}, "row 1 has no `time_s`"),
            ({"person": 0, "time_s": 0.0}, "must rise"),
        ],
    )
    def test_a_bad_row_is_named(self, change, complaint):
        row = {"frame": 0, "time_s": 0.0, "person": 0, "joints": np.zeros((3, 3)), "detected": [True] * 3}
        with pytest.raises(ValueError, match=complaint):
            motions_from_rows([row, row | {"frame": 1, "time_s": 1.0} | change], CHAIN)


class TestFiles:
    def test_parquet(self, tmp_path):
        write_parquet(make_motions(), tmp_path / "film.parquet")
        assert_same(load_motions(tmp_path / "film.parquet"), make_motions(), 1e-3)

    def test_json(self, tmp_path):
        write_json(motion_rows(make_motions()), tmp_path / "film.json", HUMAN36M)
        assert_same(load_motions(tmp_path / "film.json"), make_motions(), 1e-3)

    def test_npz(self, tmp_path):
        first = make_motions()[:1]
        write_npz(motion_rows(first), tmp_path / "film.npz", HUMAN36M)
        assert_same(load_motions(tmp_path / "film.npz"), first, 1e-9)

    def test_a_skeleton_of_ones_own_comes_back(self, tmp_path):
        own = Skeleton("own", ("hips", "left", "right"), (-1, 0, 0), ((2, 1),), 0)
        rows = [{"joints": np.eye(3), "detected": np.ones(3, dtype=bool)}]
        write_json(rows, tmp_path / "own.json", own)
        write_npz(rows, tmp_path / "own.npz", own)
        for name in ("own.json", "own.npz"):
            (motion,) = load_motions(tmp_path / name)
            assert motion.skeleton == own

    def test_the_flip_pairs_of_a_shipped_skeleton_need_not_be_said(self, tmp_path):
        write_json(motion_rows(make_motions()), tmp_path / "film.json", HUMAN36M)
        document = json.loads((tmp_path / "film.json").read_text())
        del document["skeleton"]["flip_pairs"]
        (tmp_path / "film.json").write_text(json.dumps(document))
        assert load_motions(tmp_path / "film.json")[0].skeleton == HUMAN36M

    @pytest.mark.parametrize("name", ["film.txt", "film.json", "film.npz", "film.parquet"])
    @pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04 torn", b"[1]"])
    def test_a_file_that_is_none_is_named(self, name, content, tmp_path):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load_motions(tmp_path / name)

    def test_a_parquet_file_without_a_skeleton_is_named(self, tmp_path):
        write_parquet(make_motions(), tmp_path / "film.parquet", motion_schema(HUMAN36M).remove_metadata())
        with pytest.raises(ValueError, match=r"film.parquet: expected the skeleton in the file's metadata"):
            load_motions(tmp_path / "film.parquet")

    def test_a_parquet_file_of_other_joints_is_named(self, tmp_path):
        write_parquet(make_motions(), tmp_path / "film.parquet", motion_schema(CHAIN))
        with pytest.raises(ValueError, match=r"film.parquet: column `\w+` must have the shape \(3"):
            load_motions(tmp_path / "film.parquet")


def chain_at(times_s: list[float], places: list[float]) -> PoseMotion:
    joints = np.array(places)[:, None, None] * np.ones((1, 3, 3))
    return PoseMotion(CHAIN, times_s, joints, np.ones((len(times_s), 3)), root_camera=joints[:, 0])


def test_between_two_frames_it_is_on_the_line():
    even = at_even_times(chain_at([0.0, 1.0, 2.0, 4.0], [0.0, 1.0, 2.0, 6.0]))
    np.testing.assert_allclose(even.times_s, range(5))
    np.testing.assert_allclose(even.joints[:, 1, 2], [0, 1, 2, 4, 6])
    np.testing.assert_allclose(even.root_camera[:, 0], [0, 1, 2, 4, 6])


def test_in_a_long_gap_nothing_is_known():
    even = at_even_times(chain_at([0.0, 1.0, 2.0, 5.0, 6.0], [1.0, 1.0, np.nan, 1.0, 1.0]))
    assert even.missing.all(1).tolist() == [False, False, True, True, True, False, False]


def test_even_times_stay_as_they_are():
    motion = chain_at([0.0, 0.1, 0.201, 0.3], [0.0, 1.0, 2.0, 3.0])
    assert at_even_times(motion) is motion
