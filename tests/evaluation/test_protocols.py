"""The papers' protocols: which rows, which joints, which means, against hand answers and scipy."""

import json
import math
from typing import get_args

import datasets
import numpy as np
import pytest
import scipy.spatial
import torch
from pose_examples import encode
from typer.testing import CliRunner

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessorPil, assemble_poses
from jointdetr.cli import app
from jointdetr.cli.evaluate import ProtocolName
from jointdetr.data.schema import pose_features
from jointdetr.evaluation.evaluate import EvaluationSettings, evaluate_model
from jointdetr.evaluation.metrics import pa_mpjpe
from jointdetr.evaluation.prediction import describe_mapping
from jointdetr.evaluation.protocols import PLAIN, PROTOCOLS, choose_rows
from jointdetr.evaluation.result import EvaluationResult
from jointdetr.skeleton_jointdetr import HUMAN36M, SKELETONS

INTRINSICS = np.array([[60.0, 0, 16], [0, 60, 16], [0, 0, 1]])
CAMERAS = PROTOCOLS["human36m-p1"].cameras


def make_rows(skeleton_name: str, places: list[tuple[str, str, str, int]]) -> datasets.Dataset:
    """One row for each (subject, action, camera, frame), with random joints and a picture of noise."""
    num_joints = len(SKELETONS[skeleton_name].joints)
    rows = []
    for number, (subject, action, camera, frame) in enumerate(places):
        rng = np.random.default_rng(number)
        joints = rng.uniform(-700, 700, (num_joints, 3)) + [60, 40, 4000]
        points = joints @ INTRINSICS.T
        rows.append(
            {
                "image": encode(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)),
                "joints_3d": joints,
                "joints_3d_valid": np.ones(num_joints, bool),
                "joints_2d": points[:, :2] / points[:, 2:],
                "joints_2d_valid": np.ones(num_joints, bool),
                "visible": np.ones(num_joints, bool),
                "intrinsics": INTRINSICS,
                "box": [4.0, 4.0, 24.0, 24.0],
                "skeleton": skeleton_name,
                "subject": subject,
                "action": action,
                "camera": camera,
                "frame": frame,
            }
        )
    return datasets.Dataset.from_list(rows, features=pose_features(num_joints))


def human36m_places(first_frame: int = 0) -> list[tuple[str, str, str, int]]:
    """Two takes of an action and one of another by each subject before every camera, three frames of each."""
    return [
        (subject, action, camera, first_frame + 64 * step)
        for subject in ("S9", "S11")
        for action in ("Walking", "Walking 1", "Eating_2")
        for camera in CAMERAS
        for step in range(2 if action == "Eating_2" else 1)
    ]


@pytest.fixture(scope="module")
def human36m_rows() -> datasets.Dataset:
    return make_rows("human36m", human36m_places())


@pytest.fixture(scope="module")
def tiny(tiny_model_folder):
    """A model whose predictions differ from joint to joint and from row to row, which an untrained one's do not."""
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model, JointDetrImageProcessorPil.from_pretrained(tiny_model_folder)


def evaluate(tiny, rows: datasets.Dataset, protocol: str) -> EvaluationResult:
    return evaluate_model(*tiny, rows, EvaluationSettings(protocol=PROTOCOLS[protocol]))


def predict_by_hand(tiny, rows) -> np.ndarray:
    """Root-relative joints of every row, each on its own through the image processor: `(rows, 17, 3)`."""
    model, processor = tiny
    found = []
    for row in rows:
        inputs = processor(row["image"], boxes=[row["box"]], return_tensors="pt")
        with torch.inference_mode():
            outputs = model(pixel_values=inputs["pixel_values"])
        refined = assemble_poses(outputs, 0.5, model.refiner).joints[0]
        likeliest = assemble_poses(outputs, 0.0).joints[0]
        joints = torch.where(refined.isfinite(), refined, likeliest).double().numpy()
        found.append(joints - joints[:1])
    return np.stack(found)


