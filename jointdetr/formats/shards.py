"""Files of a data set written by many processes, so that a run may be killed at any time and be taken up again.

A piece of work leaves one file behind. Whoever works on it holds a lock that ends with its holder; what is unfinished
has another name, and gets its own when it is complete. So several processes, on one machine or on several that share a
file system with locks, may fill one folder, and what is there is whole.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from rich.progress import track

Work = TypeVar("Work")


def open_folder(folder: Path, settings_file: str, settings: dict[str, Any]) -> None:
    """Make the folder of a data set with a record of its settings; several processes may do so at once.

    Raises:
        ValueError: The folder holds a data set of other settings, or data of unknown origin.
    """
    recorded = folder / settings_file
    (folder / ".locks").mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".locks" / "opening.lock"):
        found = json.loads(recorded.read_text()) if recorded.exists() else settings
        require_same(found, settings, f"{folder} holds a dataset of")
        if not recorded.exists() and (folder / "data").exists():
            raise ValueError(f"{folder} must be empty or hold {recorded.name}, got a data folder of unknown origin")
        recorded.parent.mkdir(exist_ok=True)
        write_aside(recorded, (json.dumps(settings, indent=2) + "\n").encode())
        (folder / "data").mkdir(exist_ok=True)


def require_same(found: dict[str, Any], wanted: dict[str, Any], place: str) -> None:
    """Raise ValueError, which begins with `place` and says which settings differ."""
    names = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
    if names:
        pairs = ", ".join(f"{name}={found.get(name)!r} (asked for {wanted.get(name)!r})" for name in names)
        raise ValueError(f"{place} other settings: {pairs}; expected the same or an empty folder")


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


def fill(files: Mapping[Path, Work], write: Callable[[Work], None], workers: int = 1, title: str = "") -> None:
    """Write every file that is missing; returns when none is, those included that other processes are writing.

    `files` says what each is made of; they lie in a folder of one that `open_folder` made. `write` writes one; it is
    sent to each of the `workers` once, of which 1 is the calling process. `RuntimeError` if one is killed. `title` is
    that of a bar that counts the files, if there is one.
    """
    missing = [file for file in files.items() if not file[0].exists()]
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _begin, (write,)) if workers > 1 else None
    with pool or nullcontext():  # an error in one stops what has not begun
        fill_each, each = (pool.map, _fill_here) if pool else (map, partial(fill_one, write))
        done = track(fill_each(each, missing), title, total=len(missing), disable=not title)
        in_other_hands = [file for file, is_there in zip(missing, done, strict=True) if not is_there]
        list(fill_each(partial(each, wait=True), in_other_hands))


def fill_one(write: Callable[[Work], None], file: tuple[Path, Work], wait: bool = False) -> bool:
    """Write a file unless it is there; returns False if another process is writing it and `wait` is off."""
    path, work = file
    try:
        with FileLock(path.parents[1] / ".locks" / f"{path.name}.lock").acquire(timeout=-1 if wait else 0):
            if not path.exists():  # the lock's last holder may have finished it
                write(work)
    except Timeout:
        return False
    return True


_write: ContextVar[Callable[[Any], None]] = ContextVar("write")  # of a worker, which keeps what it has loaded


def _begin(write: Callable[[Work], None]) -> None:
    """Begin a worker. It ends when the process that started it is killed: it would wait for work for ever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    _write.set(write)
    Thread(target=watch, daemon=True).start()


def _fill_here(file: tuple[Path, Work], wait: bool = False) -> bool:
    return fill_one(_write.get(), file, wait)
