"""Training in processes that are forked, which saves them the imports, and that may be killed."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

KILLED = -signal.SIGKILL
_FORK = multiprocessing.get_context("fork")


def run_forked(work: Callable[[], None], log: Path, processes: int = 1) -> list[int]:
    """Do something in a process, or in several that talk to each other by gloo; returns their exit codes.

    What they print goes to the file `log`. When one is killed the others are, too, as a launcher does.
    """
    port = _free_port()
    environment = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = []
    for rank in range(processes):
        ranked = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
        children.append(_FORK.Process(target=_run, args=(work, log, ranked)))
        children[-1].start()
    while all(child.is_alive() for child in children):
        children[0].join(0.02)
    if any(child.exitcode for child in children):
        for child in children:
            child.kill()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


def kill_after(seconds: float) -> None:
    """Kill this process after a while, in whatever it is doing then."""
    timer = threading.Timer(seconds, kill_now)
    timer.daemon = True
    timer.start()


def kill_now() -> None:
    """End this process with no chance to tidy up."""
    os.kill(os.getpid(), signal.SIGKILL)


def _run(work: Callable[[], None], log: Path, environment: dict[str, str]) -> None:
    """Body of a forked process."""
    stream = log.open("a", buffering=1)
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
    sys.stdout = sys.stderr = stream
    for state in (AcceleratorState, PartialState, GradientState):
        state._shared_state.clear()  # what the tests before have found out about the surroundings
    os.environ.update(environment)
    torch.set_num_threads(1)
    work()
    stream.flush()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
