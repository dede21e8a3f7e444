"""Runs that are killed and resumed end as one that was left alone, bit by bit."""

import json
import random
import time
from pathlib import Path

import datasets
import pytest
import torch
from pose_examples import make_row, make_rows
from processes import kill_after, kill_now, run_forked
from safetensors.torch import load_file

from jointdetr.training import checkpoints
from jointdetr.training.recipe import Recipe, build
from jointdetr.training.train import train

TIMES = ("second", "runtime", "total_flos")  # entries of the log that no two runs share


@pytest.fixture(autouse=True)
def hasty_datasets(monkeypatch):
    """At the end of every pass `datasets` waits five seconds for threads that read Parquet."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)


@pytest.fixture
def stored(recipe_values) -> dict:
    """Rows with random access, two batches a step, five epochs of two steps; evaluations on the way."""
    values = {**recipe_values, "checkpoint_minutes": 0.0, "accumulation": 2, "average_decay": 0.9}
    values["schedule"] = {"max_steps": 10, "warmup_steps": 2}
    values["train"] = {**values["train"], "workers": 1}
    return values | {"log_steps": 1, "watch_steps": None}


@pytest.fixture
def streamed(stored, tmp_path) -> dict:
    """A stream of three files that is shuffled and read by two workers."""
    folder = tmp_path / "shards"
    folder.mkdir()
    rows = make_rows([make_row(seed) for seed in range(18)])
    for number in range(6):
        rows.select(range(3 * number, 3 * number + 3)).to_parquet(folder / f"train-{number:05d}-of-00006.parquet")
    data = {"sources": [{"path": str(folder)}], "streaming": True, "shuffle_buffer": 4, "workers": 2}
    stored["evaluation"] = {**stored["evaluation"], "every_steps": 4}
    return stored | {"train": {**data, "dense_reduction": 4}, "log_steps": 2, "watch_steps": 4}


def run(values: dict, life: str = "", delay: float = 0.0) -> None:
    """Begin a run or go on with it, and kill it on the way, in what `life` says or after some time."""
    if life:
        kill_in(life, delay)
    recipe = build(Recipe, values)
    train(recipe, resume=any(Path(recipe.output).glob("checkpoint-*")))


def kill_in(life: str, delay: float) -> None:
    if life == "listing":  # the checkpoint has all its files, but no list
        checkpoints._flush = lambda path: kill_now()
    elif life == "naming":
        checkpoints._rename = lambda aside, folder: kill_now()
    elif life == "final":
        checkpoints._rename = killing_at_final(checkpoints._rename)
    else:
        kill_after(delay)


def killing_at_final(rename):
    return lambda aside, folder: kill_now() if folder.name == "final" else rename(aside, folder)


def what_is_left(output: Path) -> tuple[dict[str, torch.Tensor], list[dict], dict]:
    """Weights, log and evaluation of a finished run."""
    log = json.loads((output / "trainer_state.json").read_text())["log_history"]
    log = [{name: value for name, value in entry.items() if not any(t in name for t in TIMES)} for entry in log]
    evaluation = json.loads((output / "evaluation.json").read_text())
    evaluation = {name: value for name, value in evaluation.items() if not any(t in name for t in TIMES)}
    return load_file(output / "final" / "model.safetensors"), log, evaluation


def assert_same(first: Path, second: Path) -> None:
    for one, other in zip(what_is_left(first)[1:], what_is_left(second)[1:], strict=True):
        assert one == other
    weights, others = what_is_left(first)[0], what_is_left(second)[0]
    assert weights.keys() == others.keys()
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []


def kill_three_times(values: dict, lives: list[str], processes: int = 1) -> Path:
    """Run once undisturbed, and once with three violent ends; returns the folder of the latter."""
    output = Path(values["output"])
    log = output.with_suffix(".log")
    began = time.monotonic()
    whole = {**values, "output": str(output) + "-whole"}
    assert run_forked(lambda: run(whole), log, processes) == [0] * processes, log.read_text()
    duration = time.monotonic() - began
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    draws = random.Random(seed)
    for life in lives:
        delay = draws.uniform(0.3, 0.9) * duration
        codes = run_forked(lambda life=life, delay=delay: run(values, life, delay), log, processes)
        print(f"killed: {life} {delay:.2f} of {duration:.2f} s, {codes}, {sorted(p.name for p in output.iterdir())}")
    assert run_forked(lambda: run(values), log, processes) == [0] * processes, log.read_text()
    return output


@pytest.mark.parametrize("kind", ["stored", "streamed"])
def test_a_run_that_is_killed_three_times_ends_as_one_left_alone(kind, request):
    values = request.getfixturevalue(kind)
    output = kill_three_times(values, ["anywhere", "listing", "anywhere"])
    assert_same(output, Path(str(output) + "-whole"))
