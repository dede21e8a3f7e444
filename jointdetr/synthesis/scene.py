"""Where a person is pictured: camera, room, boxes, light and sensor.

Everything random is drawn for one picture at a time, on the CPU, from that picture's own generator, so that a picture
does not depend on the batch it is rendered in. World axes: metres, z up, the ground at z = 0. Camera axes: x right,
y down, z forward.

Shape vocabulary: `batch` pictures, `joints` of the skeleton, `walls` and `boxes` of a scene.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

Preset = Literal["everyday", "everything", "nobody"]
Record = dict[str, np.ndarray]
Batch = TypeVar("Batch")

NUM_WALLS = 3
NUM_BOXES = 10
NOWHERE = 1e4  # unused walls and boxes are put this many metres away
BODY_MARGIN = 0.12  # metres from a joint to the body's outline: hands, feet and the top of the head
NEAREST_JOINT = 0.4  # metres
LOWEST_CAMERA = 0.12  # metres above the ground
SEAT_BELOW_PELVIS = 0.11  # metres from between the hip joints to what one sits on
LOWEST_SEAT = 0.12  # metres above the ground


@dataclass(frozen=True)
class Scene:
    """Scenes of a batch of pictures, stacked."""

    rotation: Tensor  # (batch, 3, 3) world to camera axes
    eye: Tensor  # (batch, 3) camera position in metres
    focal: Tensor  # (batch,) focal length as a multiple of the picture's edge
    centre: Tensor  # (batch, 3) middle of the person in metres
    radius: Tensor  # (batch,) of a sphere about `centre` that holds the person, metres
    wall_normal: Tensor  # (batch, walls, 3) unit vectors out of the room
    wall_offset: Tensor  # (batch, walls) a wall is where `normal . x = offset`
    box_centre: Tensor  # (batch, boxes, 3) in metres
    box_half: Tensor  # (batch, boxes, 3) half edges in metres
    box_axes: Tensor  # (batch, boxes, 3, 3) world to box axes
    light: Tensor  # (batch, 3) unit vector to the key light
    key: Tensor  # (batch, 3) colour of the key light
    rim: Tensor  # (batch, 3) unit vector to a second light that throws no shadow
    rim_colour: Tensor  # (batch, 3)
    ambient_up: Tensor  # (batch, 3) light on surfaces that look up
    ambient_down: Tensor  # (batch, 3) light on surfaces that look down
    softness: Tensor  # (batch,) width of the shadow's edge in cells of the shadow map
    exposure: Tensor  # (batch,) mean brightness after exposure
    white_balance: Tensor  # (batch, 3) gain of each channel
    saturation: Tensor  # (batch,) 0 is grey, 1 as lit
    vignette: Tensor  # (batch,) darkening of the corners
    grain: Tensor  # (batch,) deviation of the sensor's noise


def stack_records(kind: type[Batch], records: Sequence[Record], device: torch.device) -> Batch:
    """Stack one dictionary of arrays for each picture into a dataclass of tensors with a batch dimension."""
    columns = {}
    for name in (field.name for field in fields(kind)):
        stacked = torch.from_numpy(np.array([record[name] for record in records]))
        columns[name] = stacked.to(device, torch.float32 if stacked.is_floating_point() else stacked.dtype)
    return kind(**columns)


def spread(vectors: Tensor) -> Tensor:
    """One vector for each picture `(batch, 3)` -> `(3, batch, 1)`, to meet `(3, batch, n)` points."""
    return vectors.T[..., None]


def rotate(matrices: Tensor, points: Tensor) -> Tensor:
    """Turn `(3, batch, n)` points by one matrix for each picture `(batch, 3, 3)` -> `(3, batch, n)`.

    Written out, because the last bits of a matrix product depend on how many there are in the batch.
    """
    first, second, third = matrices.permute(2, 1, 0)[..., None]  # columns of the matrices, (3, batch, 1) each
    return first * points[0] + second * points[1] + third * points[2]


def draw_scene(
    rng: np.random.Generator, joints: np.ndarray, bounds: np.ndarray, activity: str, preset: Preset
) -> Record:
    """Draw a scene around one person with the picture's own generator: the fields of `Scene` without the batch.

    Of the person: joints (17, 3), or (frames x 17, 3) of a film in one scene; lowest and highest corner of the body
    (2, 3); both metres. Who sits gets a seat.
    """
    low, high = bounds
    person = {"centre": (low + high) / 2, "radius": np.linalg.norm(high - low) / 2}
    camera = draw_camera(rng, joints, preset)
    scene = person | camera | draw_walls(rng, joints, camera)
    boxes = draw_boxes(rng, joints, camera["eye"], activity.startswith("sitting"), preset)
    return scene | boxes | draw_light(rng, camera["rotation"])


def draw_camera(rng: np.random.Generator, joints: np.ndarray, preset: Preset) -> Record:
    """Draw a direction and a framing, then walk the camera to where the person fills the picture that way."""
    everyday_view = preset != "everything" or rng.random() < 0.4
    degrees = np.clip(rng.normal(8, 8), -8, 30) if everyday_view else rng.uniform(-12, 65)
    focal = 0.5 / math.tan(math.radians(rng.uniform(22, 62)) / 2)
    rotation = view_rotation(rng.uniform(0, 2 * math.pi), math.radians(degrees), math.radians(rng.normal(0, 2.5)))
    if rng.random() < (0.07 if preset != "everything" else 0.2):  # cut off
        fill, target = rng.uniform(0.95, 1.5), rng.uniform(-0.25, 0.25, 2)
    else:
        fill = rng.uniform(0.55, 0.9) if preset != "everything" else rng.uniform(0.3, 0.92)
        target = rng.uniform(-0.45, 0.45, 2) * (1 - fill)
    eye = place_camera(joints, rotation, float(focal), (fill, target))
    return {"rotation": rotation, "eye": eye, "focal": np.float64(focal)}


def view_rotation(azimuth: float, elevation: float, roll: float) -> np.ndarray:
    """World-to-camera rotation `(3, 3)` of a camera that stands at these angles (radians) and looks at the origin."""
    level = np.array([math.cos(azimuth), math.sin(azimuth), 0.0])
    forward = -(math.cos(elevation) * level + np.array([0.0, 0.0, math.sin(elevation)]))
    right = np.array([-math.sin(azimuth), math.cos(azimuth), 0.0])
    down = np.cross(forward, right)
    cos, sin = math.cos(roll), math.sin(roll)
    return np.stack([right * cos + down * sin, down * cos - right * sin, forward])


def place_camera(
    joints: np.ndarray, rotation: np.ndarray, focal: float, framing: tuple[float, np.ndarray]
) -> np.ndarray:
    """Camera position `(3,)` that gives the person's box its `framing`: longer side, `(2,)` centre from the picture's.

    Both and `focal` are in picture edges.
    """
    fill, target = framing
    eye = joints.mean(0) - rotation[2] * 12 * focal
    for _ in range(10):
        camera = (joints - eye) @ rotation.T
        depth = np.maximum(camera[:, 2:], NEAREST_JOINT)
        points, margin = focal * camera[:, :2] / depth, focal * BODY_MARGIN / depth
        low, high = (points - margin).min(0), (points + margin).max(0)
        distance = float(depth.mean())
        pan = ((low + high) / 2 - target) * distance / focal
        dolly = distance * (1 - (high - low).max() / fill)
        eye = eye + pan @ rotation[:2] + dolly * rotation[2]
        eye = eye - rotation[2] * max(0.0, NEAREST_JOINT - ((joints - eye) @ rotation[2]).min())
        eye[2] = max(eye[2], LOWEST_CAMERA)
    return eye


def draw_walls(rng: np.random.Generator, joints: np.ndarray, camera: Record) -> Record:
    """Up to three walls behind and beside the person, none of them through the person."""
    forward = camera["rotation"][2]
    heading = math.atan2(forward[1], forward[0])
    count = rng.choice(4, p=[0.1, 0.25, 0.4, 0.25])
    side = rng.choice([-1.0, 1.0])
    turns = rng.normal(0, 0.4) + np.array([0.0, side, -side]) * rng.uniform(0.9, 1.57, 3)
    normals = np.stack([np.cos(heading + turns), np.sin(heading + turns), np.zeros(3)], -1)
    reach = np.maximum((joints @ normals.T).max(0), (camera["eye"] @ normals.T) + 0.05)
    gaps = BODY_MARGIN * 2 + rng.exponential(1.3, 3) + np.array([0.0, 0.3, 0.3])
    offsets = np.where(np.arange(NUM_WALLS) < count, reach + gaps, NOWHERE)
    return {"wall_normal": normals, "wall_offset": offsets}


def draw_boxes(rng: np.random.Generator, joints: np.ndarray, eye: np.ndarray, sits: bool, preset: Preset) -> Record:
    """Boxes about the person, some hanging, sometimes one in front of the person and one to sit on."""
    centres, halves = np.full((NUM_BOXES, 3), NOWHERE), np.full((NUM_BOXES, 3), 0.1)
    angles = rng.uniform(0, 2 * math.pi, NUM_BOXES)
    middle = joints.mean(0)
    if rng.random() < (0.12 if preset != "everything" else 0.3):
        centres[0] = middle + (eye - middle) * rng.uniform(0.2, 0.55) + rng.normal(0, 0.3, 3)
        halves[0] = rng.uniform(0.04, 0.22, 3)
    if sits and rng.random() < 0.75:
        centres[1], halves[1], angles[1] = _seat(rng, joints)
    for index in range(2, int(rng.integers(2, NUM_BOXES + 1))):
        half = np.exp(rng.normal(-1.3, 0.55, 3)).clip(0.06, 0.9)
        around, distance = rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 4.0)
        height = half[2] if rng.random() < 0.8 else rng.uniform(0.5, 2.5)
        centre = np.array([middle[0] + distance * math.cos(around), middle[1] + distance * math.sin(around), height])
        if rng.random() < 0.06 or not _blocks_view(centre, half, joints, eye):
            centres[index], halves[index] = centre, half
    inside = (np.linalg.norm(centres - eye, axis=-1) < np.linalg.norm(halves, axis=-1) + 0.1)[:, None]
    zero, one = np.zeros(NUM_BOXES), np.ones(NUM_BOXES)
    axes = np.stack([np.cos(angles), np.sin(angles), zero, -np.sin(angles), np.cos(angles), zero, zero, zero, one], -1)
    return {
        "box_centre": np.where(inside, NOWHERE, centres),
        "box_half": halves,
        "box_axes": axes.reshape(NUM_BOXES, 3, 3),
    }


def _seat(rng: np.random.Generator, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre, half edges and angle of a box under the pelvis; far away where a pelvis is too low for one."""
    pelvis, right_hip, left_hip = joints[[0, 1, 4]]
    top = pelvis[2] - SEAT_BELOW_PELVIS
    if top < LOWEST_SEAT:
        return np.full(3, NOWHERE), np.full(3, 0.1), 0.0
    across = left_hip - right_hip
    angle = math.atan2(across[1], across[0])
    back = np.array([-math.sin(angle), math.cos(angle)])  # who faces -y has the left hip at +x
    half = np.array([rng.uniform(0.2, 0.35), rng.uniform(0.17, 0.28), top / 2])
    centre = np.array([*(pelvis[:2] + back * rng.uniform(0.0, 0.08)), top / 2])
    return centre, half, angle


