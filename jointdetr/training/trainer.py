"""What a `Trainer` of your own needs to train on a `PoseDataset`, see `examples/fine_tune_trainer.py`."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState


class AugmentationEpoch(TrainerCallback):
    """Tells the training data the epoch, so that every epoch has its own views.

    `Trainer` does so by itself in a plain run, but neither with several processes nor after a resume in mid-epoch:
    there accelerate tells the sampler alone. Workers start with the epoch, after this.
    """

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Pass on the number of the epoch that begins or, after a resume, goes on."""
        kwargs["train_dataloader"].dataset.set_epoch(int(state.epoch + 1e-6))
