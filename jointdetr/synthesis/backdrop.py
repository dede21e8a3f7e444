"""What is seen besides the person: sky, ground, walls and boxes, found by rays.

Coordinates come first, `(3, ...)`.

Shape vocabulary: `batch` pictures, `pixels` rays of one picture in row order, `points` = batch x pixels flattened,
`cells` any flat list of (box, pixel) pairs, `boxes` and `walls` of a scene.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .materials import BOX, GROUND, NUM_BOX_PAINTS, SKY, WALL
from .rasterizer import NEAREST_DEPTH, cells_in_rectangles, dot, unit
from .scene import NUM_WALLS, Scene, rotate, spread

SKY_DEPTH = 80.0
SKY_SCALE = 3.0  # metres of texture over one radian


@dataclass(frozen=True)
class GeometryBuffer:
    """What each pixel shows; filled in place, the farthest surface first.

    Attributes:
        ray: `(3, batch, pixels)` from the camera, as long as one metre of camera depth.
        depth: `(batch, pixels)` camera depth in metres.
        material: `(batch, pixels)` int64.
        normal: `(3, batch, pixels)` unit vector out of the surface.
        texture: `(3, batch, pixels)` texture coordinates in metres.
    """

    ray: Tensor
    depth: Tensor
    material: Tensor
    normal: Tensor
    texture: Tensor


def empty_room(scene: Scene, size: int) -> GeometryBuffer:
    """Look at sky, ground and walls with `size` x `size` rays for each picture of the batch."""
    line = (torch.arange(size, device=scene.eye.device) + 0.5) / size - 0.5
    plane = torch.stack(torch.meshgrid(line, line, indexing="xy")).view(2, 1, -1) / scene.focal[:, None]
    ray = rotate(scene.rotation.transpose(1, 2), torch.cat([plane, torch.ones_like(plane[:1])]))  # (3, batch, pixels)
    depth, material, normal = _nearest_plane(scene, ray)
    place = spread(scene.eye) + ray * depth
    is_wall = (material >= WALL) & (material < BOX)
    along = place[1] * normal[0] - place[0] * normal[1]
    on_wall = torch.stack([along, torch.zeros_like(along), place[2]])
    texture = torch.where(is_wall, on_wall, torch.where(material == SKY, unit(ray) * SKY_SCALE, place))
    return GeometryBuffer(ray, depth, material, normal, texture)


def add_boxes(buffer: GeometryBuffer, scene: Scene, size: int) -> None:
    """Draw the boxes where they are nearer than what the buffer holds."""
    boxes = scene.box_centre.shape[1]
    owner, column, row = _box_cells(scene, size)  # (cells,)
    image = torch.div(owner, boxes, rounding_mode="floor")
    pixel = image * (size * size) + row * size + column
    axes = scene.box_axes.flatten(0, 1).permute(1, 2, 0).contiguous()  # (3, 3, batch * boxes)
    half = scene.box_half.flatten(0, 1).T
    start = ((scene.eye[:, None] - scene.box_centre).flatten(0, 1).T * axes).sum(1)  # (3, batch * boxes)
    ray = buffer.ray.flatten(1).index_select(1, pixel)
    direction = (axes.index_select(2, owner) * ray).sum(1)  # (3, cells)
    distance, face, _ = hit_box(start[:, owner], direction, half[:, owner])

    depth = buffer.depth.view(-1)
    nearer = (distance < depth[pixel]).nonzero()[:, 0]
    depth.scatter_reduce_(0, pixel[nearer], distance[nearer], "amin")
    first = nearer[(distance == depth[pixel])[nearer]]
    owner, pixel, face, direction = owner[first], pixel[first], face[first], direction[:, first]
    sign = -direction.gather(0, face[None]).sign()
    buffer.material.view(-1)[pixel] = BOX + torch.remainder(owner, boxes) % NUM_BOX_PAINTS
    buffer.normal.view(3, -1)[:, pixel] = axes[face, :, owner].T * sign
    buffer.texture.view(3, -1)[:, pixel] = start[:, owner] + direction * distance[first]


def hit_box(start: Tensor, direction: Tensor, half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Meet boxes at the origin with rays in their own axes.

    Args:
        start: `(3, cells)`.
        direction: `(3, cells)`.
        half: `(3, cells)` half edges.

    Returns:
        `(cells,)` how many `direction` away the box begins (infinite: missed or behind), `(cells,)` the axis of the
        face that is met, `(cells,)` bool whether any of the box lies ahead.
    """
    direction = torch.where(direction.abs() < 1e-7, 1e-7, direction)
    middle, reach = -start / direction, half / direction.abs()
    enter, face = (middle - reach).max(0)
    leave = (middle + reach).amin(0)
    ahead = (enter < leave) & (leave > 1e-3)
    return torch.where(ahead & (enter > 1e-3), enter, torch.inf), face, ahead


