"""How the demo bears many visitors at once: are all requests answered, how fast, and does its memory stay flat?

    python benchmarks/space_load.py --clients 32 --seconds 60

It starts `space/app.py` and lets clients ask for `estimate` without pause, each waiting for its answer before it asks
again. A request counts as answered if people come back, as busy if the server says that its queue is full (the client
waits and asks again), and as lost otherwise. Meanwhile one visitor starts a film, closes the page at its first
progress and comes back, over and over, and another one shows a few frames of a camera and comes back. At the end a
film has to be answered as at the beginning. Memory is the server's resident set, read from /proc (Linux).
"""

import argparse
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

REPOSITORY = Path(__file__).parents[1]
PICTURE = REPOSITORY / "jointdetr" / "demo" / "examples" / "waving.jpg"
FILM = PICTURE.with_name("walking.mp4")
LIVE_FRAMES = 5
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
    joined = client.post(f"{url}call/estimate", json={"data": [picture, 0.5, None, "", "search"]})
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


def film_question(client: httpx.Client, url: str) -> dict[str, object]:
    """Upload the film and return what the page sends to have it estimated, in a session of its own."""
    config = client.get(url.replace("gradio_api/", "config")).json()
    parts = {part["id"]: part["props"] for part in config["components"]}
    [button] = [number for number, props in parts.items() if props.get("elem_id") == "film-go"]
    [listener] = [
        each for each in config["dependencies"] if [button, "click"] in each["targets"] and each["backend_fn"]
    ]
    with FILM.open("rb") as stream:
        uploaded = client.post(f"{url}upload", files={"files": ("film.mp4", stream)}).json()[0]
    film = {"path": uploaded, "meta": {"_type": "gradio.FileData"}}
    inputs = [parts[number] for number in listener["inputs"]]
    data = [film if props.get("elem_id") == "film" else props.get("value") for props in inputs]
    return {"data": data, "fn_index": listener["id"], "session_hash": uuid4().hex}


def ask_film(client: httpx.Client, url: str, closes_page: bool) -> str:
    """Have the film estimated and return what became of it; `closes_page` leaves at the first progress."""
    question = film_question(client, url)
    session = question["session_hash"]
    joined = client.post(f"{url}queue/join", json=question)
    if joined.status_code == 503:
        return "film busy"
    with (
        client.stream("GET", f"{url}heartbeat/{session}"),
        client.stream("GET", f"{url}queue/data", params={"session_hash": session}) as events,
    ):
        for line in events.iter_lines():
            if closes_page and '"msg":"progress"' in line:
                return "film closed"
            if '"msg":"process_completed"' in line:
                return "film answered" if '"success":true' in line else f"lost: {line[-200:]}"
    return "lost: the film's events ended"


def show_camera(url: str, frame: bytes) -> str:
    """Show a few frames to the server as a camera's, and return what became of them."""
    address = url.replace("http", "ws").replace("gradio_api/", "live")
    with connect(address, open_timeout=PATIENCE_S) as socket:
        if "error" in json.loads(socket.recv()):
            return "camera busy"
        for number in range(LIVE_FRAMES):
            socket.send(struct.pack("<d", number / 10) + frame)
            answer = json.loads(socket.recv(timeout=PATIENCE_S))
            if "people" not in answer:
                return f"lost: {answer}"
    return "camera answered"


def keep_coming_back(visit: Callable[[], str], end_s: float, tally: Tally) -> None:
    """Be one visitor who leaves and comes back until the end."""
    while time.perf_counter() < end_s:
        try:
            outcome = visit()
        except (httpx.HTTPError, OSError, WebSocketException) as error:
            outcome = f"lost: {error!r}"
        tally.add(outcome, 0.0)
        if outcome.endswith("busy"):
            time.sleep(WAIT_WHEN_BUSY_S)


def resident_mb(pid: int) -> float:
    """Memory of a process that lies in the machine's, in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(clients: int, seconds: float) -> dict[str, object]:
    """Run the server and the clients and return the figures."""
    tally, visits = Tally(), Tally()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_space(Path(folder)) as (url, pid, start_s),
        httpx.Client(timeout=PATIENCE_S) as client,
    ):
        keep_asking(url, time.perf_counter() + 2, Tally())  # warm up
        visits.add(ask_film(client, url, closes_page=False), 0.0)
        memory = [resident_mb(pid)]
        end_s = time.perf_counter() + seconds
        threads = [threading.Thread(target=keep_asking, args=(url, end_s, tally)) for _ in range(clients)]
        returning = (lambda: ask_film(client, url, closes_page=True), lambda: show_camera(url, PICTURE.read_bytes()))
        threads += [threading.Thread(target=keep_coming_back, args=(visit, end_s, visits)) for visit in returning]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            memory.append(resident_mb(pid))
            time.sleep(0.5)
        visits.add(ask_film(client, url, closes_page=False), 0.0)
    return {"clients": clients, "seconds": seconds, "start_s": round(start_s, 1)} | figures(tally, visits, memory)


def figures(tally: Tally, visits: Tally, memory: list[float]) -> dict[str, object]:
    """What came of the requests, of those who came back, and of the server's memory in MB through time."""
    cuts = statistics.quantiles(tally.seconds, n=20)
    half = len(memory) // 2
    outcomes = tally.outcomes + visits.outcomes
    return {
        "answered": tally.outcomes["answered"],
        "busy": tally.outcomes["busy"],
        "came_back": {name: count for name, count in visits.outcomes.items() if not name.startswith("lost")},
        "lost": {name: count for name, count in outcomes.items() if name.startswith("lost")},
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
    measured = measure(options.clients, options.seconds)
    for name, value in measured.items():
        print(f"{name:28} {value}")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(measured, indent=2) + "\n")
    if measured["lost"]:
        raise SystemExit("requests were lost")


if __name__ == "__main__":
    main()
