"""How many frames a second does the shipped model do on a small CPU, and where does the time go?

    OMP_NUM_THREADS=1 python benchmarks/real_time.py --threads 1 --onnx --mediapipe /path/to/its/venv/bin/python

From a decoded frame to joints in camera space: crop, network, assembly (one query a joint), refinement, placement. The
stages are timed in every frame. MediaPipe Pose runs in a Python of its own, since its dependencies are other versions;
only what its wheel carries is measured (`full`; 0.10.14 has no `lite`), with tracking switched off, so that it finds
the person anew in each frame, and with tracking.
"""

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timing import parse_arguments, report

from jointdetr import JointDetrForPoseEstimation, JointDetrImageProcessor
from jointdetr.camera_jointdetr import Camera
from jointdetr.hub.export import ExportedModel, export_model
from jointdetr.postprocessing_jointdetr import assemble_poses

FRAME = files("jointdetr") / "demo" / "examples" / "waving.jpg"
FIELD_OF_VIEW = 55.0
STAGES = ("crop", "network", "assembly", "refinement", "placement")
MEDIAPIPE = """
import json, sys, time
import numpy as np
import mediapipe as mp
frame, rounds = np.load(sys.argv[1]), int(sys.argv[2])
for still in (True, False):
    with mp.solutions.pose.Pose(static_image_mode=still, model_complexity=1) as pose:
        found = [pose.process(frame).pose_world_landmarks is not None for _ in range(3)]
        wall, used = time.perf_counter(), time.process_time()
        for _ in range(rounds):
            pose.process(frame)
        wall, used = time.perf_counter() - wall, time.process_time() - used
    row = {"still": still, "found": all(found), "wall_ms": 1000 * wall / rounds, "used_ms": 1000 * used / rounds}
    print("ROW" + json.dumps(row))
"""


class Stopwatch:
    """Adds up the milliseconds of named stages."""

    def __init__(self) -> None:
        self.clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
        self.milliseconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Time what happens inside."""
        start = self.clock()
        yield
        self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + 1000 * (self.clock() - start)


class Runner:
    """The way of a frame, by either network."""

    def __init__(self, model: JointDetrForPoseEstimation, processor: JointDetrImageProcessor, network: Callable):
        self.model = model
        self.processor = processor
        self.network = network

    @torch.inference_mode()
    def __call__(self, frame: Image.Image, watch: Stopwatch) -> dict[str, torch.Tensor]:
        """Estimate the one person who fills the frame."""
        with watch.measure("crop"):
            inputs = self.processor(frame, return_tensors="pt")
        with watch.measure("network"):
            outputs = self.network(pixel_values=inputs["pixel_values"])
        with watch.measure("assembly"):
            poses = assemble_poses(outputs)
        with watch.measure("refinement"):
            self.model.refiner(poses.joints, missing=~poses.detected, sigmas=poses.sigmas)
        cameras = [Camera.from_field_of_view(FIELD_OF_VIEW, frame.size)]
        with watch.measure("placement"):  # assembles and refines once more
            ((person,),) = self.processor.post_process_pose_estimation(
                outputs, inputs, refiner=self.model.refiner, cameras=cameras
            )
        watch.milliseconds["placement"] -= watch.milliseconds["assembly"] + watch.milliseconds["refinement"]
        return person


def time_runner(runner: Runner, frame: Image.Image, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of every stage, of all together, and frames a second."""
    watches = []
    for _ in range(rounds + 3):
        watches.append(Stopwatch())
        runner(frame, watches[-1])
    stages = {name: statistics.median(watch.milliseconds[name] for watch in watches[3:]) for name in STAGES}
    total = statistics.median(sum(watch.milliseconds.values()) for watch in watches[3:])
    return {**stages, "total": total, "frames/s": 1000 / total}


def check(eager: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Raise unless two networks found the same joints."""
    error = (eager["joints"] - other["joints"]).abs().max().item()
    if not error < 0.01:
        raise RuntimeError(f"the networks' joints differ by {error} mm")


def time_mediapipe(python: Path, frame: Image.Image, rounds: int) -> list[dict[str, Any]]:
    """Run MediaPipe Pose in its own environment."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "frame.npy"
        np.save(picture, np.asarray(frame))
        command = [str(python), "-c", MEDIAPIPE, str(picture), str(rounds)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"MediaPipe failed: {result.stderr.strip().splitlines()[-1]}")
    return [json.loads(line[3:]) for line in result.stdout.splitlines() if line.startswith("ROW")]


def main() -> None:
    """Time the contestants and write the table."""
    parser = parse_arguments(__doc__, rounds=30)
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--mediapipe", type=Path, help="Python of an environment with MediaPipe")
    options = parser.parse_args()
    source = str(files("jointdetr") / "pretrained")
    model = JointDetrForPoseEstimation.from_pretrained(source).eval()
    processor = JointDetrImageProcessor.from_pretrained(source)
    frame = Image.open(FRAME).convert("RGB")
    frame.load()
    rows = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        runners = {"eager": Runner(model, processor, model)}
        if options.onnx:
            path = export_model(model, processor, tempfile.mkdtemp())
            runners["ONNX Runtime"] = Runner(model, processor, ExportedModel(path, threads=threads))
            check(*(runner(frame, Stopwatch()) for runner in runners.values()))
        for name, runner in runners.items():
            timed = time_runner(runner, frame, options.rounds)
            rows.append({"runtime": name, "threads": threads, **timed})
    report(rows, options.output)
    if options.mediapipe is not None:
        for row in time_mediapipe(options.mediapipe, frame, options.rounds):
            kind = "finding the person in each frame" if row["still"] else "tracking"
            print(
                f"MediaPipe Pose full, {kind}: {row['used_ms']:.1f} ms of processor time, {row['wall_ms']:.1f} ms by "
                f"the clock, person found: {row['found']}"
            )


if __name__ == "__main__":
    main()
