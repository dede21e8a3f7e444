"""Checkpoints are whole or not there."""

import resource
from pathlib import Path

import pytest
import torch
from processes import run_forked
from safetensors.torch import load_file

from jointdetr.training import train as train_module
from jointdetr.training.checkpoints import (
    find_checkpoints,
    remove_old_checkpoints,
    written_aside,
)
from jointdetr.training.recipe import Recipe, build
from jointdetr.training.train import TrainingRun, train


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """Three checkpoints, and what is none."""
    for step in (9, 90, 100):
        with written_aside(tmp_path / f"checkpoint-{step}") as folder:
            (folder / "shards").mkdir()
            (folder / "shards" / "weights").write_bytes(bytes(range(200)))
            (folder / "state").write_text(f"step {step}")
    (tmp_path / "checkpoint-notes").mkdir()
    return tmp_path


def test_the_newest_checkpoint_is_resumed_from(run_folder, tmp_path):
    (run_folder / ".unfinished" / "checkpoint-200").mkdir(parents=True)
    assert find_checkpoints(run_folder)[-1] == run_folder / "checkpoint-100"
    assert find_checkpoints(tmp_path / "nowhere") == []


def test_old_checkpoints_go(run_folder):
    remove_old_checkpoints(run_folder)
    assert sorted(path.name for path in run_folder.iterdir()) == [
        "checkpoint-100",
        "checkpoint-90",
        "checkpoint-notes",
    ]


def test_a_folder_is_replaced_at_once(run_folder):
    with written_aside(run_folder / "checkpoint-9") as folder:
        (folder / "state").write_text("new")
        assert (run_folder / "checkpoint-9" / "state").read_text() == "step 9"
    assert [path.name for path in (run_folder / "checkpoint-9").iterdir()] == ["state"]


def test_if_one_process_cannot_write_no_process_has_a_checkpoint(tmp_path):
    def work() -> None:
        import os

        from accelerate import PartialState

        process = PartialState(cpu=True).process_index
        with written_aside(tmp_path / "checkpoint-5") as folder:
            (folder / f"part-{process}").write_text("all of it")
        with (
            pytest.raises(OSError, match="checkpoint-6 could not be written.*disk of process 1 is full"),
            written_aside(tmp_path / "checkpoint-6") as folder,
        ):
            (folder / f"part-{process}").write_text("all of it")
            if process == 1:
                raise OSError("the disk of process 1 is full")
        os._exit(7)

    log = tmp_path / "log.txt"
    assert run_forked(work, log, processes=2) == [7, 7], log.read_text()
    assert find_checkpoints(tmp_path) == [tmp_path / "checkpoint-5"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-5", "log.txt"]
    parts = {path.name for path in (tmp_path / "checkpoint-5").iterdir()}
    assert parts == {"part-0", "part-1"}


def test_a_full_disk_stops_the_run_and_leaves_the_earlier_checkpoints_whole(recipe_values, tmp_path):
    """The system refuses to let files grow, as on a full disk; here by a limit of the process."""

    def work() -> None:
        check = TrainingRun.require_finite

        def fill_the_disk(run: TrainingRun) -> None:
            check(run)
            if run.step == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

        TrainingRun.require_finite = fill_the_disk
        train(build(Recipe, {**recipe_values, "checkpoint_minutes": 0.0, "log_steps": 1, "evaluation": {}}))

    log, output = tmp_path / "log.txt", tmp_path / "run"
    assert run_forked(work, log) == [1]
    assert "OSError" in log.read_text() and "checkpoint-4 could not be written" in log.read_text()
    assert "MB were left on the disk" in log.read_text()
    found = sorted(path.name for path in output.iterdir() if path.is_dir())
    assert found == ["checkpoint-2", "checkpoint-3"]
    for name in found:
        load_file(output / name / "model.safetensors")
        torch.load(output / name / "optimizer.bin", weights_only=True)


def test_checkpoints_come_at_the_first_line_of_the_log_after_so_many_minutes(recipe_values, monkeypatch):
    """A step takes 25 seconds of this clock, a line comes every other step: 50 seconds, 100 > 60, then 50 again."""
    values = {**recipe_values, "evaluation": {}, "checkpoint_minutes": 1.0, "log_steps": 2, "watch_steps": 0}
    values["schedule"] = {"max_steps": 11, "warmup_steps": 1}
    run = TrainingRun(build(Recipe, values))
    now, saved = run._last_checkpoint, []
    monkeypatch.setattr(train_module.time, "monotonic", lambda: now + 25.0 * (run.step + 1))
    monkeypatch.setattr(run, "save_checkpoint", lambda: saved.append(run.step))
    run._last_checkpoint += 25.0
    run.take_steps()
    assert saved == [4, 8, 11]  # the last is the end's
