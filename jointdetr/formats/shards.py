"""Files of a data set written by many processes, so that a run may be killed at any time and be taken up again.

A piece of work leaves one file behind. Whoever works on it holds a lock that ends with its holder; what is unfinished
has another name, and gets its own when it is complete. So several processes, on one machine or on several that share a
file system with locks, may fill one folder, and what is there is whole.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

POLL_SECONDS = 0.5

OnProgress = Callable[[int], None]


def open_folder(folder: Path, settings_file: str, settings: dict[str, Any]) -> bool:
    """Make the folder of a data set with a record of its settings, or check that it was made for these.

    Several processes may do so at once.

    Returns:
        Whether it is new.

    Raises:
        ValueError: The folder holds a data set of other settings, or data of unknown origin.
    """
    (folder / ".locks").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".locks" / "opening.lock"):
        return _open_folder(folder, folder / settings_file, settings)


def _open_folder(folder: Path, recorded: Path, settings: dict[str, Any]) -> bool:
    """Do what `open_folder` says, while no other process does."""
    is_new = not recorded.exists()
    if not is_new:
        found = json.loads(recorded.read_text())
        different = sorted(name for name in settings | found if settings.get(name) != found.get(name))
        if different:
            pairs = ", ".join(f"{name}={found.get(name)!r} (asked for {settings.get(name)!r})" for name in different)
            raise ValueError(
                f"{folder} holds a dataset of other settings: {pairs}; expected the same or an empty folder"
            )
    elif (folder / "data").exists():
        raise ValueError(f"{folder} must be empty or hold {recorded.name}, got a data folder of unknown origin")
    elif is_saved_dataset(folder):
        raise ValueError(f"{folder} must be empty or hold {recorded.name}, got a dataset of `save_to_disk`")
    else:
        recorded.parent.mkdir(parents=True, exist_ok=True)
        write_aside(recorded, (json.dumps(settings, indent=2) + "\n").encode())
    (folder / "data").mkdir(exist_ok=True)
    return is_new


def is_saved_dataset(folder: Path) -> bool:
    """Whether a folder holds what `save_to_disk` of a dataset, or of several splits, writes."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def write_aside(path: Path, content: bytes) -> None:
    """Write a file that never is seen half-written."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    os.replace(aside, path)


@contextmanager
def parquet_aside(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a Parquet file that gets its name once it is complete; after an error nothing of it is left."""
    aside = path.with_name(f".{path.name}.partial")
    try:
        with pq.ParquetWriter(aside, schema) as writer:
            yield writer
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def fill(paths: Sequence[Path], write: Callable[[int], None], locks: Path) -> None:
    """Write every file that is missing; returns when none is, those included that other processes are writing.

    Args:
        paths: the files.
        write: writes the file of a number.
        locks: folder for the locks.
    """
    waiting = [number for number in range(len(paths)) if not try_fill(paths[number], write, number, locks)]
    for number in waiting:
        try_fill(paths[number], write, number, locks, wait=True)


def try_fill(path: Path, write: Callable[[int], None], number: int, locks: Path, wait: bool = False) -> bool:
    """Write a file unless it is there; returns False if another process is writing it and `wait` is off."""
    if path.exists():
        return True
    try:
        with FileLock(locks / f"{number:05d}.lock").acquire(timeout=-1 if wait else 0):
            if not path.exists():  # the lock's last holder may have finished it
                write(number)
    except Timeout:
        return False
    return True


def run_workers(work: Callable[[OnProgress], None], workers: int, on_progress: OnProgress) -> None:
    """Do the same work in several processes, which share it by `fill`.

    Args:
        work: can be pickled; is called in every process with a function that takes what this process has in hand.
        workers: number of processes; 1 works in the calling process.
        on_progress: called with the sum of what all processes have in hand.

    Raises:
        OSError, ValueError, ImportError: what stopped a worker; the others are stopped, too.
        RuntimeError: a worker died without a word.
    """
    if workers == 1:
        work(on_progress)
        return
    context = multiprocessing.get_context("spawn")
    counts = [context.Value("q", 0) for _ in range(workers)]
    errors = context.SimpleQueue()
    processes = [context.Process(target=_work, args=(work, count, errors), daemon=True) for count in counts]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        on_progress(sum(count.value for count in counts))
        if not errors.empty() or any(process.exitcode for process in processes):
            break
        time.sleep(POLL_SECONDS)
    _end(processes, errors)


def _end(processes: list[multiprocessing.Process], errors: SimpleQueue) -> None:
    """Stop what still runs after one has failed, and say what went wrong."""
    failed = [process.exitcode for process in processes if process.exitcode]
    if failed or not errors.empty():
        for process in processes:
            process.terminate()
    for process in processes:
        process.join()
    if not errors.empty():
        raise errors.get()
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(processes)} workers ended with exit codes {failed}, expected 0")


def _work(work: Callable[[OnProgress], None], in_hand: Any, errors: SimpleQueue) -> None:
    """Body of a worker process: it ends when the process that started it is gone."""

    def on_progress(done: int) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            raise SystemExit(1)
        in_hand.value = done

    try:
        work(on_progress)
    except (OSError, ValueError, ImportError) as error:
        errors.put(error)
