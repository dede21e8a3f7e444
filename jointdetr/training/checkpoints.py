"""Checkpoints that are whole or not there, and from which a run goes on exactly.

A checkpoint is written into a folder aside. Once every process has written its part, the main one lists all files with
their sizes and checksums in `checkpoint.json`, and renames the folder. So a run may be killed at any time, or the disk
be full, and every folder named `checkpoint-*` is whole; what happens to one later is found out by its list.

A run that was killed and resumed, however often, ends with the weights of one that was left alone, bit by bit, and
with its log, but for the entries that measure time. That holds in fp32 on a CPU with the same number of processes,
data workers and threads, and with a schedule by steps or epochs: with `schedule.max_minutes` the learning rate follows
the clock, and no two runs have the same. A GPU is as exact as its kernels are.

Several machines need an output folder that all of them see.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch import nn
from transformers import Trainer, TrainerCallback

CONTENTS_FILE = "checkpoint.json"
KEPT_CHECKPOINTS = 2

_ASIDE = ".unfinished"
_PIECE_BYTES = 1 << 20
_WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)  # the last is what `torch.save` raises on a full disk

logger = logging.getLogger(__name__)


class CheckpointPart(TrainerCallback, ABC):
    """A callback with a state that belongs into the checkpoints; it reads it back when training begins."""

    @abstractmethod
    def write_part(self, folder: Path) -> None:
        """Write the state into a checkpoint; every process is asked to."""


class CheckpointTrainer(Trainer):
    """`Trainer` whose checkpoints are whole, hold the parts of its callbacks, and can be of the end of the run."""

    _aside: Path | None = None

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write a checkpoint aside, with all its parts, and give it its name when it is complete."""
        output = Path(self.args.output_dir)
        with written_aside(output / f"checkpoint-{self.state.global_step}", seal) as folder:
            self._aside = folder.parent
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._aside = None
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, CheckpointPart):
                    callback.write_part(folder)
            if self.is_world_process_zero():
                (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle, which nothing reads
        if self.is_world_process_zero():
            remove_old_checkpoints(output, self.state.global_step)

    def _get_output_dir(self, trial: Any) -> str:
        """Where `Trainer` makes the folder of a checkpoint."""
        return super()._get_output_dir(trial) if self._aside is None else str(self._aside)

    def _run_epoch(self, **kwargs: Any) -> None:
        """Train for an epoch; not if the run goes on from its own end, where `Trainer` would take one more step."""
        if self.state.global_step >= self.state.max_steps or self.lr_scheduler.progress >= 1.0:
            self.control.should_training_stop = True
        else:
            super()._run_epoch(**kwargs)


def last_whole_checkpoint(output: Path) -> Path:
    """Find the checkpoint to resume from: the newest one that is whole. A damaged one is named in a warning.

    Raises:
        ValueError: There is none.
    """
    folders = _checkpoints(output)
    for _, folder in reversed(folders):
        damage = find_damage(folder)
        if damage is None:
            return folder
        logger.warning("%s is damaged and not used: %s", folder, damage)
    found = "damaged ones alone" if folders else "none"
    raise ValueError(f"there must be a checkpoint in {output} to resume from, got {found}")


def find_damage(folder: Path) -> str | None:
    """Say what is wrong with a checkpoint, compared with the list of its files; None if it is whole."""
    try:
        contents = json.loads((folder / CONTENTS_FILE).read_bytes())["files"]
    except FileNotFoundError:
        return f"it has no {CONTENTS_FILE}"
    except (ValueError, KeyError, TypeError) as error:
        return f"its {CONTENTS_FILE} cannot be read ({error!r})"
    for name, expected in contents.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes, expected {expected['bytes']}"
        if _checksum(path) != expected["sha256"]:
            return f"{name} has another content than was written"
    return None


def seal(folder: Path) -> None:
    """List the files of a complete checkpoint, with their sizes and checksums, and bring them to the disk."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": _checksum(path)}
        _flush(path)
    contents = folder / CONTENTS_FILE
    contents.write_text(json.dumps({"files": files}, indent=2) + "\n")
    _flush(contents)


@contextmanager
def written_aside(folder: Path, finish: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Let all processes write a folder that is never seen half-written: it gets its name when it is complete.

    Args:
        folder: its name; what has that name is replaced.
        finish: what the main process does with the folder when all have written their part.

    Raises:
        OSError: A process could not write, as on a full disk. All processes raise it; nothing is left of the folder.
    """
    state = PartialState()
    aside = folder.parent / _ASIDE / folder.name
    if state.is_main_process:
        shutil.rmtree(aside.parent, ignore_errors=True)  # what a killed run has left
    state.wait_for_everyone()
    failure = None
    try:
        aside.mkdir(parents=True, exist_ok=True)
        yield aside
    except _WRITE_ERRORS as error:
        failure = error
    _require_success(failure, folder, aside)
    try:
        if state.is_main_process:
            if finish is not None:
                finish(aside)
            _rename(aside, folder)
    except OSError as error:
        failure = error
    _require_success(failure, folder, aside)


def remove_old_checkpoints(output: Path, step: int) -> None:
    """Keep the newest checkpoints up to a step; those after it are damaged ones that the run did not go on from."""
    folders = _checkpoints(output)
    kept = [folder for number, folder in folders if number <= step][-KEPT_CHECKPOINTS:]
    for _, folder in folders:
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def _checkpoints(output: Path) -> list[tuple[int, Path]]:
    """All checkpoints of a run by their step, the oldest first."""
    matches = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in output.glob("checkpoint-*")]
    return sorted((int(match[1]), path) for match, path in matches if match and path.is_dir())


def _require_success(failure: Exception | None, folder: Path, aside: Path) -> None:
    """Raise in all processes what one of them ran into, and remove what was written."""
    own = None
    if failure is not None:
        space = shutil.disk_usage(folder.parent).free / 1e6
        own = f"{space:.1f} MB were left on the disk: {failure}"
    reasons = [reason for reason in gather_object([own]) if reason is not None]
    if reasons:
        if PartialState().is_main_process:
            shutil.rmtree(aside.parent, ignore_errors=True)
        raise OSError(f"{folder} could not be written, what was there before is whole; {reasons[0]}") from failure


def _rename(aside: Path, folder: Path) -> None:
    """Give a folder its name, in the place of whatever had it."""
    if folder.exists():
        os.replace(folder, aside.with_name(f"{folder.name}.replaced"))
    os.replace(aside, folder)
    if os.name == "posix":  # elsewhere folders cannot be flushed
        _flush(folder.parent)
    shutil.rmtree(aside.parent, ignore_errors=True)


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    """Bring a file or a folder to the disk, so that a power cut does not undo it."""
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
