"""Folders that are whole or not there: checkpoints, and the final model.

A checkpoint is written into a folder aside and renamed once every process has written its part. So a run may be
killed at any time, or the disk be full, and every folder named `checkpoint-*` is whole. Several machines need an
output folder that all of them see.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError

KEPT_CHECKPOINTS = 2


def find_checkpoints(output: Path) -> list[Path]:
    """All checkpoints of a run, the oldest first."""
    matches = [(re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in output.glob("checkpoint-*")]
    return [path for _, path in sorted((int(match[1]), path) for match, path in matches if match)]


def remove_old_checkpoints(output: Path) -> None:
    """Keep the newest checkpoints."""
    for folder in find_checkpoints(output)[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Let all processes write a folder that gets its name, in the place of what has it, when it is complete.

    If a process cannot write, as on a full disk, all processes raise `OSError`, and nothing is left of the folder.
    """
    state = PartialState()
    aside = folder.parent / ".unfinished" / folder.name
    if state.is_main_process:
        shutil.rmtree(aside.parent, ignore_errors=True)  # what a killed run has left
    state.wait_for_everyone()
    report = failure = None
    try:
        aside.mkdir(parents=True, exist_ok=True)
        yield aside
    except (OSError, SafetensorError, RuntimeError) as error:  # the last is `torch.save`'s on a full disk
        space = shutil.disk_usage(folder.parent).free / 1e6
        report, failure = f"{space:.1f} MB were left on the disk: {error}", error
    reports = [report for report in gather_object([report]) if report is not None]
    if state.is_main_process:
        if not reports:
            _rename(aside, folder)
        shutil.rmtree(aside.parent, ignore_errors=True)
    state.wait_for_everyone()
    if reports:
        raise OSError(f"{folder} could not be written, what was there before is whole; {reports[0]}") from failure


def _rename(aside: Path, folder: Path) -> None:
    """Give a folder its name, in the place of whatever had it."""
    if folder.exists():
        os.replace(folder, aside.with_name(f"{folder.name}.replaced"))
    os.replace(aside, folder)
