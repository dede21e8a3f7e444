"""What is seen besides the person: sky, ground, walls and boxes, found by rays.

Shape vocabulary: `batch` pictures, `pixels` rays of one picture in row order, `points` = batch x pixels flattened,
`cells` any flat list of (box, pixel) pairs, `boxes` and `walls` of a scene.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .materials import BOX, GROUND, NUM_BOX_PAINTS, SKY, WALL
from .rasterizer import NEAREST_DEPTH, cells_in_rectangles
from .scene import NUM_WALLS, Scene

SKY_DEPTH = 80.0
SKY_SCALE = 3.0  # metres of texture over one radian


@dataclass(frozen=True)
class GeometryBuffer:
    """What each pixel shows; filled in place, the farthest surface first.

    Attributes:
        image: `(points,)` index of the picture.
        ray: `(points, 3)` from the camera, as long as one metre of camera depth.
        depth: `(points,)` camera depth in metres.
        material: `(points,)` int64.
        normal: `(points, 3)` unit vector out of the surface.
        texture: `(points, 3)` texture coordinates in metres.
    """

    image: Tensor
    ray: Tensor
    depth: Tensor
    material: Tensor
    normal: Tensor
    texture: Tensor


def empty_room(scene: Scene, size: int) -> GeometryBuffer:
    """Look at sky, ground and walls with `size` x `size` rays for each picture of the batch."""
    batch, device = len(scene.eye), scene.eye.device
    line = (torch.arange(size, device=device) + 0.5) / size - 0.5
    plane = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(1, -1, 2)  # (1, pixels, 2)
    plane = plane / scene.focal[:, None, None]
    ray = torch.cat([plane, torch.ones_like(plane[..., :1])], -1) @ scene.rotation  # (batch, pixels, 3)
    depth, material, normal = _nearest_plane(scene, ray)
    place = scene.eye[:, None] + ray * depth[..., None]
    is_sky, is_wall = (material == SKY)[..., None], ((material >= WALL) & (material < BOX))[..., None]
    along = place[..., 1] * normal[..., 0] - place[..., 0] * normal[..., 1]
    on_wall = torch.stack([along, torch.zeros_like(along), place[..., 2]], -1)
    on_sky = torch.nn.functional.normalize(ray, dim=-1) * SKY_SCALE
    texture = torch.where(is_sky, on_sky, torch.where(is_wall, on_wall, place))
    image = torch.arange(batch, device=device).repeat_interleave(size * size)
    return GeometryBuffer(
        image, ray.flatten(0, 1), depth.flatten(), material.flatten(), normal.flatten(0, 1), texture.flatten(0, 1)
    )


def add_boxes(buffer: GeometryBuffer, scene: Scene, size: int) -> None:
    """Draw the boxes where they are nearer than what the buffer holds."""
    owner, column, row = _box_cells(scene, size)
    image = torch.div(owner, scene.box_centre.shape[1], rounding_mode="floor")
    pixel = image * (size * size) + row * size + column
    axes, half = scene.box_axes.flatten(0, 1), scene.box_half.flatten(0, 1)  # (batch * boxes, ...)
    start = ((scene.eye[:, None] - scene.box_centre)[..., None, :] * scene.box_axes).sum(-1).flatten(0, 1)
    direction = (axes[owner] * buffer.ray[pixel][:, None]).sum(-1)  # (cells, 3)
    depth, face, _ = hit_box(start[owner], direction, half[owner])
    nearer = (depth < buffer.depth[pixel]).nonzero()[:, 0]
    owner, pixel, depth, face = owner[nearer], pixel[nearer], depth[nearer], face[nearer]
    buffer.depth.scatter_reduce_(0, pixel, depth, "amin")
    first = (depth == buffer.depth[pixel]).nonzero()[:, 0]
    owner, pixel, depth, face = owner[first], pixel[first], depth[first], face[first]
    direction = direction[nearer][first]
    sign = -direction.gather(1, face[:, None]).sign()
    buffer.material[pixel] = BOX + torch.remainder(owner, scene.box_centre.shape[1]) % NUM_BOX_PAINTS
    buffer.normal[pixel] = axes[owner].gather(1, face[:, None, None].expand(-1, 1, 3))[:, 0] * sign
    buffer.texture[pixel] = start[owner] + direction * depth[:, None]


def hit_box(start: Tensor, direction: Tensor, half: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Meet boxes at the origin with rays in their own axes.

    Args:
        start: `(cells, 3)`.
        direction: `(cells, 3)`.
        half: `(cells, 3)` half edges.

    Returns:
        `(cells,)` how many `direction` away the box begins (infinite: missed or behind), `(cells,)` the axis of the
        face that is met, `(cells,)` bool whether any of the box lies ahead.
    """
    direction = torch.where(direction.abs() < 1e-7, 1e-7, direction)
    middle, reach = -start / direction, half / direction.abs()
    enter, face = (middle - reach).max(-1)
    leave = (middle + reach).amin(-1)
    ahead = (enter < leave) & (leave > 1e-3)
    return torch.where(ahead & (enter > 1e-3), enter, torch.inf), face, ahead


def _nearest_plane(scene: Scene, ray: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, material and normal of sky, ground or wall along rays `(batch, pixels, 3)`."""
    depth = torch.full_like(ray[..., 0], SKY_DEPTH)
    material = torch.full_like(depth, SKY, dtype=torch.long)
    normals = [-ray.mean(1)]  # the sky faces the camera
    to_ground = -scene.eye[:, 2:] / ray[..., 2].clamp(max=-1e-5)
    distances = [torch.where(ray[..., 2] < -1e-5, to_ground, torch.inf)]
    normals.append(torch.tensor([0.0, 0.0, 1.0], device=ray.device).expand(len(ray), 3))
    for wall in range(NUM_WALLS):
        outward = scene.wall_normal[:, wall]  # (batch, 3)
        gap = scene.wall_offset[:, wall] - (outward * scene.eye).sum(-1)
        speed = (ray @ outward[:, :, None])[..., 0]
        distances.append(torch.where(speed > 1e-4, gap[:, None] / speed.clamp(min=1e-4), torch.inf))
        normals.append(-outward)
    chosen = torch.zeros_like(material)
    for index, distance in enumerate(distances):
        nearer = (distance < depth) & (distance > 0)
        depth = torch.where(nearer, distance, depth)
        chosen = torch.where(nearer, index + 1, chosen)
    paints = torch.tensor([SKY, GROUND, *range(WALL, WALL + NUM_WALLS)], device=ray.device)
    table = torch.nn.functional.normalize(torch.stack(normals, 1), dim=-1)  # (batch, planes, 3)
    return depth, paints[chosen], table.gather(1, chosen[..., None].expand(-1, -1, 3))


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
    owner, column, row = cells_in_rectangles(low.flatten(0, 1)[index].long(), high.flatten(0, 1)[index].long())
    return index[owner], column, row
