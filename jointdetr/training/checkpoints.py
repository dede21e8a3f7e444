"""Folders that are whole or not there: checkpoints, and the final model.

A checkpoint is written into a folder aside and renamed once every process has written its part. So a run may be
killed at any time, or the disk be full, and every folder named `checkpoint-*` is whole.

Several machines need an output folder that all of them see.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError, safe_open

KEPT_CHECKPOINTS = 2

_ASIDE = ".unfinished"
# what `zipfile` raises depends on what has been damaged: names that are no text, methods and flags that do not exist
_ZIP_ERRORS = (BadZipFile, EOFError, UnicodeDecodeError, NotImplementedError, RuntimeError)
_WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)  # the last is what `torch.save` raises on a full disk


def last_checkpoint(output: Path) -> Path:
    """Find the checkpoint to resume from, the newest.

    Raises:
        ValueError: There is none, or a file of it is damaged. Nothing is removed.
    """
    *earlier, newest = _checkpoints(output) or [None]
    if newest is None:
        raise ValueError(f"there must be a checkpoint in {output} to resume from, got none")
    damaged = next((path for path in sorted(newest.iterdir()) if not _is_whole(path)), None)
    if damaged is not None:
        then = f"goes on from {earlier[-1].name}" if earlier else "cannot go on: train anew"
        raise ValueError(f"{damaged} is damaged: move {newest.name} away, and --resume {then}")
    return newest


def _is_whole(path: Path) -> bool:
    """Whether a file of a checkpoint is what was written, as far as its format tells: its size or its checksums."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                return True
        if path.suffix in (".bin", ".pkl"):  # of `torch.save`
            with ZipFile(path) as archive:
                return archive.testzip() is None
    except (SafetensorError, *_ZIP_ERRORS):
        return False
    return True


def remove_old_checkpoints(output: Path) -> None:
    """Keep the newest checkpoints."""
    for folder in _checkpoints(output)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Let all processes write a folder that is never seen half-written: it gets its name when it is complete.

    Args:
        folder: its name; what has that name is replaced.

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
            for path in aside.rglob("*"):
                _flush(path)
            _rename(aside, folder)
    except OSError as error:
        failure = error
    _require_success(failure, folder, aside)


def _checkpoints(output: Path) -> list[Path]:
    """All checkpoints of a run, the oldest first."""
    matches = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in output.glob("checkpoint-*")]
    return [path for _, path in sorted((int(match[1]), path) for match, path in matches if match)]


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
    _flush(folder.parent)
    shutil.rmtree(aside.parent, ignore_errors=True)


def _flush(path: Path) -> None:
    """Bring a file or a folder to the disk, so that a power cut does not undo it."""
    if path.is_dir() and os.name != "posix":  # elsewhere folders cannot be flushed
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
