"""What a run shows of itself: measurements, matching, pictures, and the trackers they go to."""

from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessorPil
from jointdetr.data.examples import PoseDataset, PoseExamples, PoseMixture
from jointdetr.modeling_jointdetr import JointDetrPoseEstimationOutput
from jointdetr.skeleton_jointdetr import HUMAN36M
from jointdetr.training import tracking
from jointdetr.training.optimization import group_of_kind, parameter_groups
from jointdetr.training.recipe import OptimizerRecipe, Recipe, build
from jointdetr.training.tracking import (
    TrainingMeter,
    available_tracker,
    name_run,
    send_picture,
)
from jointdetr.training.train import train
from jointdetr.training.watching import Watched, changed_queries, what_to_watch


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
    costs = torch.tensor([0.5, 0.25])
    outputs = make_outputs([10.0, 30.0], [20.0, 60.0], matched_queries=queries, matching_cost=costs)
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
            "matching_cost/0": 0.5,
            "matching_cost/1": 0.25,
            "mpjpe/0": (1 + 3 + 4) / 3,
            "mpjpe": (11 + 47 + 14) / 3,
        }
    )
    assert meter.batches == 0
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


def test_changed_queries_by_hand():
    before = torch.tensor([[[0, 1, 2], [3, 4, 5]], [[0, 1, 2], [3, 4, 5]]])  # (layers, rows, joints)
    now = torch.tensor([[[0, 2, 1], [3, 4, 9]], [[0, 1, 2], [4, 3, 5]]])
    labelled = torch.tensor([[True, True, True], [True, True, False]])
    assert changed_queries(before, now, labelled) == pytest.approx({"queries_changed/0": 0.4, "queries_changed": 0.4})
    labelled[1] = False
    assert changed_queries(before, now, labelled)["queries_changed"] == 0.0


def test_what_is_watched_are_the_first_rows_and_people_from_everywhere(pose_rows, pose_folder):
    plain = PoseExamples(JointDetrImageProcessorPil(size={"height": 32, "width": 32}), HUMAN36M)
    evaluation = PoseMixture([PoseDataset(pose_rows, plain)])
    first = {"path": str(pose_folder), "limit": 5}
    stored, stream, drawn = (
        what_to_watch(build(Recipe, {"train": data, "schedule": {"max_steps": 1}}), plain, evaluation)
        for data in ({"sources": [first]}, {"sources": [first], "streaming": True}, {"synthesis": {}})
    )
    assert [watched.every_steps for watched in (stored, stream, drawn)] == [None, 1000, 1000]
    expected = torch.stack([evaluation[row]["pixel_values"] for row in range(8)])
    for watched, rows in ((stored, 5), (stream, 5), (drawn, 8)):
        probe = torch.stack([example["pixel_values"] for example in watched.probe])
        people = torch.stack([example["pixel_values"] for example in watched.people])
        assert torch.equal(probe, expected[:rows])
        assert torch.equal(people, expected[::2])
    alone = what_to_watch(build(Recipe, {"train": {"sources": [first]}, "watch_steps": 7}), plain, None)
    assert alone.every_steps == 7
    assert all(one is other for one, other in zip(alone.people, alone.probe[:4], strict=True))


def test_every_kind_of_parameter_has_its_rate(tiny_model_folder):
    model = JointDetrForPoseEstimation.from_pretrained(tiny_model_folder)
    for multiplier, rate in ((0.5, 0.5), (1.0, 1.0)):
        settings = OptimizerRecipe(learning_rate=1.0, backbone_multiplier=multiplier, sampling_multiplier=0.1)
        groups = parameter_groups(model, settings)
        rates = {kind: groups[number]["lr"] for kind, number in group_of_kind(model, groups).items()}
        assert rates == {"backbone": rate, "sampling": 0.1, "rest": 1.0}


def test_a_run_is_named_once(tmp_path):
    name = name_run(tmp_path / "set" / "one", resumed=False)
    assert name.startswith("set-one-")
    (tmp_path / tracking.RUN_NAME_FILE).write_text("first name\n")
    assert name_run(tmp_path, resumed=True) == "first name"
    assert name_run(tmp_path, resumed=False) != "first name"


def test_without_trackio_the_console_has_to_do(monkeypatch, capsys):
    monkeypatch.setattr(tracking, "is_trackio_available", lambda: False)
    assert available_tracker("trackio") is None
    assert 'pip install "jointdetr[train]"' in capsys.readouterr().out
    assert available_tracker("none") is None
    assert available_tracker("tensorboard") == "tensorboard"
    with pytest.raises(ValueError, match="`report_to` must be none or a tracker that is installed, .*, got 'mirror'"):
        available_tracker("mirror")
    assert Recipe().report_to == "trackio"


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
    values = {"report_to": "tensorboard", "watch_steps": None, "schedule": schedule}
    recipe_values["model"]["config"]["auxiliary_loss"] = True
    recipe = build(Recipe, recipe_values | values)
    train(recipe)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert not any("/" in line for line in lines)
    assert sum("queries_changed" in line for line in lines) == 1  # after the second epoch; the third is cut short
    assert sum(" mpjpe" in line and "term loss_class" in line for line in lines) == 5
    pictures = sorted(path.name for path in (tmp_path / "run" / "pictures").iterdir())
    assert pictures == ["step-0000004.png", "step-0000008.png", "step-0000009.png"]

    events = EventAccumulator(str(tmp_path / "run" / tracking.PROJECT), {"images": 0, "scalars": 0})
    events.Reload()
    assert [event.step for event in events.Images("people")] == [4, 8, 9]
    names = ("mpjpe", "mpjpe/0", "matching_cost/0", "matching_cost/1", "term/loss_joint_0", "learning_rate/sampling")
    for name in names:
        assert [event.step for event in events.Scalars(f"train/{name}")] == [2, 4, 6, 8, 9]
    (changed,) = events.Scalars("train/queries_changed/0")
    assert changed.step == 8 and 0.0 <= changed.value <= 1.0
    rates = [[event.value for event in events.Scalars(f"train/learning_rate{kind}")] for kind in ("", "/rest")]
    assert rates[0] == rates[1]
    kept = torch.load(tmp_path / "run" / "checkpoint-9" / "custom_checkpoint_2.pkl")["queries"]
    assert kept.shape == (2, 8, 17)


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
    assert all("train/mpjpe/0" in entry and "train/matching_cost/0" not in entry for entry in measured)


@pytest.mark.parametrize(("steps_an_epoch", "looks"), [(1, [10, 20, 30]), (4, [12, 20, 32]), (16, [16, 32])])
def test_epochs_shorter_than_the_steps_between_lines_are_not_all_looked_at(steps_an_epoch, looks):
    watched = Watched([], [], HUMAN36M, PoseExamples(JointDetrImageProcessorPil(), HUMAN36M).cropper)
    assert [step for step in range(1, 33) if watched.is_due(step, steps_an_epoch, log_steps=10)] == looks
