"""What happens when training diverges: a loss or gradient that is no number stops the run, and its batch is kept.

Shape vocabulary: batch, as in `jointdetr/data/examples.py`. A step may have several batches (`accumulation`).
"""

import json
import math
from pathlib import Path
from typing import Any

import torch

BATCH_FILE = "batches.pt"
DESCRIPTION_FILE = "step.json"


class StepGuard:
    """Looks at every optimiser step before it is taken.

    Args:
        output: folder for the batches of a step that went wrong.
        process: number of this process.
    """

    def __init__(self, output: Path, process: int):
        self.output = output
        self.process = process
        self._batches: list[dict[str, Any]] = []
        self._losses: list[torch.Tensor] = []

    def add(self, batch: dict[str, Any], loss: torch.Tensor) -> None:
        """Take note of a batch of the step, and of its loss `()`."""
        self._batches.append(batch)
        self._losses.append(loss)

    def check(self, step: int, gradient_norm: float | None) -> None:
        """Let a step pass if its losses and the norm of its gradient are finite.

        Raises:
            FloatingPointError: They are not. The step's batches are in the folder that the message names.
        """
        losses = torch.stack(self._losses)
        if not torch.isfinite(losses).all() or not math.isfinite(gradient_norm or 0.0):
            self._stop({"step": step, "losses": [str(loss) for loss in losses.tolist()], "norm": str(gradient_norm)})
        self._batches, self._losses = [], []

    def _stop(self, description: dict[str, Any]) -> None:
        folder = self.output / f"diverged-step-{description['step']}-process-{self.process}"
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self._batches, folder / BATCH_FILE)
        (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n")
        losses = ", ".join(description["losses"])
        raise FloatingPointError(
            f"step {description['step']} has a loss of {losses} in process {self.process} and a gradient of norm "
            f"{description['norm']}, expected finite ones. The step was not taken, and the checkpoints are of earlier "
            f"ones; its data are in {folder / BATCH_FILE}"
        )


def load_batches(path: str | Path) -> list[dict[str, Any]]:
    """Read the batches of a step that went wrong, as the model took them: `model(**load_batches(path)[0])`."""
    return torch.load(path, map_location="cpu", weights_only=True)
