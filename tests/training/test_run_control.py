"""When a run ends, evaluates and writes checkpoints."""

from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from jointdetr.training.run_control import RunControl


def asked_for(callback: RunControl, step: int, progress: float = 0.0) -> set[str]:
    """What is asked for at the end of a step of a run of 12 steps, three an epoch, which logs every second step."""
    state = TrainerState(global_step=step, epoch=step / 3, max_steps=12, logging_steps=2)
    control = TrainerControl(should_training_stop=step == 12)  # as `Trainer` has it
    callback.on_step_end(None, state, control, lr_scheduler=SimpleNamespace(progress=progress))
    return {name.removeprefix("should_") for name, asked in vars(control).items() if asked}


def test_a_run_ends_when_its_time_is_over():
    callback = RunControl(checkpoint_minutes=60, every_epochs=0)
    assert asked_for(callback, 2, progress=0.99) == set()
    assert asked_for(callback, 5, progress=1.0) == {"training_stop", "log", "save"}


def test_evaluations_come_every_so_many_epochs_but_not_at_the_end():
    callback = RunControl(checkpoint_minutes=60, every_epochs=2)
    assert [step for step in range(1, 13) if "evaluate" in asked_for(callback, step)] == [6]


def test_evaluations_come_every_so_many_steps_but_not_at_the_end():
    callback = RunControl(checkpoint_minutes=60, every_epochs=0, every_steps=4)
    assert [step for step in range(1, 13) if "evaluate" in asked_for(callback, step)] == [4, 8]


@pytest.mark.parametrize(("minutes", "steps"), [(1.0, [2, 4, 6, 8, 10, 12]), (2.0, [12])])
def test_checkpoints_come_by_the_main_processs_clock_when_the_log_is_complete(monkeypatch, minutes, steps):
    monkeypatch.setattr("jointdetr.training.run_control.main_process_seconds", lambda own: 90.0)
    callback = RunControl(checkpoint_minutes=minutes, every_epochs=0)
    assert [step for step in range(1, 13) if "save" in asked_for(callback, step)] == steps
