"""The comparison of heads on one frozen trunk: its measures by hand, and all of it in small."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.accuracy.heads import CONTESTANTS, RATES, SHAPES, average_precision, limbs_pck, main
from jointdetr.skeleton_jointdetr import HUMAN36M

SETS = ("train", "people", "photographs", "real", "cut")


@pytest.fixture
def crops(tmp_path) -> Path:
    """Maps of noise with labels, in the format of the benchmark."""
    rng, size = np.random.default_rng(0), sum(int(np.prod(shape)) for shape in SHAPES)
    torch.manual_seed(0)
    for name in SETS:
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(6, size)).astype(np.float16))
        labels = {"joints_3d": torch.randn(6, 17, 3) * 300, "joints_2d": torch.rand(6, 17, 2)}
        labels |= {f"{part}_valid": torch.ones(6, 17, dtype=torch.bool) for part in ("joints_3d", "joints_2d")}
        labels |= {"visible": torch.rand(6, 17) < 0.5, "nobody": torch.zeros(6, dtype=torch.bool)}
        torch.save(labels, tmp_path / f"{name}.pt")
    return tmp_path


def test_average_precision_by_hand():
    positive = torch.tensor([[True, False], [True, False]])
    assert average_precision(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), positive) == pytest.approx(1.0)
    # positives in places 2 and 4
    assert average_precision(torch.tensor([[0.8, 0.9], [0.1, 0.2]]), positive) == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_pck_is_a_share_of_the_labelled_limbs_by_the_torso():
    joints = HUMAN36M.joints
    truth = torch.full((1, 17, 2), 0.5)
    truth[0, [joints.index("left_shoulder"), joints.index("right_shoulder")]] = torch.tensor([0.5, 0.25])
    labels = {"joints_2d": truth, "joints_2d_valid": torch.ones(1, 17, dtype=torch.bool)}
    labels["joints_2d_valid"][0, joints.index("left_wrist")] = False
    found = truth.clone()
    found[0, joints.index("left_wrist")] = 9.0  # not labelled
    found[0, joints.index("pelvis")] = 9.0  # no limb
    found[0, joints.index("left_knee"), 0] += 0.049
    found[0, joints.index("right_knee"), 0] += 0.051  # a fifth of the torso is 0.05
    assert limbs_pck(found, labels) == pytest.approx(100 * 10 / 11)


def test_all_contestants_are_trained_measured_and_laid_out_and_not_twice(crops, capsys):
    arguments = ["--crops", str(crops), "--output", str(crops / "out"), "--seeds", "2", "--steps", "2"]
    main(arguments)
    table = capsys.readouterr().out
    assert all(contestant.meaning in table for contestant in CONTESTANTS)
    files = sorted((crops / "out").glob("*.json"))
    assert len(files) == len(CONTESTANTS) * (len(RATES) + 1)
    result = json.loads(files[0].read_text())
    assert result["people_mpjpe"] > 0 and 0 <= result["pck"] <= 100 and 0 < result["ap_visibility"] <= 100
    times = [file.stat().st_mtime_ns for file in files]
    main(arguments)
    assert capsys.readouterr().out == table
    assert times == [file.stat().st_mtime_ns for file in files]
