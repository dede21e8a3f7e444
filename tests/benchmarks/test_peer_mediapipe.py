"""The comparison with MediaPipe measures as the package does."""

import numpy as np
import pytest
import torch
from evaluation_examples import exact_outputs, make_targets, predictions
from PIL import Image

from benchmarks.accuracy.peer_mediapipe import LIMBS, Answer, Person, measure
from jointdetr.evaluation.evaluate import score
from jointdetr.skeleton_jointdetr import HUMAN36M


def test_pck_is_that_of_an_evaluation():
    targets = make_targets(6)
    targets.points[0, 5] = float("nan")
    targets.points[1, 1] = targets.points[2, [11, 14]] = float(
        "nan"
    )  # one hip; both shoulders, whose torso is unknown
    outputs = exact_outputs(targets)
    outputs.pred_points[:, :17] += 0.2 * torch.rand(6, 17, 2)
    outputs.pred_points[:] = outputs.pred_points.nan_to_num(0.5)
    found = predictions(outputs, targets)
    chosen = [HUMAN36M.joints.index(name) for name in LIMBS]
    labels, answers = (
        targets.to_px(points)[:, chosen].double().numpy() for points in (targets.points, found.poses.likeliest.points)
    )
    nowhere = np.full((12, 3), np.nan)
    people = [Person(Image.new("RGB", (1, 1)), [0.0, 0.0, 9.0, 9.0], points, nowhere) for points in labels]
    table = measure(people, {"JointDETR": [Answer(points, nowhere) for points in answers]})
    pck = 100 * score(found).metrics["pck_torso"]
    assert 0 < pck < 100
    assert table["JointDETR"]["PCK %"] == pytest.approx(pck)
