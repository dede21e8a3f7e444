"""How the demo bears many visitors at once: are all requests answered, how fast, and does its memory stay flat?

    python benchmarks/space_load.py --clients 32 --seconds 60

It starts `space/app.py` and lets clients ask for `estimate` without pause, each waiting for its answer before it asks
again. A request counts as answered if people come back, as busy if the server says that its queue is full (the client
waits and asks again), and as lost otherwise. Memory is the server's resident set, read from /proc (Linux).
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

REPOSITORY = Path(__file__).parents[1]
PICTURE = REPOSITORY / "jointdetr" / "demo" / "examples" / "waving.jpg"
WAIT_WHEN_BUSY_S = 0.5
PATIENCE_S = 120.0


@dataclass
class Tally:
    """What happened to the requests of all clients."""

    outcomes: Counter = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: str, seconds: float) -> None:
        """Count one request; `seconds` from asking to the answer."""
        with self.lock:
            self.outcomes[outcome] += 1
            if outcome == "answered":
                self.seconds.append(seconds)


@contextmanager
def running_space(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Run the Space; yields its address, its process and how many seconds it took to start."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = os.environ | {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "files"),
        "PYTHONPATH": str(REPOSITORY),
    }
    start = time.perf_counter()
    with (folder / "log.txt").open("w") as log:
        program = [sys.executable, str(REPOSITORY / "space" / "app.py")]
        process = subprocess.Popen(program, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        url = f"http://127.0.0.1:{port}/gradio_api/"
        wait_until_ready(f"{url}info", process, folder / "log.txt")
        yield url, process.pid, time.perf_counter() - start
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_until_ready(url: str, process: subprocess.Popen, log: Path) -> None:
    """Return once the server answers.

    Raises:
        RuntimeError: It ended instead, with what it wrote.
    """
    while True:
        try:
            httpx.get(url, timeout=30)
            return
        except httpx.TransportError:
            if process.poll() is not None:
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.1)


def ask(client: httpx.Client, url: str, uploaded: str) -> str:
    """Ask for one estimate and return what became of it."""
    picture = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
    joined = client.post(f"{url}call/estimate", json={"data": [picture, 0.5, None, ""]})
    if joined.status_code == 503 and "Queue is full" in joined.text:
        return "busy"
    if joined.status_code != 200:
        return f"lost: status {joined.status_code}"
    events = client.get(f"{url}call/estimate/{joined.json()['event_id']}").text
    return "answered" if "event: complete" in events and '"joints"' in events else f"lost: {events[-200:]}"


def keep_asking(url: str, end_s: float, tally: Tally) -> None:
    """Be one client until the end."""
    with httpx.Client(timeout=PATIENCE_S) as client:
        with PICTURE.open("rb") as stream:
            uploaded = client.post(f"{url}upload", files={"files": ("picture.jpg", stream)}).json()[0]
        while time.perf_counter() < end_s:
            start = time.perf_counter()
            try:
                outcome = ask(client, url, uploaded)
            except httpx.HTTPError as error:
                outcome = f"lost: {error!r}"
            tally.add(outcome, time.perf_counter() - start)
            if outcome == "busy":
                time.sleep(WAIT_WHEN_BUSY_S)


def resident_mb(pid: int) -> float:
    """Memory of a process that lies in the machine's, in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(clients: int, seconds: float) -> dict[str, object]:
    """Run the server and the clients and return the figures."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder, running_space(Path(folder)) as (url, pid, start_s):
        keep_asking(url, time.perf_counter() + 2, Tally())  # warm up
        memory = [resident_mb(pid)]
        end_s = time.perf_counter() + seconds
        threads = [threading.Thread(target=keep_asking, args=(url, end_s, tally)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            memory.append(resident_mb(pid))
            time.sleep(0.5)
    cuts = statistics.quantiles(tally.seconds, n=20)
    half = len(memory) // 2
    return {
        "clients": clients,
        "seconds": seconds,
        "start_s": round(start_s, 1),
        "answered": tally.outcomes.pop("answered"),
        "busy": tally.outcomes.pop("busy", 0),
        "lost": dict(tally.outcomes),
        "p50_s": round(cuts[9], 2),
        "p95_s": round(cuts[18], 2),
        "memory_before_mb": round(memory[0]),
        "memory_first_half_peak_mb": round(max(memory[:half])),
        "memory_second_half_peak_mb": round(max(memory[half:])),
    }


def main() -> None:
    """Measure, print the figures, and fail if a request was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--output", type=Path, help="JSON file for the figures.")
    options = parser.parse_args()
    figures = measure(options.clients, options.seconds)
    for name, value in figures.items():
        print(f"{name:28} {value}")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(figures, indent=2) + "\n")
    if figures["lost"]:
        raise SystemExit("requests were lost")


if __name__ == "__main__":
    main()