def scipy_pa_error(predicted: np.ndarray, target: np.ndarray) -> float:
    """PA-MPJPE of one pose by scipy's rotation, which is never a reflection, and the best scale for it."""
    x, y = predicted - predicted.mean(0), target - target.mean(0)
    rotation, _ = scipy.spatial.transform.Rotation.align_vectors(y, x)
    turned = rotation.apply(x)
    return float(np.linalg.norm((turned * y).sum() / (turned**2).sum() * turned - y, axis=1).mean())


def test_human36m_numbers_are_those_of_an_independent_computation(tiny, human36m_rows):
    result = evaluate(tiny, human36m_rows, "human36m-p1")
    predicted = predict_by_hand(tiny, human36m_rows)
    target = np.array(human36m_rows["joints_3d"][:])
    target -= target[:, :1]
    errors = np.linalg.norm(predicted - target, axis=-1)  # (rows, 17)
    walking = np.array([action.startswith("Walking") for action in human36m_rows["action"]])
    assert result.metrics["mpjpe"] == pytest.approx(errors.mean(), rel=1e-4)
    by_action = (errors[walking].mean() + errors[~walking].mean()) / 2
    assert result.group_means["mpjpe"] == pytest.approx(by_action, rel=1e-4)
    assert result.headline == result.group_means["mpjpe"]
    assert set(result.groups) == {"Walking", "Eating"} and result.groups["Walking"]["poses"] == 16
    assert result.joints["pelvis"]["mpjpe"] == 0.0
    assert result.joints["head"]["mpjpe"] == pytest.approx(errors[:, 10].mean(), rel=1e-4)
    assert result.metrics["pck_150"] == pytest.approx((errors < 150).mean(), rel=1e-5)

    second = evaluate(tiny, human36m_rows, "human36m-p2")
    expected = np.mean([scipy_pa_error(p, t) for p, t in zip(predicted, target, strict=True)])
    assert second.metrics["pa_mpjpe"] == pytest.approx(expected, rel=1e-3)


def test_alignment_never_mirrors_and_agrees_with_scipys_procrustes_where_no_mirror_helps():
    rng = np.random.default_rng(5)
    for sign in (1.0, -1.0):
        target = rng.normal(0, 300, (14, 3))
        predicted = (target + rng.normal(0, 40, (14, 3))) * (sign, 1, 1) @ scipy.spatial.transform.Rotation.random(
            rng=rng
        ).as_matrix() * 1.3 + 70
        found = pa_mpjpe(torch.from_numpy(predicted)[None], torch.from_numpy(target)[None]).item()
        assert found == pytest.approx(scipy_pa_error(predicted, target), rel=1e-6)
        standard, aligned, _ = scipy.spatial.procrustes(target, predicted)  # which may mirror
        mirrored = np.linalg.norm(standard - aligned, axis=1).mean() * np.linalg.norm(target - target.mean(0))
        assert found == pytest.approx(mirrored, rel=1e-6) if sign > 0 else found > 2 * mirrored


@pytest.mark.parametrize("first_frame", [0, 1])
def test_every_64th_frame_of_the_test_subjects_is_chosen(first_frame):
    places = [("S9", "Eating", CAMERAS[0], frame + first_frame) for frame in range(0, 130, 2)]
    others = [("S1", "Eating", CAMERAS[0], first_frame), ("S9", "Eating", "00000000", first_frame)]
    rows, groups, lacking = choose_rows(make_rows("human36m", [*others, *places]), PROTOCOLS["human36m-p1"])
    assert [frame - first_frame for frame in rows["frame"]] == [0, 64, 128]
    assert set(rows["subject"]) == {"S9"}
    assert "subject S11" in lacking and f"camera {CAMERAS[1]}" in lacking
    assert groups == ["Eating"] * 3


