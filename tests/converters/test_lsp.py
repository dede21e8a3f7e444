"""LSP and LSPET: files in both official layouts read back; noisy labels mended; broken files refused."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from conversion_examples import jpeg

from jointdetr.camera_jointdetr import flip_permutation
from jointdetr.converters.conversion import ConversionSettings, convert
from jointdetr.converters.lsp import BLAZEPOSE_JOINTS, LeedsSportsPose, held_out_people, mend, torso_length
from jointdetr.data.loading import load_pose_dataset
from jointdetr.skeleton_jointdetr import LSP

# someone who stands in a picture of 128 px, right side at the left
STANDING = np.array(
    [
        *([50, 118], [50, 95], [52, 70], [68, 70], [70, 95], [70, 118]),
        *([36, 70], [40, 55], [46, 38], [74, 38], [80, 55], [84, 70]),
        *([60, 34], [60, 12]),
    ],
    dtype=np.float64,
)
ALL = np.ones(14, dtype=bool)
TRADED = np.array(flip_permutation(LSP.flip_pairs, len(LSP.joints)))


def write_source(folder: Path, people: int, extended: bool, flags: np.ndarray | None = None) -> Path:
    """`joints.mat` and pictures; person `n` stands `n` px farther to the right."""
    flags = np.ones((people, 14)) if flags is None else flags
    joints = np.concatenate([STANDING + np.arange(people)[:, None, None] * [1, 0], flags[..., None]], -1)
    matrix = joints.transpose((1, 2, 0) if extended else (2, 1, 0))
    (folder / "images").mkdir(parents=True)
    scipy.io.savemat(folder / "joints.mat", {"joints": matrix})
    for person in range(people):
        (folder / "images" / f"im{person + 1:0{5 if extended else 4}d}.jpg").write_bytes(jpeg(person))
    return folder


def read(converter: LeedsSportsPose, output: Path, split: str = "train"):
    report = convert(converter, ConversionSettings(output))
    return load_pose_dataset(output, split), report


@pytest.mark.parametrize("extended", [True, False])
def test_joints_are_read_in_both_layouts(tmp_path, extended):
    rows, _ = read(LeedsSportsPose(write_source(tmp_path / "lsp", 3, extended)), tmp_path / "out")
    assert len(rows) == 3
    assert rows[2]["subject"] == "3" and rows[2]["skeleton"] == "lsp"
    np.testing.assert_allclose(rows[2]["joints_2d"], STANDING + [2.5, 0.5])
    assert not any(rows[2]["joints_3d_valid"])


def test_the_flag_says_labelled_in_lspet_and_hidden_in_lsp(tmp_path):
    flags = np.ones((1, 14))
    flags[0, 5] = 0
    for extended, labelled, visible in ((True, flags[0] > 0, flags[0] > 0), (False, ALL, flags[0] == 0)):
        source = write_source(tmp_path / f"{extended}", 1, extended, flags)
        rows, _ = read(LeedsSportsPose(source), tmp_path / f"out-{extended}")
        assert rows[0]["joints_2d_valid"] == labelled.tolist()
        assert rows[0]["visible"] == visible.tolist()


def test_people_with_few_labels_are_left_out_and_said(tmp_path):
    flags = np.ones((2, 14))
    flags[1, 5:] = 0
    rows, report = read(LeedsSportsPose(write_source(tmp_path / "lspet", 2, True, flags)), tmp_path / "out")
    assert list(rows["subject"]) == ["1"]
    assert report.skipped["too few joints are labelled"].count == 1


def test_held_out_people_are_runs_of_neighbours_in_a_split_of_their_own(tmp_path):
    assert held_out_people(100, 20).tolist() == [10 * run + first for run in range(10) for first in (0, 1)]
    source = write_source(tmp_path / "lspet", 20, True)
    train, _ = read(LeedsSportsPose(source, held_out=10), tmp_path / "out")
    test = load_pose_dataset(tmp_path / "out", "test")
    assert sorted([*test["frame"], *train["frame"]]) == list(range(1, 21))
    assert list(test["frame"]) == list(range(1, 21, 2))
    with pytest.raises(ValueError, match="`held_out` must be from 0 to 20, the number of people, got 21"):
        LeedsSportsPose(source, held_out=21).recordings()


def test_the_torso_reaches_from_the_shoulders_to_the_hips():
    assert torso_length(STANDING, ALL) == 32.0
    assert torso_length(STANDING, ~np.isin(np.arange(14), [8, 9])) == 36.0  # from the neck
    assert np.isnan(torso_length(STANDING, ~np.isin(np.arange(14), [2, 3])))


def test_traded_sides_are_put_right():
    joints, labelled = mend(STANDING[TRADED], ALL, STANDING[:12] + 1.0)
    np.testing.assert_array_equal(joints, STANDING)
    assert labelled.all()


def test_labels_that_agree_stay_and_one_that_is_far_off_goes():
    wrong = STANDING.copy()
    wrong[0] = [100, 40]
    joints, labelled = mend(wrong, ALL, STANDING[:12] + 1.0)
    np.testing.assert_array_equal(joints, wrong)
    assert labelled.tolist() == [False] + [True] * 13


def test_an_opinion_on_somebody_else_changes_nothing():
    for opinion in (STANDING[:12] + [300, 0], np.full((12, 2), np.nan)):
        joints, labelled = mend(STANDING, ALL, opinion)
        np.testing.assert_array_equal(joints, STANDING)
        assert labelled.all()


def test_the_opinion_mends_training_people_alone(tmp_path):
    source = write_source(tmp_path / "lspet", 20, True)
    opinion = np.full((20, 33, 4), np.nan)
    opinion[:, BLAZEPOSE_JOINTS, :2] = (STANDING[TRADED] + np.arange(20)[:, None, None] * [1, 0])[:, :12]
    np.savez(tmp_path / "opinion.npz", points=opinion)
    converter = LeedsSportsPose(source, held_out=10, opinion=str(tmp_path / "opinion.npz"))
    train, _ = read(converter, tmp_path / "out")
    test = load_pose_dataset(tmp_path / "out", "test")
    np.testing.assert_allclose(train[0]["joints_2d"], STANDING[TRADED] + [1.5, 0.5])  # person 2
    np.testing.assert_allclose(test[0]["joints_2d"], STANDING + 0.5)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"joints": np.zeros((14, 2, 5))}, r"\(14, 3, people\), got \(14, 2, 5\)"),
        ({"other": np.zeros(3)}, r"\(14, 3, people\), got None"),
        ({"joints": np.array(["a"])}, r"\(14, 3, people\), got \(1,\)"),
    ],
)
def test_another_matrix_is_refused(tmp_path, stored, message):
    scipy.io.savemat(tmp_path / "joints.mat", stored)
    with pytest.raises(ValueError, match=message):
        LeedsSportsPose(tmp_path).recordings()


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="joints.mat, which does not exist"):
        LeedsSportsPose(tmp_path).recordings()
    (tmp_path / "joints.mat").write_bytes(b"no matrix")
    with pytest.raises(ValueError, match="joints.mat must be a MATLAB file, got a broken one"):
        LeedsSportsPose(tmp_path).recordings()
    source = write_source(tmp_path / "lspet", 2, True)
    np.savez(tmp_path / "opinion.npz", points=np.zeros((3, 33, 2)))
    with pytest.raises(ValueError, match=r"must hold `points` of \(2, 33, 2 or more\), got \(3, 33, 2\)"):
        list(
            LeedsSportsPose(source, opinion=str(tmp_path / "opinion.npz")).rows(
                LeedsSportsPose(source).recordings()[0]
            )
        )
