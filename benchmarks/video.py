"""What smoothing gains on films, and how fast a film goes, on synthetic people whose true joints are known.

    python benchmarks/video.py --motions data/real/cmu-mocap/subjects --output video.json

Three recorded motions of CMU's data base (a walk, boxing, a run) are rendered at 320 px and estimated by the shipped
checkpoint, or another one, from the true box in the first frame on. Errors are relative to the pelvis, means over 17
joints with it; the delay is the one at which the true motion fits best. Speeds are frames a second of processor time,
one thread, the median of three rounds.
"""

import argparse
import json
import statistics
import time
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from clips import Clip, recorded_motion, render_clip, write_clip
from scipy.interpolate import CubicSpline
from transformers import pipeline

from jointdetr.evaluation.metrics import mpjpe, pa_mpjpe
from jointdetr.formats.film import FrameReader
from jointdetr.motion import PoseMotion, motions_from_rows
from jointdetr.motion.prediction import VideoSettings, predict_motion
from jointdetr.motion.smoothing import METHODS, SmoothingSettings, smooth_motion
from jointdetr.visualization.figures import write_overlay

# Name, file, frames at 30 a second, seed of body, room and camera.
MOTIONS = (
    ("walk", "02/02_01.amc", slice(0, 86), 3),
    ("boxing", "02/02_05.amc", slice(150, 270), 5),
    ("run", "02/02_03.amc", slice(0, 40), 7),
)
SIZE = 320
ROUNDS = 3


def acceleration(joints: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """Accelerations `(frames - 2, joints, 3)` mm/s^2 of joints `(frames, joints, 3)` in the middle of three frames."""
    steps_s = np.diff(times_s)[:, None, None]  # (frames - 1, 1, 1)
    velocity = np.diff(joints, axis=0) / steps_s
    return np.diff(velocity, axis=0) / ((steps_s[1:] + steps_s[:-1]) / 2)


def acceleration_error(predicted: np.ndarray, target: np.ndarray, times_s: np.ndarray) -> float:
    """Mean distance between accelerations of joints `(frames, joints, 3)`, over all that have both.

    By the numbers of frames as times it is in mm/frame^2, the "acceleration error" of Kanazawa et al., "Learning 3D
    Human Dynamics from Video", CVPR 2019, which says little without the rate of the frames.
    """
    return float(np.nanmean(np.linalg.norm(acceleration(predicted - target, times_s), axis=-1)))


def measure_delay_s(reference: np.ndarray, motion: np.ndarray, times_s: np.ndarray, longest_s: float = 0.5) -> float:
    """Find by how much a motion is late: the delay of the reference that fits it best.

    Args:
        reference: `(frames, joints, 3)`, a motion that is not late and does not jitter: the truth, or what the offline
            smoother makes of it. Frames in which anything is missing are left out.
        motion: `(frames, joints, 3)`.
        times_s: `(frames,)`, growing.
        longest_s: Longest delay to try, in steps of a millisecond.

    Returns:
        Seconds; NaN where the motion is shorter than twice the longest delay.
    """
    whole = np.isfinite(reference).all((1, 2)) & np.isfinite(motion).all((1, 2))
    times_s = times_s[whole]
    reference, motion = (values[whole].reshape(len(times_s), -1) for values in (reference, motion))
    later = times_s >= times_s[0] + longest_s if len(times_s) else np.zeros(0, bool)
    if not later.any() or times_s[-1] - times_s[0] < 2 * longest_s:
        return float("nan")

    between_frames = CubicSpline(times_s, reference)

    def misfit(delay_s: float) -> float:
        return float(((between_frames(times_s[later] - delay_s) - motion[later]) ** 2).sum())

    return min((step / 1000 for step in range(int(longest_s * 1000) + 1)), key=misfit)


def measure_smoothing(motion: PoseMotion, clip: Clip) -> list[dict[str, Any]]:
    """Errors of a motion before (method "none") and after each smoother."""
    truth = clip.joints[motion.frames]
    rows = []
    for method in reversed(METHODS):
        smooth = smooth_motion(motion, SmoothingSettings(method=method))
        predicted, target = torch.from_numpy(smooth.joints), torch.from_numpy(truth)
        rows.append(
            {
                "method": method,
                "mpjpe_mm": mpjpe(predicted, target).item(),
                "pa_mpjpe_mm": pa_mpjpe(predicted, target).item(),
                "acceleration_error_mm_per_frame2": acceleration_error(smooth.joints, truth, motion.frames),
                "acceleration_error_mm_per_s2": acceleration_error(smooth.joints, truth, motion.times_s),
                "delay_ms": 1000 * measure_delay_s(truth, smooth.joints, motion.times_s),
            }
        )
    return rows


def measure_speed(film: Path, estimator: Any, settings: VideoSettings) -> tuple[dict[str, float], list[dict]]:
    """Frames a second of processor time of reading, of reading and estimating, and of drawing; and the rows."""
    seconds: dict[str, list[float]] = {"read": [], "read and estimate": [], "draw": []}
    for _ in range(ROUNDS):
        started = time.process_time()
        count = sum(1 for _ in FrameReader(film))
        seconds["read"].append(time.process_time() - started)
        started = time.process_time()
        rows = [row for result in predict_motion(film, estimator, settings) for row in result.people]
        seconds["read and estimate"].append(time.process_time() - started)
        started = time.process_time()
        write_overlay(FrameReader(film), rows, estimator.model.config.skeleton, film.with_suffix(".o.mp4"))
        seconds["draw"].append(time.process_time() - started)
    return {name: count / statistics.median(values) for name, values in seconds.items()}, rows


def main() -> None:
    """Render, estimate, smooth, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--motions", type=Path, required=True, help="folder of CMU's subjects")
    parser.add_argument("--model", default=str(files("jointdetr") / "pretrained"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    estimator = pipeline("pose-estimation-3d", model=arguments.model)
    results = []
    for name, motion_file, frames, seed in MOTIONS:
        clip = render_clip(recorded_motion(arguments.motions / motion_file, frames, seed), SIZE, seed)
        settings = VideoSettings(boxes=clip.boxes[:1].tolist())
        with TemporaryDirectory() as folder:
            film = Path(folder) / "film.mp4"
            write_clip(clip, film)
            speed, rows = measure_speed(film, estimator, settings)
        (motion,) = motions_from_rows(rows, estimator.model.config.skeleton)
        smoothing = measure_smoothing(motion, clip)
        results.append({"motion": name, "frames": len(clip.images), "frames_per_s": speed, "smoothing": smoothing})
        rates = ", ".join(f"{part} {rate:.1f}/s" for part, rate in speed.items())
        print(f"{name}: {len(motion)} of {len(clip.images)} frames, {rates}")
        for row in smoothing:
            print("  " + ", ".join(f"{k} {v if isinstance(v, str) else format(v, '.1f')}" for k, v in row.items()))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
