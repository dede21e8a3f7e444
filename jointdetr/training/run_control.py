"""When a run ends, and when it evaluates and writes checkpoints."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from .schedule import main_process_seconds


class RunControl(TrainerCallback):
    """Stops a run when its time is over, and asks for checkpoints by the minute and evaluations by the epoch.

    All is asked for at the end of a step, where the checkpoint comes last: what was logged or evaluated by then is in
    it. Checkpoints wait for a step whose sums are logged, so that no sum has to go on after a resume.

    Args:
        checkpoint_minutes: minutes between checkpoints.
        every_epochs: epochs between evaluations; 0 for none.
        every_steps: optimiser steps between evaluations; 0 for none.
    """

    def __init__(self, checkpoint_minutes: float, every_epochs: int, every_steps: int = 0):
        self.checkpoint_minutes = checkpoint_minutes
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self._last_checkpoint = time.monotonic()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the checkpoints' clock."""
        self._last_checkpoint = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask for what is due, and for the end when there is no time left.

        All processes have to agree, as each writes its part of a checkpoint and waits for the others.
        """
        control.should_training_stop |= kwargs["lr_scheduler"].progress >= 1.0
        if control.should_training_stop:
            control.should_log = control.should_save = True
        else:
            control.should_evaluate |= self._evaluation_is_due(state)
            control.should_save |= state.global_step % state.logging_steps == 0 and self._checkpoint_is_due()

    def _evaluation_is_due(self, state: TrainerState) -> bool:
        """Whether so many epochs or steps are over; not at the end, where there is an evaluation anyway."""
        by_epochs = self.every_epochs and state.epoch % self.every_epochs == 0
        by_steps = self.every_steps and state.global_step % self.every_steps == 0
        return bool(by_epochs or by_steps) and state.global_step < state.max_steps

    def _checkpoint_is_due(self) -> bool:
        """Whether enough time has passed since the last one, by the main process's clock."""
        due = main_process_seconds(time.monotonic() - self._last_checkpoint) > 60.0 * self.checkpoint_minutes
        if due:
            self._last_checkpoint = time.monotonic()
        return due
