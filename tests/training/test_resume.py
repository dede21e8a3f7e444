"""Runs that are killed and resumed end as one that was left alone, bit by bit, and in one process as in two."""

import json
import random
import time
from pathlib import Path

import datasets
import pytest
import torch
from pose_examples import make_row, make_rows
from processes import KILLED, kill_after, kill_now, run_forked
from safetensors.torch import load_file

from jointdetr.training import checkpoints
from jointdetr.training.recipe import Recipe, build
from jointdetr.training.train import TrainingRun, train

TIMES = ("second", "runtime")  # entries of the log that no two runs share
STEPS = 9


@pytest.fixture(autouse=True)
def hasty_datasets(monkeypatch):
    """At the end of every pass `datasets` waits five seconds for threads that read Parquet."""
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)


@pytest.fixture
def stored(recipe_values) -> dict:
    """Rows with random access: two batches a step, two steps an epoch, after each of which it evaluates and looks."""
    values = {**recipe_values, "checkpoint_minutes": 0.0, "accumulation": 2, "average_decay": 0.9}
    values["schedule"] = {"max_steps": STEPS, "warmup_steps": 2}
    values["train"] = {**values["train"], "workers": 1}
    return values | {"log_steps": 1, "watch_steps": None}


@pytest.fixture
def streamed(stored, tmp_path) -> dict:
    """Rows of six files, shuffled, and read by two workers."""
    folder = tmp_path / "shards"
    folder.mkdir()
    rows = make_rows([make_row(seed) for seed in range(18)])
    for number in range(6):
        rows.select(range(3 * number, 3 * number + 3)).to_parquet(folder / f"train-{number:05d}-of-00006.parquet")
    data = {"sources": [{"path": str(folder)}], "streaming": True, "shuffle_buffer": 4, "workers": 2}
    stored["evaluation"] = {**stored["evaluation"], "every_steps": 4}
    return stored | {"train": data, "log_steps": 2, "watch_steps": 4}


def run(values: dict, death: tuple[str, int, float] | None = None) -> None:
    """Begin a run or go on with it, perhaps not to its end."""
    if death is not None:
        prepare(*death)
    recipe = build(Recipe, values)
    train(recipe, resume=any(Path(recipe.output).glob("checkpoint-*")))


def prepare(where: str, step: int, delay: float) -> None:
    """Let this process kill itself.

    Args:
        where: `anywhere` after a step has been computed, before the `naming` of a checkpoint, or at the `end`, before
            the final model gets its name.
        step: from which on.
        delay: seconds after the step, if it is anywhere.
    """
    check, rename = TrainingRun.require_finite, checkpoints._rename
    now = 0

    def reach(run: TrainingRun) -> None:
        nonlocal now
        now = run.step + 1
        check(run)
        if where == "anywhere" and now == step:
            kill_after(delay)

    def give_name(aside: Path, folder: Path) -> None:
        dies = now >= step if where == "naming" else where == "end" and folder.name == "final"
        kill_now() if dies else rename(aside, folder)

    TrainingRun.require_finite, checkpoints._rename = reach, give_name


def kill_and_resume(values: dict, deaths: list[str], processes: int = 1) -> None:
    """Run once undisturbed, and once with some violent ends; what both leave must be the same."""
    output, seed = Path(values["output"]), random.randrange(1 << 32)
    print(f"seed {seed}")
    draws = random.Random(seed)
    whole, log, ended = output.with_name("whole"), output.with_name("log.txt"), [0] * processes
    began = time.monotonic()
    assert run_forked(lambda: run({**values, "output": str(whole)}), log, processes) == ended, log.read_text()
    step_seconds = (time.monotonic() - began) / STEPS
    for number, where in enumerate(deaths):
        step = draws.randrange(number * (STEPS - 1) // len(deaths), (number + 1) * (STEPS - 1) // len(deaths)) + 1
        death = (where, step, draws.uniform(0.0, step_seconds))
        codes = run_forked(lambda death=death: run(values, death), log, processes)
        print(f"killed {death}, left {sorted(path.name for path in output.glob('checkpoint-*'))}")
        assert KILLED in codes, log.read_text()
    assert run_forked(lambda: run(values), log, processes) == ended, log.read_text()
    assert_same(output, whole)


def assert_same(first: Path, second: Path) -> None:
    """Compare two runs: evaluation and log but for what measures time, and all weights bit by bit."""
    for name in ("evaluation.json", "log.json"):
        assert without_times(first / name) == without_times(second / name)
    weights, others = (load_file(output / "final" / "model.safetensors") for output in (first, second))
    assert weights.keys() == others.keys()
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []


def without_times(path: Path) -> list[dict]:
    """Entries of a log, or an evaluation."""
    content = json.loads(path.read_text(), parse_constant=str)  # NaN is NaN
    entries = content if isinstance(content, list) else [content]
    return [{name: value for name, value in entry.items() if not any(t in name for t in TIMES)} for entry in entries]


@pytest.mark.parametrize(
    ("kind", "deaths"),
    [("stored", ["anywhere", "naming", "anywhere", "end"]), ("streamed", ["anywhere", "anywhere", "naming"])],
)
def test_a_run_that_is_killed_three_times_ends_as_one_left_alone(kind, deaths, request):
    kill_and_resume(request.getfixturevalue(kind), deaths)


@pytest.mark.parametrize("kind", ["stored", "streamed"])
def test_a_run_of_two_processes_that_is_killed_ends_as_one_left_alone(kind, request):
    values = request.getfixturevalue(kind)
    values["train"]["workers"] = 0 if kind == "stored" else 1
    kill_and_resume({**values, "accumulation": 1, "watch_steps": 0}, ["anywhere"], processes=2)
