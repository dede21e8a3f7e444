"""Films of synthetic people with exact joints, for `benchmarks/video.py` and the documentation.

A body is animated, by motion capture (ASF/AMC files) or by a walk of sines, in one room before one camera that does
not move.

    python benchmarks/clips.py docs/images/walking.mp4

Shape vocabulary: frames, bones and vertices of the body, joints (17).
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jointdetr.formats.acclaim import read_amc, read_asf
from jointdetr.synthesis.body import Body, load_body
from jointdetr.synthesis.materials import Outfit, Palette, draw_outfit, draw_palette
from jointdetr.synthesis.poses import PosedPeople
from jointdetr.synthesis.posing import TO_BODY_AXES, retarget, rotation_about
from jointdetr.synthesis.renderer import SCENE_STREAM, PersonRenderer, RenderSettings
from jointdetr.synthesis.scene import Scene, draw_scene, stack_records

RECORDED_RATE = 120  # frames a second of CMU's motion capture
RECORDED_UNIT_M = 0.0254 / 0.45  # CMU's files count in inches, scaled by 0.45
RATE = 30  # frames a second of a clip
STRIDE_S = 1.15  # time of two steps
SPEED = 0.75  # metres a second
SOLE_M = 0.004  # above the lowest point of the skin, what touches the ground


@dataclass(frozen=True)
class Clip:
    """A film and its truth.

    Args:
        images: `(frames, height, width, 3)` uint8.
        times_s: `(frames,)`.
        joints: `(frames, 17, 3)` mm relative to the pelvis, camera axes.
        points: `(frames, 17, 2)` px.
        boxes: `(frames, 4)` x, y, width, height of the body in px.
        root_camera: `(frames, 3)` mm, the pelvis from the camera.
        intrinsics: `(3, 3)` px.
        up: `(3,)` against gravity, camera axes.
        camera_height: of the camera above the floor, mm.
    """

    images: np.ndarray
    times_s: np.ndarray
    joints: np.ndarray
    points: np.ndarray
    boxes: np.ndarray
    root_camera: np.ndarray
    intrinsics: np.ndarray
    up: np.ndarray
    camera_height: float


class ClipRenderer(PersonRenderer):
    """Renders every picture in the same room, clothes and light."""

    def __init__(self, body: Body, settings: RenderSettings, people: PosedPeople, seed: int) -> None:
        """Draw a scene that shows the person in all frames."""
        super().__init__(body, settings)
        rng = np.random.default_rng((seed, SCENE_STREAM))
        low, high = people.vertices.amin((0, 1)), people.vertices.amax((0, 1))
        bounds = torch.stack([low, high]).double().numpy()
        joints = people.joints.flatten(0, 1).double().numpy()
        scene = draw_scene(rng, joints, bounds, people.activity[0], settings.preset)
        self.look = scene, draw_outfit(rng), draw_palette(rng)

    def _draw(self, generators: list[np.random.Generator], people: PosedPeople) -> tuple[Scene, Outfit, Palette]:
        kinds = zip((Scene, Outfit, Palette), self.look, strict=True)
        return tuple(stack_records(kind, [record] * len(generators), self.device) for kind, record in kinds)


def render_clip(people: PosedPeople, size: int, seed: int) -> Clip:
    """Picture one person's frames."""
    renderer = ClipRenderer(load_body(), RenderSettings(size, supersampling=2), people, seed)
    rendering = renderer.render(people, range(len(people.joints)))
    joints = rendering.joints_camera.double().numpy()
    return Clip(
        rendering.images.numpy(),
        np.arange(len(joints)) / RATE,
        joints - joints[:, :1],
        rendering.joints_2d.double().numpy(),
        rendering.box.double().numpy(),
        joints[:, 0],
        rendering.intrinsics[0].double().numpy(),
        renderer.look[0]["rotation"][:, 2],
        1000 * float(renderer.look[0]["eye"][2]),
    )