def _nearest_plane(scene: Scene, ray: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, material and normal of sky, ground or wall along rays `(3, batch, pixels)`."""
    depth = torch.full_like(ray[0], SKY_DEPTH)
    chosen = torch.zeros_like(depth, dtype=torch.long)
    to_ground = -scene.eye[:, 2:] / ray[2].clamp(max=-1e-5)
    distances = [torch.where(ray[2] < -1e-5, to_ground, torch.inf)]
    up = torch.tensor([0.0, 0.0, 1.0], device=ray.device).expand_as(scene.eye)
    normals = [-scene.rotation[:, 2], up]  # the sky faces the camera
    for wall in range(NUM_WALLS):
        outward = scene.wall_normal[:, wall]  # (batch, 3)
        gap = scene.wall_offset[:, wall] - (outward * scene.eye).sum(-1)
        speed = dot(spread(outward), ray)
        distances.append(torch.where(speed > 1e-4, gap[:, None] / speed.clamp(min=1e-4), torch.inf))
        normals.append(-outward)
    for index, distance in enumerate(distances):
        nearer = (distance < depth) & (distance > 0)
        depth = torch.where(nearer, distance, depth)
        chosen = torch.where(nearer, index + 1, chosen)
    paints = torch.tensor([SKY, GROUND, *range(WALL, WALL + NUM_WALLS)], device=ray.device)
    table = torch.stack(normals, -1).transpose(0, 1)  # (3, batch, planes)
    return depth, paints[chosen], table.gather(2, chosen.expand(3, -1, -1))


def _box_cells(scene: Scene, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels in the rectangle about each box's picture: flat index of the box, column, row."""
    signs = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], device=scene.eye.device)
    local = signs * scene.box_half[:, :, None]  # (batch, boxes, 8, 3)
    corners = scene.box_centre[:, :, None] + local @ scene.box_axes
    camera = (corners - scene.eye[:, None, None]) @ scene.rotation.transpose(1, 2)[:, None]
    depth = camera[..., 2]
    plane = camera[..., :2] / depth.clamp(min=NEAREST_DEPTH)[..., None] * (scene.focal * size)[:, None, None, None]
    low, high = plane.amin(2) + size / 2, plane.amax(2) + size / 2  # (batch, boxes, 2)
    crosses_camera = (depth.amin(-1) < NEAREST_DEPTH)[..., None]
    low = torch.where(crosses_camera, 0, low.floor().clamp(min=0))
    high = torch.where(crosses_camera, size - 1, high.floor().clamp(max=size - 1))
    seen = (depth.amax(-1) > NEAREST_DEPTH) & (depth.amin(-1) < SKY_DEPTH) & (high >= low).all(-1)
    index = seen.flatten().nonzero()[:, 0]
    owner, column, row = cells_in_rectangles(low.flatten(0, 1)[index].long().T, high.flatten(0, 1)[index].long().T)
    return index[owner], column, row