def draw_light(rng: np.random.Generator, rotation: np.ndarray) -> Record:
    """Key light, rim light, sky light, and how the camera develops them."""
    light = rng.normal(0, 1, 3)
    light[2] = abs(light[2]) + 0.4
    rim = rotation[2] + rng.normal(0, 0.7, 3)
    ambient = rng.uniform(0.35, 1.1)
    return {
        "light": light / np.linalg.norm(light),
        "key": rng.uniform(0.2, 2.6) * rng.uniform(0.85, 1.15, 3),
        "rim": rim / np.linalg.norm(rim),
        "rim_colour": rng.uniform(0, 0.7) * rng.uniform(0.7, 1.3, 3) * (rng.random() < 0.4),
        "ambient_up": ambient * rng.uniform(0.85, 1.15, 3),
        "ambient_down": ambient * rng.uniform(0.3, 0.8) * rng.uniform(0.85, 1.15, 3),
        "softness": rng.uniform(0.4, 3.0),
        "exposure": np.exp(rng.normal(-1.65, 0.35)),
        "white_balance": rng.uniform(0.88, 1.12, 3),
        "saturation": rng.uniform(0.5, 1.15) if rng.random() < 0.95 else np.float64(0),
        "vignette": rng.uniform(0, 0.35) * (rng.random() < 0.5),
        "grain": rng.uniform(0, 0.03),
    }


def _blocks_view(centre: np.ndarray, half: np.ndarray, joints: np.ndarray, eye: np.ndarray) -> bool:
    """Whether a box comes too near a joint or the line from the camera to a joint, by its bounding sphere."""
    radius = np.linalg.norm(half) + BODY_MARGIN
    sight = joints - eye
    along = np.clip(((centre - eye) * sight).sum(-1) / (sight * sight).sum(-1), 0, 1)
    gap = np.linalg.norm(centre - eye - along[:, None] * sight, axis=-1)
    return bool((gap < radius).any())