def recorded_motion(motion_file: Path, frames: slice, seed: int) -> PosedPeople:
    """A person who moves as a recording says, at `RATE`; the `*.asf` file lies beside it."""
    (skeleton_file,) = motion_file.parent.glob("*.asf")
    motion = {bone: values[frames] for bone, values in read_amc(motion_file, RECORDED_RATE // RATE).items()}
    rotations = retarget(load_body(), read_asf(skeleton_file), motion)
    path = torch.from_numpy(motion["root"][:, :3]) * RECORDED_UNIT_M @ TO_BODY_AXES.T
    return _animate(rotations, path - path[:1], seed)


def planted_walk(motion_file: Path, frames: slice, seed: int) -> PosedPeople:
    """A person who walks as a recording says, on soles that do not slide: the way is what the lowest skin makes it."""
    people = recorded_motion(motion_file, frames, seed)
    vertices, joints = people.vertices.clone(), people.joints.clone()
    for frame in range(1, len(vertices)):
        before, now = vertices[frame - 1], vertices[frame]
        soles = before[:, 2] < before[:, 2].amin() + SOLE_M
        slip = (now[soles] - before[soles]).mean(0)
        slip[2] = now[:, 2].amin()
        vertices[frame:] -= slip
        joints[frame:] -= slip
    return PosedPeople(vertices, joints, people.activity)


def walking_motion(num_frames: int, seed: int) -> PosedPeople:
    """A person who walks in a bow, by sines alone."""
    body = load_body()
    phase = 2 * np.pi * torch.arange(num_frames, dtype=torch.float64) / RATE / STRIDE_S
    heading = torch.deg2rad(torch.linspace(-50, 60, num_frames, dtype=torch.float64))
    rotations = torch.eye(3, dtype=torch.float64).expand(num_frames, len(body.bone_names), 3, 3).clone()

    def turn(bone: str, axis: str, degrees: Tensor | float) -> None:
        angle = torch.deg2rad(torch.as_tensor(degrees, dtype=torch.float64).expand(num_frames))
        rotations[:, body.bone(bone)] = rotations[:, body.bone(bone)] @ rotation_about(axis, angle)

    turn("root", "z", torch.rad2deg(heading))
    for side, sign in (("L", 1.0), ("R", -1.0)):
        swing = sign * torch.sin(phase)
        lifting = (sign * torch.cos(phase)).clamp(min=0)
        turn(f"upperleg01.{side}", "x", -27 * swing - 8 * lifting)
        turn(f"lowerleg01.{side}", "x", 6 + 48 * lifting)
        turn(f"upperarm01.{side}", "x", 24 * swing)
        turn(f"upperarm01.{side}", "y", sign * 38)
        turn(f"lowerarm01.{side}", "x", -22 + 12 * swing)
    forward = torch.stack([torch.sin(heading), -torch.cos(heading), torch.zeros_like(heading)], -1)
    return _animate(rotations, forward.cumsum(0) * SPEED / RATE, seed, on_ground=True)


def _animate(rotations: Tensor, path: Tensor, seed: int, on_ground: bool = False) -> PosedPeople:
    """Pose a body by `(frames, bones, 3, 3)` along a path `(frames, 3)` in metres, its lowest point on the ground.

    With `on_ground` every frame touches the ground, else the lowest one does.
    """
    body = load_body()
    shape = body.shape_samples[seed].expand(len(rotations), -1)
    posed = body.pose(shape, rotations.float())
    offset = (path.float() - posed.joints[:1, 0])[:, None]
    vertices, joints = posed.vertices + offset, posed.joints + offset
    lowest = vertices[..., 2].amin(1)  # (frames,)
    height = (lowest if on_ground else lowest.amin().expand_as(lowest))[:, None]
    vertices[..., 2] -= height
    joints[..., 2] -= height
    return PosedPeople(vertices, joints, ["walking"] * len(vertices))


def write_clip(clip: Clip, path: Path) -> None:
    """Write the pictures as a film."""
    from jointdetr.formats.film import FilmWriter

    with FilmWriter(path, RATE) as film:
        for image, time_s in zip(clip.images, clip.times_s, strict=True):
            film.write(Image.fromarray(image), time_s)


def main() -> None:
    """Write the walk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--frames", type=int, default=45)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clip = render_clip(walking_motion(arguments.frames, arguments.seed), arguments.size, arguments.seed)
    write_clip(clip, arguments.output)
    x, y, width, height = clip.boxes[0].round().astype(int).tolist()
    print(f"{arguments.output}: {len(clip.images)} frames, the person begins at --box {x} {y} {width} {height}")


if __name__ == "__main__":
    main()
