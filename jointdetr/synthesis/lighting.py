"""Light, shadow and the sensor.

Shape vocabulary: `batch` pictures, `points` = batch x pixels flattened, `cells` of the shadow map, `boxes` of a scene.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .backdrop import SKY_DEPTH, GeometryBuffer, hit_box
from .materials import GROUND, SKIN, SKY
from .rasterizer import rasterize
from .scene import Scene

SHADOW_CELLS_PER_RAY = 1.25
SHADOW_MARGIN = 1.1  # the shadow map reaches this much farther than the body
LIGHT_DISTANCE = 20.0
SURFACE_LIFT = 0.012  # metres along the normal, so that a surface does not shade itself
SHADOW_BIAS = 0.015
TAPS = ((-1, -1), (0, -1), (1, -1), (-1, 0), (0, 0), (1, 0), (-1, 1), (0, 1), (1, 1))
SKIN_WRAP = 0.2  # light goes round edges of skin
SHININESS = 30
GAMMA = 1 / 2.2


@dataclass(frozen=True)
class ShadowMap:
    """Distance from the key light to the body, seen along parallel rays.

    Attributes:
        distance: `(batch, cells, cells)` metres, infinite where the light passes.
        across: `(batch, 2, 3)` the two axes of the map, in cells for a metre.
        size: number of cells along each edge.
    """

    distance: Tensor
    across: Tensor
    size: int

    @classmethod
    def of_mesh(cls, vertices: Tensor, faces: Tensor, scene: Scene, rays_per_edge: int) -> "ShadowMap":
        """Look at the body `(batch, vertices, 3)` from the light."""
        size = max(16, int(rays_per_edge * SHADOW_CELLS_PER_RAY))
        helper = torch.tensor([0.31, 0.95, 0.1], device=vertices.device).expand_as(scene.light)
        first = F.normalize(torch.linalg.cross(scene.light, helper), dim=-1)
        second = torch.linalg.cross(scene.light, first)
        scale = size / 2 / (scene.radius * SHADOW_MARGIN)
        across = torch.stack([first, second], 1) * scale[:, None, None]
        local = vertices - scene.centre[:, None]
        plane = local @ across.transpose(1, 2) + size / 2
        distance = LIGHT_DISTANCE - local @ scene.light[:, :, None]
        _, nearest = rasterize(torch.cat([plane, distance], -1), faces, size, cull_back=False)
        return cls(nearest.view(-1, size, size), across, size)

    def lit_by_key(self, points: Tensor, image: Tensor, scene: Scene) -> Tensor:
        """Share of the key light that the body lets through to `(points, 3)` -> `(points,)` in [0, 1]."""
        local = points - scene.centre[image]
        plane = (self.across[image] * local[:, None]).sum(-1) + self.size / 2  # (points, 2)
        lit = torch.ones_like(plane[:, 0])
        near = self._may_be_shaded(plane, image).nonzero()[:, 0]
        plane, image, local = plane[near], image[near], local[near]
        limit = LIGHT_DISTANCE - (local * scene.light[image]).sum(-1) - SHADOW_BIAS
        shade = torch.zeros_like(limit)
        for tap in TAPS:
            moved = plane + torch.tensor(tap, device=plane.device) * scene.softness[image][:, None]
            column, row = moved.long().clamp_(0, self.size - 1).unbind(-1)
            shade += self.distance.view(-1)[(image * self.size + row) * self.size + column] < limit
        lit[near] = 1 - shade / len(TAPS)
        return lit

    def _may_be_shaded(self, plane: Tensor, image: Tensor) -> Tensor:
        """Whether anything lies between the light and the neighbourhood of `(points, 2)` cells."""
        blocks = 8
        covered = self.distance.isfinite().float()[:, None]
        coarse = F.max_pool2d(covered, blocks, ceil_mode=True)
        coarse = F.max_pool2d(coarse, 3, stride=1, padding=1)[:, 0] > 0  # (batch, coarse, coarse)
        inside = ((plane >= 0) & (plane < self.size)).all(-1)
        column, row = torch.div(plane.long().clamp(0, self.size - 1), blocks, rounding_mode="floor").unbind(-1)
        return inside & coarse.view(-1)[(image * coarse.shape[1] + row) * coarse.shape[2] + column]


def light_surface(buffer: GeometryBuffer, paint: tuple[Tensor, Tensor], scene: Scene, shadow: ShadowMap) -> Tensor:
    """Light every pixel.

    Args:
        buffer: what each pixel shows.
        paint: `(points, 3)` colour and `(points,)` strength of the highlight.
        scene: lights and boxes.
        shadow: the body's shadow.

    Returns:
        `(points, 3)` linear light.
    """
    colour, highlight = paint
    image, normal = buffer.image, buffer.normal
    place = scene.eye[image] + buffer.ray * buffer.depth[:, None]
    view = F.normalize(buffer.ray, dim=-1)
    light, key = scene.light[image], scene.key[image]
    lifted = place + normal * SURFACE_LIFT
    lit = shadow.lit_by_key(lifted, image, scene) * ~shaded_by_boxes(lifted, image, scene)
    wrap = SKIN_WRAP * (buffer.material == SKIN)
    facing = (((normal * light).sum(-1) + wrap) / (1 + wrap)).clamp(min=0)
    shine = (normal * F.normalize(light - view, dim=-1)).sum(-1).clamp(min=0) ** SHININESS
    grazing = (1 + (normal * view).sum(-1)).clamp(0, 1) ** 4
    rim = (normal * scene.rim[image]).sum(-1).clamp(min=0)
    ambient = torch.lerp(scene.ambient_down[image], scene.ambient_up[image], 0.5 + 0.5 * normal[:, 2:])
    ambient = ambient * _openness(place, buffer.material, image, scene)[:, None]
    direct = key * (facing * lit)[:, None] + scene.rim_colour[image] * rim[:, None]
    total = colour * (ambient + direct) + key * (highlight * lit * shine)[:, None] + ambient * 0.1 * grazing[:, None]
    return torch.where((buffer.material == SKY)[:, None], colour, total)


def shaded_by_boxes(points: Tensor, image: Tensor, scene: Scene) -> Tensor:
    """Whether a box stands between `(points, 3)` and the key light -> `(points,)` bool."""
    count = scene.box_centre.shape[1]
    shaded = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for box in range(count):
        centre = scene.box_centre[:, box]
        used = centre.abs().amax(-1) < SKY_DEPTH  # (batch,)
        radius = torch.where(used, scene.box_half[:, box].norm(dim=-1), 0.0)
        offset = points - centre[image]
        along = (offset * scene.light[image]).sum(-1)
        gap = (offset * offset).sum(-1) - along**2  # squared distance of the box's middle from the ray
        near = ((gap < (radius**2)[image]) & (along < radius[image])).nonzero()[:, 0]
        axes = scene.box_axes[:, box]
        chosen = image[near]
        start = (axes[chosen] * offset[near][:, None]).sum(-1)
        direction = (axes * scene.light[:, None]).sum(-1)[chosen]
        _, _, ahead = hit_box(start, direction, scene.box_half[:, box][chosen])
        shaded[near] |= ahead
    return shaded


def develop(light: Tensor, scene: Scene) -> Tensor:
    """Expose, balance, fade and tone-map `(batch, height, width, 3)` linear light -> the same in [0, 1]."""
    wide = (slice(None), None, None, None)
    mean = light.mean((1, 2, 3), keepdim=True).clamp(min=1e-3)
    light = light * (scene.exposure[wide] / mean) * scene.white_balance[:, None, None]
    weights = torch.tensor([0.3, 0.59, 0.11], device=light.device)
    grey = (light * weights).sum(-1, keepdim=True)
    light = torch.lerp(grey, light, scene.saturation[wide]).clamp(min=0)
    line = torch.linspace(-1, 1, light.shape[1], device=light.device)
    distance = (line[:, None] ** 2 + line**2)[None, ..., None] / 2  # (1, height, width, 1)
    light = light * (1 - scene.vignette[wide] * distance)
    # filmic curve by Narkowicz, "ACES filmic tone mapping curve" (2015)
    filmic = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    return filmic.clamp(0, 1) ** GAMMA


def _openness(place: Tensor, material: Tensor, image: Tensor, scene: Scene) -> Tensor:
    """Share of the sky that points near the ground or the feet still see: `(points,)`."""
    above = (0.55 + place[:, 2] * 1.3).clamp(0.55, 1)
    distance = (place[:, :2] - scene.centre[image, :2]).norm(dim=-1)
    contact = (0.45 + distance / scene.radius[image] * 0.7).clamp(max=1)
    return torch.where(material == GROUND, above * contact, above)