def test_frames_at_another_step_are_refused():
    rows = make_rows("human36m", [("S9", "Eating", CAMERAS[0], frame) for frame in (1, 6, 11, 321)])
    with pytest.raises(ValueError, match="every 64th frame, got every 5th in S9 Eating"):
        choose_rows(rows, PROTOCOLS["human36m-p2"])


def test_data_of_another_protocol_are_refused(human36m_rows):
    mixed = human36m_rows.map(lambda row, index: {"skeleton": "lsp"} if index else row, with_indices=True)
    with pytest.raises(ValueError, match="human36m-p1 needs rows of skeleton 'human36m', got 'lsp'"):
        PROTOCOLS["human36m-p1"].skeleton_of(mixed, HUMAN36M)
    training = make_rows("human36m", [("S1", "Eating", CAMERAS[0], 0)])
    with pytest.raises(ValueError, match="rows of subject S9, S11, got only 'S1'"):
        choose_rows(training, PROTOCOLS["human36m-p1"])
    with pytest.raises(ValueError, match="empty split"):
        PROTOCOLS["human36m-p1"].skeleton_of(human36m_rows.select([]), HUMAN36M)


def test_unlabelled_roots_are_refused_and_unlabelled_joints_left_out(tiny):
    rows = make_rows("human36m", [("S9", "Eating", CAMERAS[0], 0), ("S11", "Eating", CAMERAS[0], 0)])

    def hide(row, index, joint):
        row["joints_3d_valid"][joint] = False
        row["joints_3d"][joint] = [math.nan] * 3
        return row

    without_head = rows.map(hide, with_indices=True, fn_kwargs={"joint": 10}, features=rows.features)
    result = evaluate(tiny, without_head, "human36m-p1")
    assert math.isnan(result.joints["head"]["mpjpe"]) and math.isfinite(result.metrics["mpjpe"])
    without_root = rows.map(hide, with_indices=True, fn_kwargs={"joint": 0}, features=rows.features)
    with pytest.raises(ValueError, match="3D labels of pelvis, got none"):
        evaluate(tiny, without_root, "human36m-p1")


@pytest.mark.parametrize(
    ("protocol", "skeleton", "places", "scored"),
    [
        ("3dhp", "mpi_inf_3dhp", [(f"TS{n}", "walking", "0", n) for n in range(1, 7)], 14),
        ("3dpw", "lsp", [("0", "downtown_walking_00", "0", 3)], 14),
        ("3dpw", "smpl", [("0", "downtown_walking_00", "0", 3)], 13),
        ("panoptic", "panoptic", [("0", "160906_pizza1", "00_16", 3), ("0", "160422_haggling1", "00_30", 3)], 15),
        ("panoptic", "panoptic_body", [("0", "160906_pizza1", "00_16", 3)], 15),
    ],
)
def test_a_model_of_another_skeleton_is_mapped_and_said(tiny, protocol, skeleton, places, scored):
    rows = make_rows(skeleton, places)
    if skeleton == "mpi_inf_3dhp":  # the head's middle has no place in Human3.6M, but is not scored
        assert "head" not in PROTOCOLS[protocol].joints
    result = evaluate(tiny, rows, protocol)
    assert result.fine_print["mapping"].startswith(f"predictions from human36m to {skeleton}")
    assert len(result.joints) == scored
    assert all(math.isfinite(result.metrics[name]) for name in PROTOCOLS[protocol].metrics)
    assert result.metrics["placed"] <= 1.0
    if protocol == "panoptic" and len(places) == 2:
        assert set(result.groups) == {"pizza", "haggling"}


