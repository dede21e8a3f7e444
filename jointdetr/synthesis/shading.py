"""What is seen besides the person - sky, ground, walls and boxes, found by rays - and light, shadow and the sensor.

Shape vocabulary: coordinates and colours first, `(3, ...)`; `batch` pictures, `pixels` rays of one picture in row
order, `cells` of the shadow map or of a flat list of (box, pixel or point) pairs, `boxes` and `walls`, `n` points.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .materials import BOX, GROUND, NUM_BOX_PAINTS, SKIN, SKY, WALL
from .rasterizer import NEAREST_DEPTH, cells_in_rectangles, dot, rasterize, unit
from .scene import NUM_WALLS, Scene, rotate, spread

SKY_DEPTH = 80.0
SKY_SCALE = 3.0  # metres of texture over one radian
SHADOW_CELLS_PER_RAY = 1.25
SHADOW_MARGIN = 1.1  # the shadow map reaches this much farther than the body
LIGHT_DISTANCE = 20.0
SURFACE_LIFT = 0.012  # metres along the normal, so that a surface does not shade itself
SHADOW_BIAS = 0.015
SHADOW_BLOCK = 8  # cells
TAPS = ((-1, -1), (0, -1), (1, -1), (-1, 0), (0, 0), (1, 0), (-1, 1), (0, 1), (1, 1))
SKIN_WRAP = 0.2  # light goes round edges of skin
SHININESS = 30
GAMMA = 1 / 2.2


@dataclass(frozen=True)
class GeometryBuffer:
    """What each pixel shows; filled in place, the farthest surface first."""

    ray: Tensor  # (3, batch, pixels) from the camera, as long as one metre of camera depth
    depth: Tensor  # (batch, pixels) camera depth in metres
    material: Tensor  # (batch, pixels) int64
    normal: Tensor  # (3, batch, pixels) unit vector out of the surface
    texture: Tensor  # (3, batch, pixels) texture coordinates in metres


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
    """Meet boxes at the origin, of half edges `(3, cells)`, with rays `(3, cells)` in their own axes.

    Returns `(cells,)` how many `direction` away the box begins (infinite: missed or behind), `(cells,)` the axis of
    the face that is met, `(cells,)` bool whether any of the box lies ahead.
    """
    direction = torch.where(direction.abs() < 1e-7, 1e-7, direction)
    middle, reach = -start / direction, half / direction.abs()
    enter, face = (middle - reach).max(0)
    leave = (middle + reach).amin(0)
    ahead = (enter < leave) & (leave > 1e-3)
    return torch.where(ahead & (enter > 1e-3), enter, torch.inf), face, ahead


def to_light(points: Tensor, scene: Scene) -> Tensor:
    """World metres -> metres across, across and towards the key light from the person: `(3, batch, n)` both."""
    return rotate(light_axes(scene), points - spread(scene.centre))


def light_axes(scene: Scene) -> Tensor:
    """World-to-light rotation `(batch, 3, 3)`; its last row points to the light."""
    helper = torch.tensor([0.31, 0.95, 0.1], device=scene.light.device).expand_as(scene.light)
    first = F.normalize(torch.linalg.cross(scene.light, helper), dim=-1)
    return torch.stack([first, torch.linalg.cross(scene.light, first), scene.light], 1)


@dataclass(frozen=True)
class ShadowMap:
    """Distance from the key light to the body, seen along parallel rays."""

    distance: Tensor  # (batch, cells, cells) metres, infinite where the light passes
    scale: Tensor  # (batch,) cells for a metre
    softness: Tensor  # (batch,) width of the shadow's edge in cells

    @classmethod
    def of_mesh(cls, vertices: Tensor, faces: Tensor, scene: Scene, rays_per_edge: int) -> "ShadowMap":
        """Look at the body `(3, batch, vertices)` from the light."""
        size = max(16, int(rays_per_edge * SHADOW_CELLS_PER_RAY))
        scale = size / 2 / (scene.radius * SHADOW_MARGIN)
        local = to_light(vertices, scene)
        plane = local[:2] * scale[:, None] + size / 2
        _, nearest = rasterize(torch.cat([plane, LIGHT_DISTANCE - local[2:]]), faces, size, cull_back=False)
        return cls(nearest.view(-1, size, size), scale, scene.softness)

    def lit(self, local: Tensor) -> Tensor:
        """Share of the key light that passes the body to points in light axes `(3, batch, n)` -> `(batch, n)`."""
        size = self.distance.shape[1]
        covered = self.distance.isfinite().float()[:, None]
        coarse = F.max_pool2d(covered, SHADOW_BLOCK, ceil_mode=True)
        coarse = F.max_pool2d(coarse, 3, stride=1, padding=1)[:, 0] > 0  # (batch, blocks, blocks), near the body
        plane = local[:2] * self.scale[:, None] + size / 2  # (2, batch, n)
        column, row = (plane.clamp(0, size - 1) / SHADOW_BLOCK).long()  # (batch, n)
        inside = ((plane >= 0) & (plane < size)).all(0)
        near = (inside & coarse.flatten(1).gather(1, row * coarse.shape[1] + column)).flatten().nonzero()[:, 0]
        image = torch.div(near, local.shape[2], rounding_mode="floor")
        column, row = plane.flatten(1).index_select(1, near)
        limit = LIGHT_DISTANCE - local[2].flatten()[near] - SHADOW_BIAS
        first, step = image * (size * size), self.softness[image]
        shade = torch.zeros_like(limit)
        for right, down in TAPS:
            cell_x = (column + right * step).long().clamp_(0, size - 1)
            cell_y = (row + down * step).long().clamp_(0, size - 1)
            shade += self.distance.view(-1)[first + cell_y * size + cell_x] < limit
        lit = torch.ones_like(local[2])
        lit.view(-1)[near] = 1 - shade / len(TAPS)
        return lit


def light_surface(buffer: GeometryBuffer, paint: tuple[Tensor, Tensor], scene: Scene, shadow: ShadowMap) -> Tensor:
    """Linear light `(3, batch, pixels)`, of colour `(3, batch, pixels)` and strength of the highlight as `paint`."""
    (colour, highlight), normal = paint, buffer.normal
    place = spread(scene.eye) + buffer.ray * buffer.depth
    view = unit(buffer.ray)
    light, key = spread(scene.light), spread(scene.key)
    wrap = SKIN_WRAP * (buffer.material == SKIN)
    facing = ((dot(normal, light) + wrap) / (1 + wrap)).clamp(min=0)
    local = to_light(place + normal * SURFACE_LIFT, scene)
    lit = shadow.lit(local) * ~shaded_by_boxes(local, facing > 0, scene)
    shine = dot(normal, unit(light - view)).clamp(min=0) ** SHININESS
    grazing = (1 + dot(normal, view)).clamp(0, 1) ** 4
    ambient = torch.lerp(spread(scene.ambient_down), spread(scene.ambient_up), 0.5 + 0.5 * normal[2])
    ambient = ambient * _openness(place, buffer.material, scene)
    rim = dot(normal, spread(scene.rim)).clamp(min=0)
    direct = key * (facing * lit) + spread(scene.rim_colour) * rim
    total = colour * (ambient + direct) + key * (highlight * lit * shine) + ambient * (0.1 * grazing)
    return torch.where(buffer.material == SKY, colour, total)


def shaded_by_boxes(local: Tensor, facing: Tensor, scene: Scene) -> Tensor:
    """Whether a box stands between points in light axes `(3, batch, n)` and the key light, `(batch, n)` bool.

    `facing` `(batch, n)` bool are the points to look at.
    """
    axes = light_axes(scene)
    shaded = torch.zeros_like(facing)
    for box in range(scene.box_centre.shape[1]):
        used = scene.box_centre[:, box].abs().amax(-1) < SKY_DEPTH  # (batch,)
        radius = torch.where(used, scene.box_half[:, box].norm(dim=-1), 0.0)[:, None]
        centre = (axes @ (scene.box_centre[:, box] - scene.centre)[..., None])[..., 0]  # (batch, 3)
        right, down, ahead = local - spread(centre)
        near = facing & (right * right + down * down < radius**2) & (ahead < radius)  # by the box's bounding sphere
        image, point = near.nonzero(as_tuple=True)
        turn = scene.box_axes[:, box] @ axes.transpose(1, 2)  # light axes to box axes
        offset = torch.stack([right[image, point], down[image, point], ahead[image, point]])
        start = (turn[image].permute(1, 2, 0) * offset).sum(1)  # (3, cells)
        _, _, shaded_here = hit_box(start, turn[image, :, 2].T, scene.box_half[image, box].T)
        shaded[image, point] |= shaded_here
    return shaded


def develop(light: Tensor, scene: Scene) -> Tensor:
    """Expose, balance, fade and tone-map `(3, batch, height, width)` linear light -> the same in [0, 1]."""
    wide = (slice(None), None, None)
    mean = light.mean((0, 2, 3)).clamp(min=1e-3)  # (batch,)
    light = light * (scene.exposure / mean * scene.white_balance.T)[..., None, None]
    red, green, blue = light
    grey = 0.3 * red + 0.59 * green + 0.11 * blue
    light = torch.lerp(grey[None], light, scene.saturation[wide]).clamp(min=0)
    line = torch.linspace(-1, 1, light.shape[-1], device=light.device)
    distance = (line[:, None] ** 2 + line**2) / 2  # (height, width)
    light = light * (1 - scene.vignette[wide] * distance)
    # filmic curve by Narkowicz, "ACES filmic tone mapping curve" (2015)
    filmic = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    return filmic.clamp(0, 1) ** GAMMA


def _openness(place: Tensor, material: Tensor, scene: Scene) -> Tensor:
    """Share of the sky that points `(3, batch, n)` near the ground or the feet still see: `(batch, n)`."""
    above = (0.55 + place[2] * 1.3).clamp(0.55, 1)
    right, ahead = (place - spread(scene.centre))[:2]
    distance = (right * right + ahead * ahead).sqrt()
    contact = (0.45 + distance * (0.7 / scene.radius)[:, None]).clamp(max=1)
    return torch.where(material == GROUND, above * contact, above)


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
