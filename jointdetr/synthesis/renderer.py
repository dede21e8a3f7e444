"""Pictures of posed people with exact labels: deferred shading in torch alone.

A geometry buffer (what each pixel shows: depth, material, normal, texture coordinates) is filled by walls and ground,
boxes, and the rasterised body in turn; then every pixel is painted and lit once. It runs wherever the body's tensors
are; only the random parameters of a scene are drawn on the CPU. On a GPU the same code runs, untested.
World axes: metres, z up, ground at z = 0. Camera axes: x right, y down, z forward; the camera looks along +z through
the middle of a square picture.

Shape vocabulary: `batch` pictures, `pixels` of one picture in row order, `rays` = pixels x supersampling along an
edge, `fragments` rays that meet the body, `joints` of the skeleton, `boxes` and `walls` of a scene.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from .body import Body
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
    sample_noise,
)
from .poses import PosedPeople
from .rasterizer import Fragments, interpolate, locate_fragments, rasterize, unit, vertex_normals
from .scene import Preset, Scene, draw_scene, rotate, spread, stack_records
from .shading import GeometryBuffer, ShadowMap, add_boxes, develop, empty_room, light_surface

PICTURES_AT_ONCE = {"cpu": 4, "cuda": 64}  # on a CPU more would fall out of its cache
OUT_OF_LIGHT = 100.0  # metres, where nobody throws a shadow
BUMP_FREQUENCY = 9.0  # folds of cloth and unevenness of skin, for the light only
SKIN_BUMPS = 0.1
SCENE_STREAM = 1_000_003  # keeps a picture's numbers apart from those that pose its person from the same seed
VISIBILITY_MARGIN = (
    *(0.17, 0.17, 0.10, 0.07, 0.17, 0.10, 0.07),  # pelvis and legs
    *(0.17, 0.13, 0.13, 0.13, 0.10, 0.10, 0.07, 0.10, 0.10, 0.07),  # trunk, head and arms
)
"""How deep below the surface each of the 17 joints lies at most, metres."""


@dataclass(frozen=True)
class RenderSettings:
    """How people are pictured.

    Attributes:
        size: width and height in px.
        supersampling: rays along each edge of a pixel; 2 smooths edges for four times the work.
        preset: "everyday" (level views, the whole person), "everything" (steep views, small and cut-off people too) or
            "nobody" (the rooms of "everyday" without anybody).

    Raises:
        ValueError: a value out of its range.
    """

    size: int = 256
    supersampling: int = 1
    preset: Preset = "everyday"

    def __post_init__(self) -> None:
        for name in ("size", "supersampling"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        if self.preset not in get_args(Preset):
            raise ValueError(f"`preset` must be one of {', '.join(get_args(Preset))}, got {self.preset!r}")


@dataclass(frozen=True)
class Rendering:
    """Pictures and their labels."""

    images: Tensor  # (batch, height, width, 3) uint8
    joints_camera: Tensor  # (batch, joints, 3) mm, camera axes, absolute
    joints_2d: Tensor  # (batch, joints, 2) px
    visible: Tensor  # (batch, joints) bool, inside the picture and not hidden
    intrinsics: Tensor  # (batch, 3, 3) px
    box: Tensor  # (batch, 4) x, y, width, height of the clothed body inside the picture, px


class PersonRenderer:
    """Renders people of one body, whose device does the work; keeps what all pictures share."""

    def __init__(self, body: Body, settings: RenderSettings) -> None:
        self.settings, self.device, self.faces = settings, body.device, body.faces
        self.surface = SurfaceMap.of_body(body)
        self.rays_per_edge = settings.size * settings.supersampling

    @torch.no_grad()
    def render(self, people: PosedPeople, seeds: Sequence[int]) -> Rendering:
        """Picture people, each in a random scene of its own.

        Args:
            people: posed people standing on z = 0.
            seeds: one for each person; a picture depends on its seed and its person alone.

        Raises:
            ValueError: the number of seeds is not the number of people.
        """
        if len(seeds) != len(people.vertices):
            raise ValueError(f"`seeds` must be one for each of the {len(people.vertices)} people, got {len(seeds)}")
        step, parts = PICTURES_AT_ONCE.get(self.device.type, 1), []
        for first in range(0, len(seeds), step):
            group = slice(first, first + step)
            some = PosedPeople(people.vertices[group], people.joints[group], people.activity[group])
            parts.append(self._render_group(some, seeds[group]))
        return Rendering(*(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(Rendering)))

    def _render_group(self, people: PosedPeople, seeds: Sequence[int]) -> Rendering:
        generators = [np.random.default_rng((seed, SCENE_STREAM)) for seed in seeds]
        scene, outfit, palette = self._draw(generators, people)
        vertices = people.vertices.permute(2, 0, 1).contiguous()  # (3, batch, vertices)
        dressed = vertices + vertex_normals(vertices, self.faces) * garment_thickness(self.surface, outfit)
        normals = vertex_normals(dressed, self.faces)
        screen = self._to_screen(dressed, scene)

        nearest, _ = rasterize(screen, self.faces, self.rays_per_edge)
        fragments = locate_fragments(screen, self.faces, nearest, self.rays_per_edge)
        buffer = empty_room(scene, self.rays_per_edge)
        add_boxes(buffer, scene, self.rays_per_edge)
        is_there = self.settings.preset != "nobody"
        fragments = fragments.select(is_there & (fragments.depth < buffer.depth.view(-1)[fragments.pixel]))
        self._add_body(buffer, fragments, normals, (outfit, palette))

        paint = paint_surface(buffer.texture, buffer.material, palette)
        casting = dressed if is_there else dressed + OUT_OF_LIGHT
        shadow = ShadowMap.of_mesh(casting, self.faces, scene, self.rays_per_edge)
        light = light_surface(buffer, paint, scene, shadow)
        images = develop(light.view(3, -1, self.rays_per_edge, self.rays_per_edge), scene)
        size, rays = self.settings.size, self.settings.supersampling
        if rays > 1:
            images = images.view(3, -1, size, rays, size, rays).mean((3, 5))
        noise = np.stack([rng.standard_normal((3, size, size), dtype=np.float32) for rng in generators], 1)
        noisy = images + torch.from_numpy(noise).to(self.device) * scene.grain[:, None, None]
        images = (noisy.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 3, 0).contiguous()
        return Rendering(images=images, **self._label(buffer, people.joints.permute(2, 0, 1), screen, scene))

    def _draw(self, generators: list[np.random.Generator], people: PosedPeople) -> tuple[Scene, Outfit, Palette]:
        """Draw every random parameter on the CPU, picture by picture."""
        bounds = torch.stack([people.vertices.amin(1), people.vertices.amax(1)], 1)  # (batch, 2, 3)
        places = (tensor.cpu().double().numpy() for tensor in (people.joints, bounds))
        subjects = zip(generators, *places, people.activity, strict=True)
        scenes = [draw_scene(*subject, self.settings.preset) for subject in subjects]
        return (
            stack_records(Scene, scenes, self.device),
            stack_records(Outfit, [draw_outfit(rng) for rng in generators], self.device),
            stack_records(Palette, [draw_palette(rng) for rng in generators], self.device),
        )

    def _to_screen(self, points: Tensor, scene: Scene) -> Tensor:
        """World metres `(3, batch, n)` -> x and y in rays, depth in metres, `(3, batch, n)`."""
        camera = to_camera(points, scene)
        focal = (scene.focal * self.rays_per_edge)[:, None]
        plane = camera[:2] / camera[2].clamp(min=1e-3) * focal + self.rays_per_edge / 2
        return torch.cat([plane, camera[2:]])

    def _add_body(
        self, buffer: GeometryBuffer, fragments: Fragments, normals: Tensor, look: tuple[Outfit, Palette]
    ) -> None:
        (outfit, palette), surface = look, self.surface
        coordinates = interpolate(fragments, self.faces, surface.coordinates)  # (6, fragments)
        region = surface.region[self.faces[fragments.face, fragments.weights.argmax(0)]]
        material = body_materials(coordinates, region, fragments.image, surface, outfit)
        place = coordinates[:3]
        bumps = sample_noise(place * BUMP_FREQUENCY + palette.offset[fragments.image].T, channels=3) - 0.5
        is_cloth = ((material != SKIN) & (material != EYES)).float()
        normal = unit(interpolate(fragments, self.faces, normals) + bumps * (SKIN_BUMPS + is_cloth))

        pixel = fragments.pixel
        buffer.depth.view(-1)[pixel] = fragments.depth
        buffer.material.view(-1)[pixel] = material
        buffer.normal.view(3, -1)[:, pixel] = normal
        buffer.texture.view(3, -1)[:, pixel] = place

    def _label(self, buffer: GeometryBuffer, joints: Tensor, screen: Tensor, scene: Scene) -> dict[str, Tensor]:
        """The fields of `Rendering` besides the pictures, from joints `(3, batch, joints)` in world metres."""
        size, rays = self.settings.size, self.rays_per_edge
        points = self._to_screen(joints, scene)  # (3, batch, joints)
        low, high = (bound.clamp(0, rays).T / self.settings.supersampling for bound in screen[:2].aminmax(dim=2))
        focal = scene.focal * size
        intrinsics = torch.eye(3, device=self.device).repeat(len(focal), 1, 1)
        intrinsics[:, 0, 0] = intrinsics[:, 1, 1] = focal
        intrinsics[:, :2, 2] = size / 2
        inside = ((points[:2] >= 0) & (points[:2] < rays)).all(0)
        column, row = points[:2].clamp(0, rays - 1).long()
        seen = buffer.depth.gather(1, row * rays + column)  # (batch, joints)
        return {
            "joints_camera": to_camera(joints, scene).permute(1, 2, 0) * 1000,
            "joints_2d": points[:2].permute(1, 2, 0) / self.settings.supersampling,
            "visible": inside & (seen > points[2] - torch.tensor(VISIBILITY_MARGIN, device=self.device)),
            "intrinsics": intrinsics,
            "box": torch.cat([low, high - low], -1),
        }


def to_camera(points: Tensor, scene: Scene) -> Tensor:
    """World metres `(3, batch, n)` -> camera metres `(3, batch, n)`."""
    return rotate(scene.rotation, points - spread(scene.eye))
