"""Labels of LSPET that another model mends."""

import numpy as np

from jointdetr.camera_jointdetr import flip_permutation
from jointdetr.skeleton_jointdetr import LSP
from tools.mend_labels import BLAZEPOSE_JOINTS, mend, mend_all, torso_length

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


def test_the_opinion_mends_training_people_alone():
    stored = np.repeat(np.concatenate([STANDING, np.ones((14, 1))], axis=1)[..., None], 20, axis=2)
    opinion = np.full((20, 33, 4), np.nan)
    opinion[:, BLAZEPOSE_JOINTS, :2] = STANDING[TRADED][:12]
    opinion[3, BLAZEPOSE_JOINTS[0], 0] += 30  # nearly a torso, so one of the two is wrong
    mended = mend_all(stored, opinion, held_out=10)
    np.testing.assert_array_equal(mended[:, :2, 1], STANDING[TRADED])  # the second of a run of two
    np.testing.assert_array_equal(mended[:, :2, 0], STANDING)
    assert mended[:, 2, 1].all() and mended[:, 2, 3].tolist() == [0] + [1] * 13
