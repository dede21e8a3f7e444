"""What the benchmarks share: contestants that take turns, peak memory of a child process, tables and JSON.

On one thread the clock is the processor time of the process; on more, and on a GPU, it is the wall clock. A ratio is
the median over the rounds of (contestant / reference in the same round), so that a busy machine slows both.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

CPU = torch.device("cpu")
Contestants = Mapping[str, Callable[[], object]]


def take_turns(contestants: Contestants, rounds: int, device: torch.device = CPU) -> dict[str, list[float]]:
    """Return the milliseconds of each contestant in each round; a round before them warms up."""
    on_one_thread = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if on_one_thread else time.perf_counter
    milliseconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, contestant in contestants.items():
            wait_for(device)
            start = clock()
            contestant()
            wait_for(device)
            milliseconds[name].append(1000 * (clock() - start))
    return {name: times[1:] for name, times in milliseconds.items()}


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done all that it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds_of(work: Callable[[], object], calls: int, device: torch.device) -> float:
    """Return how long a call takes when many follow one another, by the GPU's own clock where there is one."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        wait_for(device)
        start.record()
        for _ in range(calls):
            work()
        end.record()
        wait_for(device)
        return start.elapsed_time(end) / calls
    started = time.perf_counter()
    for _ in range(calls):
        work()
    return 1000 * (time.perf_counter() - started) / calls


def compare(contestants: Contestants, reference: str, rounds: int, device: torch.device = CPU) -> list[dict[str, Any]]:
    """Return a row for each contestant: threads, median milliseconds, and how many times faster than the reference."""
    milliseconds = take_turns(contestants, rounds, device)
    return [
        {
            "contestant": name,
            "threads": torch.get_num_threads(),
            "ms": statistics.median(times),
            "ratio": statistics.median(r / own for r, own in zip(milliseconds[reference], times, strict=True)),
        }
        for name, times in milliseconds.items()
    ]


def peak_memory_mb(function: Callable[[], object], device: torch.device = CPU) -> float:
    """Return by how many MB a function raises the peak of memory: a GPU's, or the resident one of a fork."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_measure_peak, args=(function, sender))
    child.start()
    sender.close()
    peak = receiver.recv()
    child.join()
    return peak


def _measure_peak(function: Callable[[], object], sender: Any) -> None:
    torch.set_num_threads(1)  # a fork has lost the other threads
    function()  # the first time it maps pages of libraries, too
    ctypes.CDLL(None).malloc_trim(0)  # memory that the parent has freed would be taken without a rise
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (Linux)
    before = _memory_mb("VmRSS")
    function()
    sender.send(_memory_mb("VmHWM") - before)


def _memory_mb(name: str) -> float:
    """Resident memory of this process, now (VmRSS) or at its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) / 1024


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows with the same keys as a table."""
    cells = [list(rows[0]), *([_to_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def _to_text(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def parse_arguments(description: str, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    parser = argparse.ArgumentParser(description=description.strip().splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser


def report(rows: Sequence[Mapping[str, Any]], output: Path | None) -> None:
    """Print the table and write it with the machine's description and load."""
    show(rows)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }
    cores = f"{machine['cores']} cores with a load of {machine['load']:.1f}"
    print(f"on {cores}, {machine['gpu'] or 'no GPU'}, torch {machine['torch']}")
    if output is not None:
        output.write_text(json.dumps({"machine": machine, "rows": list(rows)}, indent=2) + "\n")
