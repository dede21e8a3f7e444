"""What a run shows of itself: measurements, pictures, and the trackers they go to."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from jointdetr import JointDetrImageProcessorPil
from jointdetr.data.examples import PoseDataset, PoseExamples, PoseMixture
from jointdetr.modeling_jointdetr import JointDetrPoseEstimationOutput
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training import tracking
from jointdetr.training.recipe import Recipe, build
from jointdetr.training.tracking import TrainingMeter, people_to_draw, send_picture, start_tracker
from jointdetr.training.train import TrainingRun, train


def make_outputs(first: list[float], last: list[float], **fields) -> JointDetrPoseEstimationOutput:
    """Two decoder layers, two queries: what each predicts for x of one picture, in mm."""

    def joints(values):
        return torch.tensor([[[value, 0.0, 0.0] for value in values]])

    loss_dict = {"loss_joint_0": torch.tensor(4.0), "loss_joint": torch.tensor(2.0)}
    auxiliary = [{"pred_joints": joints(first)}]
    return JointDetrPoseEstimationOutput(
        loss=torch.tensor(7.0), loss_dict=loss_dict, pred_joints=joints(last), auxiliary_outputs=auxiliary, **fields
    )


def make_labels(values: list[float]) -> list[dict[str, torch.Tensor]]:
    joints = torch.tensor([[value, 0.0, 0.0] for value in values])
    return [{"joints_3d": joints, "joints_3d_valid": joints.isfinite().all(-1)}]


def test_a_meter_by_hand():
    meter = TrainingMeter()
    queries = torch.tensor([[[1, 0]], [[0, 1]]])  # (layers, batch, joints)
    outputs = make_outputs([10.0, 30.0], [20.0, 60.0], matched_queries=queries)
    meter.add(outputs, make_labels([31.0, 13.0]))  # errors 1 and 3, then 11 and 47
    outputs.loss_dict["loss_joint"] = torch.tensor(3.0, requires_grad=True)
    meter.add(outputs, make_labels([34.0, torch.nan]))  # errors 4, then 14
    found = meter.read()
    assert found.pop("images_per_second") > 0
    assert found == pytest.approx(
        {
            "loss": 7.0,
            "term/loss_joint_0": 4.0,
            "term loss_joint": 2.5,
            "mpjpe/0": (1 + 3 + 4) / 3,
            "mpjpe": (11 + 47 + 14) / 3,
        }
    )
    meter.add(outputs, make_labels([30.0, 10.0]))
    assert meter.read()["mpjpe/0"] == 0.0


def test_a_meter_takes_models_without_matching_and_batches_without_3d():
    meter = TrainingMeter()
    outputs = make_outputs([0.0, 0.0], [20.0, 60.0])
    outputs.auxiliary_outputs = None
    meter.add(outputs, make_labels([21.0, 62.0]))
    assert meter.read()["mpjpe"] == 1.5
    meter.add(outputs, make_labels([torch.nan, torch.nan]))
    assert set(meter.read()) == {"loss", "images_per_second", "term/loss_joint_0", "term loss_joint"}


def test_a_meter_measures_all_processes(monkeypatch):
    meter = TrainingMeter()
    own = []

    def reduce(sums: torch.Tensor, how: str) -> torch.Tensor:
        own.append(sums)
        return own[0] + own[1] if len(own) == 2 and how == "sum" else sums

    monkeypatch.setattr(tracking, "reduce", reduce)
    outputs = make_outputs([0.0, 0.0], [0.0, 0.0])
    meter.add(outputs, make_labels([1.0, 1.0]))
    meter.read()
    meter.add(outputs, make_labels([7.0, torch.nan]))
    assert meter.read()["mpjpe"] == pytest.approx((1 + 1 + 7) / 3)


def test_a_run_keeps_its_name(tmp_path):
    started = []
    accelerator = SimpleNamespace(log_with=[], is_main_process=True, print=started.append, wait_for_everyone=int)
    accelerator.init_trackers = lambda project, init_kwargs: started.append(init_kwargs["trackio"]["name"])
    output = tmp_path / "set" / "one"
    output.mkdir(parents=True)
    for _ in range(2):
        start_tracker(accelerator, "trackio", output)
    complaint, name, _, again = started
    assert "trackio is not installed" in complaint and name.startswith("set-one-") and again == name


def test_an_unknown_tracker_is_refused(recipe_values):
    with pytest.raises(ValueError, match="mirror"):
        TrainingRun(build(Recipe, {**recipe_values, "report_to": "mirror"}))
    assert Recipe().report_to == "trackio"


def test_people_to_draw_come_from_everywhere(pose_rows):
    plain = PoseExamples(JointDetrImageProcessorPil(size={"height": 32, "width": 32}), HUMAN36M)
    data = PoseMixture([PoseDataset(pose_rows, plain)])
    expected = torch.stack([data[row]["pixel_values"] for row in (0, 2, 4, 6)])
    assert torch.equal(people_to_draw(data)["pixel_values"], expected)


def test_a_picture_goes_to_wandb():
    sent = []
    tracker = SimpleNamespace(name="wandb", log_images=lambda values, step: sent.append((values, step)))
    picture = Image.new("RGB", (4, 4))
    send_picture(tracker, picture, 7)
    assert sent == [({"people": [picture]}, 7)]


def test_a_run_is_watched_in_tensorboard(recipe_values, tmp_path, capsys):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    schedule = {"max_steps": 9, "warmup_steps": 2}
    values = {"report_to": "tensorboard", "watch_steps": 4, "schedule": schedule}
    recipe_values["model"]["config"]["auxiliary_loss"] = True
    recipe = build(Recipe, recipe_values | values)
    train(recipe)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert not any("/" in line for line in lines)
    assert sum(" mpjpe" in line and "term loss_class" in line for line in lines) == 5
    pictures = sorted(path.name for path in (tmp_path / "run" / "pictures").iterdir())
    assert pictures == ["step-0000004.png", "step-0000008.png", "step-0000009.png"]

    events = EventAccumulator(str(tmp_path / "run" / tracking.PROJECT), {"images": 0, "scalars": 0})
    events.Reload()
    assert [event.step for event in events.Images("people")] == [4, 8, 9]
    for name in ("mpjpe", "mpjpe/0", "term/loss_joint_0", "learning_rate"):
        assert [event.step for event in events.Scalars(f"train/{name}")] == [2, 4, 6, 8, 9]


def test_a_run_without_matching_is_watched_in_trackio(recipe_values, tmp_path):
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    config = recipe_values["model"]["config"] | {"query_alignment": "fixed", "num_queries": None}
    values = {"report_to": "trackio", "watch_steps": 2, "evaluation": {}, "average_decay": 0.0}
    train(build(Recipe, recipe_values | values | {"model": {"config": config}}))
    name = (tmp_path / "run" / "run_name.txt").read_text().strip()
    logs = SQLiteStorage.get_logs(tracking.PROJECT, name)
    pictures = [entry for entry in logs if "people" in entry]
    assert [entry["step"] for entry in pictures] == [2, 4, 6]
    assert all(entry["people"]["_type"] == "trackio.image" for entry in pictures)
    measured = [entry for entry in logs if "train/mpjpe" in entry]
    assert [entry["step"] for entry in measured] == [2, 4, 6]
    assert all("train/mpjpe/0" in entry for entry in measured)
