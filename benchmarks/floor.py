"""What putting walkers on the floor does to sliding, to errors and to angles, on films whose floor is known.

    python benchmarks/floor.py --motions data/real/cmu-mocap/subjects --output floor.json

Walks of CMU's data base, with a way on which soles do not slide, are rendered at 256 px and estimated by the shipped
checkpoint, or another one, with the camera known and smoothed offline. A contact is where a true ankle moves by less
than 250 mm/s near the ground; sliding is the farthest that an ankle moves over the floor within one.

Shape vocabulary: frames, feet (left, right), joints (17).
"""

import argparse
import json
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from clips import RATE, Clip, planted_walk, render_clip, write_clip
from transformers import pipeline

from jointdetr.camera_jointdetr import Camera
from jointdetr.motion import PoseMotion
from jointdetr.motion.angles import joint_angles
from jointdetr.motion.floor import both_sides, level_rotation, runs, stand_on_floor
from jointdetr.motion.prediction import VideoSettings, estimate_video

# File, frames at 30 a second, seed of body, room and camera.
WALKS = (
    ("02/02_01.amc", slice(0, 86), 3),
    ("02/02_02.amc", slice(0, 74), 5),
    ("02/02_01.amc", slice(0, 86), 8),
)
SIZE = 256
STILL_MM_PER_S, LOW_MM, SHORTEST = 250.0, 40.0, 4  # frames


def true_contacts(clip: Clip, ankles: np.ndarray) -> np.ndarray:
    """Where a true ankle hardly moves near the ground: `(frames, feet)` bool."""
    places = (clip.joints + clip.root_camera[:, None])[:, ankles]
    heights = places @ clip.up
    speeds = np.linalg.norm(np.gradient(places, 1 / RATE, axis=0), axis=-1)
    return (speeds < STILL_MM_PER_S) & (heights < heights.min() + LOW_MM)


def sliding_mm(places: np.ndarray, contacts: np.ndarray) -> float:
    """Mean over the contacts of how far an ankle `(frames, feet, 3)`, level axes, moves over the floor within each."""
    ways = []
    for foot in range(contacts.shape[1]):
        for run in runs(contacts[:, foot]):
            path = places[run, foot][:, [0, 2]]
            if len(run) >= SHORTEST:
                ways.append(np.linalg.norm(path[:, None] - path[None], axis=-1).max())
    return float(np.mean(ways)) if ways else float("nan")


def measure(motion: PoseMotion, clip: Clip, up: np.ndarray | None) -> dict[str, float]:
    """Errors before and after, in level axes."""
    ankles = both_sides(motion.skeleton)[:, 2]
    placed, fit = stand_on_floor(motion, up)
    turn, true_turn = level_rotation(fit.up), level_rotation(clip.up)
    true = clip.joints[motion.frames] @ true_turn.T
    contacts = true_contacts(clip, ankles)[motion.frames]
    before, after = (motion.joints_camera @ turn.T)[:, ankles], placed.joints_camera[:, ankles]
    hits = (contacts & fit.contacts).sum()
    return {
        "up_error_degrees": float(np.degrees(np.arccos(min(fit.up @ clip.up, 1.0)))),
        "mpjpe_before_mm": float(np.linalg.norm(motion.joints @ turn.T - true, axis=-1).mean()),
        "mpjpe_after_mm": float(np.linalg.norm(placed.joints - true, axis=-1).mean()),
        "contacts_found": float(hits / contacts.sum()),
        "contacts_true": float(hits / max(fit.contacts.sum(), 1)),
        "sliding_in_found_before_mm": sliding_mm(before, fit.contacts),
        "sliding_in_found_after_mm": sliding_mm(after, fit.contacts),
        "sliding_in_true_before_mm": sliding_mm(before, contacts),
        "sliding_in_true_after_mm": sliding_mm(after, contacts),
        "moved_mm": float(fit.moved_mm.mean()),
    }


def angle_errors(motion: PoseMotion, clip: Clip) -> dict[str, dict[str, float]]:
    """Mean absolute error of each angle, and the mean of its uncertainty, degrees."""
    seen = joint_angles(motion)
    true_joints = clip.joints[motion.frames]
    true = joint_angles(PoseMotion(motion.skeleton, motion.times_s, true_joints, motion.detected))
    errors = np.abs(np.remainder(seen.degrees - true.degrees + 180, 360) - 180)
    return {
        name: {"error": float(np.nanmean(errors[:, index])), "sd": float(np.nanmean(seen.uncertainty[:, index]))}
        for index, name in enumerate(seen.names)
        if np.isfinite(errors[:, index]).any()
    }


def main() -> None:
    """Render, estimate, put on the floor, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--motions", type=Path, required=True, help="folder of CMU's subjects")
    parser.add_argument("--model", default=str(files("jointdetr") / "pretrained"))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    estimator = pipeline("pose-estimation-3d", model=arguments.model)
    results: list[dict[str, Any]] = []
    for file, frames, seed in WALKS:
        clip = render_clip(planted_walk(arguments.motions / file, frames, seed), SIZE, seed)
        settings = VideoSettings(boxes=clip.boxes[:1].tolist(), camera=Camera(clip.intrinsics))
        with TemporaryDirectory() as folder:
            film = Path(folder) / "film.mp4"
            write_clip(clip, film)
            (motion,) = estimate_video(film, estimator, settings)
        result = {"walk": file, "seed": seed, "angles": angle_errors(motion, clip)}
        for name, up in (("up given", clip.up), ("up estimated", None)):
            result[name] = measure(motion, clip, up)
            print(f"{file}, seed {seed}, {name}: {', '.join(f'{k} {v:.2f}' for k, v in result[name].items())}")
        results.append(result)
    for name in results[0]["angles"]:
        known = [result["angles"][name] for result in results if name in result["angles"]]
        error, deviation = (np.mean([each[key] for each in known]) for key in ("error", "sd"))
        print(f"{name}: {error:.1f} degrees off, {deviation:.1f} expected")
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