def test_mapped_numbers_by_hand(tiny):
    """3DPW's neck is Human3.6M's thorax, the head's top its head, and the origin the middle of the hips."""
    rows = make_rows("lsp", [("0", "a", "0", 3)])
    predicted = predict_by_hand(tiny, rows)[0]
    names = dict(zip(HUMAN36M.joints, predicted, strict=True))
    names |= {"neck": names["thorax"], "head_top": names["head"]}
    lsp = SKELETONS["lsp"]
    target = np.array(rows[0]["joints_3d"])
    middle = [lsp.joints.index(name) for name in ("left_hip", "right_hip")]
    mapped = np.stack([names[name] for name in lsp.joints])
    errors = np.linalg.norm(mapped - mapped[middle].mean(0) - target + target[middle].mean(0), axis=1)
    result = evaluate(tiny, rows, "3dpw")
    assert result.metrics["mpjpe"] == pytest.approx(errors.mean(), rel=1e-4)


def test_a_model_that_lacks_scored_joints_is_refused():
    with pytest.raises(ValueError, match="3dhp scores head_top, .*cannot be had from the joints of the model's"):
        describe_mapping(SKELETONS["coco"], SKELETONS["mpi_inf_3dhp"], PROTOCOLS["3dhp"])


def test_fine_print_says_when_numbers_are_not_comparable(tiny, human36m_rows):
    complete = evaluate(tiny, human36m_rows, "human36m-p1").fine_print
    assert complete["complete"] == "yes" and complete["joints"].startswith("17, with the root: pelvis")
    partial = evaluate(tiny, human36m_rows.select([0]), "human36m-p1").fine_print
    assert partial["complete"].startswith("NO, not comparable") and "S11" in partial["complete"]
    plain = evaluate(tiny, human36m_rows.select([0]), "plain").fine_print
    assert "complete" not in plain and plain["root"] == "pelvis of the truth; predictions as they are"


def test_guesses_stand_beside_a_protocol_and_are_moved_to_its_root(tiny, human36m_rows):
    """Guesses are fitted to the evaluated poses, of which the mean pose is the mean."""
    result = evaluate(tiny, human36m_rows, "human36m-p1")
    target = np.array(human36m_rows["joints_3d"][:])
    target -= target[:, :1]
    error = np.linalg.norm(target.mean(0) - target, axis=-1).mean()
    assert result.baselines["mean_pose"]["mpjpe"] == pytest.approx(error, rel=1e-4)
    assert set(result.baselines["mean_pose"]) == set(PROTOCOLS["human36m-p1"].metrics)


def test_plain_evaluation_takes_every_row(human36m_rows):
    rows, groups, lacking = choose_rows(human36m_rows, PLAIN)
    assert len(rows) == len(human36m_rows) and groups is None and not lacking
    with pytest.raises(ValueError, match="'mpi_inf_3dhp', got 'human36m'"):
        PROTOCOLS["3dhp"].skeleton_of(human36m_rows, HUMAN36M)


def test_command_writes_every_kind_of_report(human36m_rows, tiny_model_folder, tmp_path):
    assert set(get_args(ProtocolName)) == set(PROTOCOLS)
    human36m_rows.save_to_disk(tmp_path / "rows")
    arguments = ["evaluate", "--model", tiny_model_folder, "--dataset", tmp_path / "rows", "--protocol", "human36m-p2"]

    def run(*more):
        return CliRunner().invoke(app, [str(word) for word in (*arguments, *more)])

    for suffix in ("json", "md"):
        result = run("--output", tmp_path / f"out.{suffix}", "--reliability", tmp_path / "plot.png")
        assert result.exit_code == 0, (result.output, result.exception)
    saved = json.loads((tmp_path / "out.json").read_text())
    value = saved["group_means"]["pa_mpjpe"]
    for text in (result.output, (tmp_path / "out.md").read_text()):
        for promised in (f"{value:.1f}", "reflection", "Eating", "right_wrist", "every 64th frame", "dataset"):
            assert promised in text, promised
    assert saved["fine_print"]["test_time_augmentation"] == "none"
    refused = run("--output", tmp_path / "out.csv")
    assert refused.exit_code == 2 and "must end in one of .json, .md" in refused.stderr
