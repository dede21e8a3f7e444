"""What happens when training diverges: a loss or gradient that is no number stops the run, and its batch is kept.

Shape vocabulary: batch, as in `jointdetr/data/examples.py`. A step may have several batches (`accumulation`).
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

BATCH_FILE = "batches.safetensors"
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
        save_batches(self._batches, folder / BATCH_FILE)
        (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n")
        losses = ", ".join(description["losses"])
        raise FloatingPointError(
            f"step {description['step']} has a loss of {losses} in process {self.process} and a gradient of norm "
            f"{description['norm']}, expected finite ones. The step was not taken, and the checkpoints are of earlier "
            f"ones; its data are in {folder / BATCH_FILE}"
        )


def save_batches(batches: list[dict[str, Any]], path: Path) -> None:
    """Write batches of tensors in dictionaries and lists, which `load_batches` reads."""
    save_file({name: tensor.cpu().clone().contiguous() for name, tensor in _flat(batches).items()}, path)


def load_batches(path: str | Path) -> list[dict[str, Any]]:
    """Read the batches of a step that went wrong, as the model took them: `model(**load_batches(path)[0])`."""
    nested: dict[str, Any] = {}
    for name, tensor in load_file(path).items():
        *parents, last = name.split("/")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = tensor
    return _with_lists(nested)


def _flat(value: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """Tensors of nested dictionaries and lists by their path, as `0/labels/3/visible`."""
    if isinstance(value, torch.Tensor):
        return {prefix.rstrip("/"): value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {name: tensor for key, item in items for name, tensor in _flat(item, f"{prefix}{key}/").items()}


def _with_lists(value: Any) -> Any:
    """Turn dictionaries with the keys 0, 1, 2, ... into lists, all the way down."""
    if not isinstance(value, dict):
        return value
    if all(key.isdigit() for key in value):
        return [_with_lists(value[key]) for key in sorted(value, key=int)]
    return {key: _with_lists(item) for key, item in value.items()}
