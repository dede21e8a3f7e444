"""Pictures of posed people with exact labels: deferred shading in torch alone.

A geometry buffer (what each pixel shows: depth, material, normal, texture coordinates) is filled by walls and ground,
boxes, and the rasterised body in turn; then every pixel is painted and lit once. It runs wherever the body's tensors
are; only the random parameters of a scene are drawn on the CPU. On a GPU the same code runs, untested.

World axes: metres, z up, ground at z = 0. Camera axes: x right, y down, z forward; the camera looks along +z through
the middle of a square picture.

Shape vocabulary: `batch` pictures, `pixels` of one picture in row order, `points` = batch x pixels flattened,
`fragments` points that show the body, `joints` of the skeleton, `boxes` and `walls` of a scene.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.schema import DENSE_MAP_REDUCTION
from .backdrop import GeometryBuffer, add_boxes, empty_room
from .lighting import ShadowMap, develop, light_surface
from .materials import (
    EYES,
    SKIN,
    Outfit,
    Palette,
    SurfaceMap,
    body_materials,
    draw_outfit,
    draw_palette,
    garment_thickness,
    paint_surface,
)
from .rasterizer import Fragments, interpolate, locate_fragments, rasterize, vertex_normals
from .scene import Preset, Scene, Subject, draw_scene, stack_records
from .textures import sample_noise

if TYPE_CHECKING:
    from .body import Body
    from .poses import People

PICTURES_AT_ONCE = {"cpu": 4, "cuda": 64}  # on a CPU more would fall out of its cache
SCENE_STREAM = 1  # keeps a picture's generator apart from the one that draws its pose
VISIBILITY_MARGIN = (
    0.17,
    0.17,
    0.10,
    0.07,
    0.17,
    0.10,
    0.07,
    0.17,
    0.13,
    0.13,
    0.13,
    0.10,
    0.10,
    0.07,
    0.10,
    0.10,
    0.07,
)
"""How deep below the surface each of the 17 joints lies at most, metres."""


@dataclass(frozen=True)
class RenderSettings:
    """How people are pictured.

    Attributes:
        size: width and height in px, a multiple of 4.
        supersampling: rays along each edge of a pixel; 2 smooths edges for four times the work.
        preset: "everyday" (level views, the whole person) or "everything" (steep views, small and cut-off people too).

    Raises:
        ValueError: a value out of its range.
    """

    size: int = 256
    supersampling: int = 1
    preset: Preset = "everyday"

    def __post_init__(self) -> None:
        """Refuse sizes the dense maps cannot be cut from."""
        if self.size < DENSE_MAP_REDUCTION or self.size % DENSE_MAP_REDUCTION:
            raise ValueError(f"`size` must be a positive multiple of {DENSE_MAP_REDUCTION}, got {self.size}")
        if self.supersampling < 1:
            raise ValueError(f"`supersampling` must be at least 1, got {self.supersampling}")
        if self.preset not in ("everyday", "everything"):
            raise ValueError(f"`preset` must be 'everyday' or 'everything', got {self.preset!r}")


@dataclass(frozen=True)
class Rendering:
    """Pictures and their labels.

    Attributes:
        images: `(batch, height, width, 3)` uint8.
        joints_camera: `(batch, joints, 3)` mm, camera axes, absolute.
        joints_2d: `(batch, joints, 2)` px.
        visible: `(batch, joints)` bool, inside the picture and not hidden.
        intrinsics: `(batch, 3, 3)` px.
        box: `(batch, 4)` x, y, width, height of the clothed body inside the picture, px.
        part_map: `(batch, height / 4, width / 4)` uint8, values of `jointdetr.data.schema.PART_NAMES`.
        depth_map: `(batch, height / 4, width / 4)` float, depth below the root joint in mm, NaN where no body is seen.
    """

    images: Tensor
    joints_camera: Tensor
    joints_2d: Tensor
    visible: Tensor
    intrinsics: Tensor
    box: Tensor
    part_map: Tensor
    depth_map: Tensor


def render_people(body: "Body", people: "People", seeds: Sequence[int], settings: RenderSettings) -> Rendering:
    """Picture people, each in a random scene of its own.

    Args:
        body: the body whose mesh the people share; its device does the work.
        people: posed people standing on z = 0.
        seeds: one for each person; a picture depends on its seed and its person alone.
        settings: how to picture them.

    Raises:
        ValueError: the number of seeds is not the number of people.
    """
    return PersonRenderer(body, settings).render(people, seeds)


class PersonRenderer:
    """Renders people of one body; keeps what all pictures share.

    Args:
        body: the body whose mesh the people share; its device does the work.
        settings: how to picture them.
    """

    def __init__(self, body: "Body", settings: RenderSettings) -> None:
        """Derive the map of the body's surface."""
        self.settings = settings
        self.device = body.faces.device
        self.faces = body.faces
        self.surface = SurfaceMap.of_body(body)
        self.rays_per_edge = settings.size * settings.supersampling

    @torch.no_grad()
    def render(self, people: "People", seeds: Sequence[int]) -> Rendering:
        """Picture people, see `render_people`."""
        if len(seeds) != len(people.vertices):
            raise ValueError(
                f"`seeds` must name one seed for each of the {len(people.vertices)} people, got {len(seeds)}"
            )
        step = PICTURES_AT_ONCE.get(self.device.type, 1)
        groups = [slice(first, first + step) for first in range(0, len(seeds), step)]
        parts = [self._render_group(_some_of(people, group), seeds[group]) for group in groups]
        return Rendering(*(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(Rendering)))

    def _render_group(self, people: "People", seeds: Sequence[int]) -> Rendering:
        """Picture a few people at once."""
        generators = [np.random.default_rng((seed, SCENE_STREAM)) for seed in seeds]
        scene, outfit, palette = self._draw(generators, people)
        normals = vertex_normals(people.vertices, self.faces)
        dressed = people.vertices + normals * garment_thickness(self.surface, outfit)[..., None]
        normals = vertex_normals(dressed, self.faces)
        screen = self._to_screen(dressed, scene)  # (batch, vertices, 3)

        nearest, _ = rasterize(screen, self.faces, self.rays_per_edge)
        fragments = locate_fragments(screen, self.faces, nearest, self.rays_per_edge)
        buffer = empty_room(scene, self.rays_per_edge)
        add_boxes(buffer, scene, self.rays_per_edge)
        fragments = fragments.select(fragments.depth < buffer.depth[fragments.pixel])
        part = self._add_body(buffer, fragments, normals, (outfit, palette))

        colour, highlight = paint_surface(buffer.texture, buffer.material, buffer.image, palette)
        shadow = ShadowMap.of_mesh(dressed, self.faces, scene, self.rays_per_edge)
        lit = light_surface(buffer, (colour, highlight), scene, shadow)
        images = develop(lit.view(len(seeds), self.rays_per_edge, self.rays_per_edge, 3), scene)
        return self._label(self._expose(images, scene, generators), (buffer, part), people.joints, (screen, scene))

    def _draw(self, generators: list[np.random.Generator], people: "People") -> tuple[Scene, Outfit, Palette]:
        """Draw every random parameter on the CPU, picture by picture."""
        bounds = (
            torch.stack([people.vertices.amin(1), people.vertices.amax(1)], 1).cpu().double().numpy()
        )  # (batch, 2, 3)
        subjects = map(Subject, people.joints.cpu().double().numpy(), bounds, people.activity)
        scenes = [
            draw_scene(rng, subject, self.settings.preset) for rng, subject in zip(generators, subjects, strict=True)
        ]
        outfits = [draw_outfit(rng) for rng in generators]
        palettes = [draw_palette(rng) for rng in generators]
        return (
            stack_records(Scene, scenes, self.device),
            stack_records(Outfit, outfits, self.device),
            stack_records(Palette, palettes, self.device),
        )

    def _to_screen(self, points: Tensor, scene: Scene) -> Tensor:
        """World metres `(batch, n, 3)` -> x and y in rays, depth in metres, `(batch, n, 3)`."""
        camera = to_camera(points, scene)
        focal = scene.focal[:, None, None] * self.rays_per_edge
        plane = camera[..., :2] / camera[..., 2:].clamp(min=1e-3) * focal + self.rays_per_edge / 2
        return torch.cat([plane, camera[..., 2:]], -1)

    def _add_body(
        self, buffer: GeometryBuffer, fragments: Fragments, normals: Tensor, look: tuple[Outfit, Palette]
    ) -> Tensor:
        """Write the body over the room; returns the part map `(points,)`."""
        outfit, palette = look
        surface = self.surface
        coordinates = interpolate(fragments, self.faces, surface.coordinates)  # (fragments, 6)
        strongest = fragments.weights.argmax(-1, keepdim=True)
        vertex = self.faces[fragments.face].gather(1, strongest)[:, 0]
        material = body_materials(coordinates, surface.region[vertex], fragments.image, surface, outfit)
        place = coordinates[:, :3]
        bumps = sample_noise(place * 9 + palette.offset[fragments.image], channels=3) - 0.5
        is_cloth = ((material != SKIN) & (material != EYES)).float()[:, None]
        normal = F.normalize(interpolate(fragments, self.faces, normals) + bumps * (0.1 + is_cloth), dim=-1)

        pixel = fragments.pixel
        buffer.depth[pixel] = fragments.depth
        buffer.material[pixel] = material
        buffer.normal[pixel] = normal
        buffer.texture[pixel] = place
        part = torch.zeros_like(buffer.material)
        part[pixel] = surface.part[vertex]
        return part

    def _expose(self, images: Tensor, scene: Scene, generators: list[np.random.Generator]) -> Tensor:
        """Average the rays of a pixel and add the sensor's noise -> `(batch, height, width, 3)` uint8."""
        size, rays = self.settings.size, self.settings.supersampling
        if rays > 1:
            images = images.view(-1, size, rays, size, rays, 3).mean((2, 4))
        noise = np.stack([rng.standard_normal((size, size, 3), dtype=np.float32) for rng in generators])
        noisy = images + torch.from_numpy(noise).to(self.device) * scene.grain[:, None, None, None]
        return (noisy.clamp(0, 1) * 255 + 0.5).byte()

    def _label(
        self,
        images: Tensor,
        shown: tuple[GeometryBuffer, Tensor],
        joints: Tensor,
        view: tuple[Tensor, Scene],
    ) -> Rendering:
        """Everything known about the joints and the body's surface."""
        (buffer, part), (screen, scene) = shown, view
        batch, rays, size = len(joints), self.rays_per_edge, self.settings.size
        points = self._to_screen(joints, scene)  # (batch, joints, 3)
        corners = torch.cat([screen[..., :2].amin(1), screen[..., :2].amax(1)], -1).clamp(0, rays)
        corners = corners / self.settings.supersampling  # (batch, 4)
        focal = scene.focal * size
        zero, one, middle = torch.zeros_like(focal), torch.ones_like(focal), torch.full_like(focal, size / 2)
        intrinsics = torch.stack([focal, zero, middle, zero, focal, middle, zero, zero, one], -1)
        cells = self._dense_cells()
        part_map = part.view(batch, -1)[:, cells]  # (batch, height / 4, width / 4)
        below_root = buffer.depth.view(batch, -1)[:, cells] - points[:, 0, 2, None, None]
        return Rendering(
            images=images,
            joints_camera=to_camera(joints, scene) * 1000,
            joints_2d=points[..., :2] / self.settings.supersampling,
            visible=self._visible(buffer.depth.view(batch, -1), points),
            intrinsics=intrinsics.view(batch, 3, 3),
            box=torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], -1),
            part_map=part_map.to(torch.uint8),
            depth_map=torch.where(part_map > 0, below_root * 1000, torch.nan),
        )

    def _visible(self, depth: Tensor, points: Tensor) -> Tensor:
        """Whether joints are inside the picture and near the surface seen there: `(batch, joints)`."""
        inside = ((points[..., :2] >= 0) & (points[..., :2] < self.rays_per_edge)).all(-1)
        cell = points[..., :2].clamp(0, self.rays_per_edge - 1).long()
        seen = depth.gather(1, cell[..., 1] * self.rays_per_edge + cell[..., 0])
        return inside & (seen > points[..., 2] - torch.tensor(VISIBILITY_MARGIN, device=self.device))

    def _dense_cells(self) -> Tensor:
        """Indices of the rays at the middle of each 4 x 4 block of pixels: `(height / 4, width / 4)`."""
        step = DENSE_MAP_REDUCTION * self.settings.supersampling
        line = torch.arange(step // 2, self.rays_per_edge, step, device=self.device)
        return line[:, None] * self.rays_per_edge + line


def _some_of(people: "People", chosen: slice) -> "People":
    """A part of the batch."""
    return replace(
        people,
        vertices=people.vertices[chosen],
        joints=people.joints[chosen],
        activity=people.activity[chosen],
    )


def to_camera(points: Tensor, scene: Scene) -> Tensor:
    """World metres `(batch, n, 3)` -> camera metres `(batch, n, 3)`."""
    return (points - scene.eye[:, None]) @ scene.rotation.transpose(1, 2)
