"""What surfaces are made of: garments, hair and skin of the person, paint of the room.

Nothing is stored as a texture: which material a point of the body has, and its colour, follow from where the point
lies on the body at rest.

Shape vocabulary: `batch` pictures, `vertices` of the body, `fragments` visible points of the body, `points` visible
points of anything, `materials` kinds of surface in one picture, `cells` the edge of the noise volume.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from .body import Body
from .scene import NUM_WALLS, Record, rotate, spread

SKIN, LOWER, UPPER, SHOES, HAIR, EYES, LIPS, GLOVES = range(8)
GROUND = 8
WALL = 9  # and the next NUM_WALLS - 1
BOX = WALL + NUM_WALLS  # and the next NUM_BOX_PAINTS - 1
NUM_BOX_PAINTS = 5
SKY = BOX + NUM_BOX_PAINTS
NUM_MATERIALS = SKY + 1

HAND, LEG, TORSO, FOOT, ARM, HEAD, EYE, SCALP, NAPE = range(9)
BONES_OF_REGION = {  # by the beginnings of their names
    LEG: ("upperleg", "lowerleg"),
    TORSO: ("root", "pelvis", "spine", "clavicle", "shoulder"),
    FOOT: ("foot",),
    ARM: ("upperarm", "lowerarm"),
    HAND: ("wrist",),
    HEAD: ("neck", "head"),
}
BROW, LIP = 1.0, -1.0
GRAIN_FREQUENCY = 40.0
NOISE_CELLS = 32
NOISE_CELLS_PER_UNIT = 4
PICTURE_SIZE = 192
GAMMA = 2.2
WARM_HUE, BLUE_HUE = (0.08, 0.05), (0.59, 0.05)  # mean and deviation of the hues that rooms and clothes mostly have
PICTURES_PER_WAVE = 0.025  # a printed picture is so many times coarser than a pattern of stripes

PLAIN, RINGS, CHECKS, BLOTCHES, STRIPES, BRICKS, PICTURE = range(7)
HAIR_COLOURS = np.transpose(  # from red, green and blue of six colours
    [(0.02, 0.06, 0.22, 0.5, 0.35, 0.25), (0.015, 0.03, 0.13, 0.4, 0.35, 0.07), (0.01, 0.015, 0.05, 0.22, 0.35, 0.03)]
)
LIGHT_SKIN, DARK_SKIN = np.array([0.78, 0.5, 0.38]), np.array([0.15, 0.08, 0.05])
DENIM = np.array([0.06, 0.1, 0.2])


@dataclass(frozen=True)
class SurfaceMap:
    """Where each vertex lies on the body, for all bodies alike."""

    # (6, vertices): place at rest (metres), along the arm and along the leg (0 shoulder or hip, 1 elbow or knee,
    # 2 wrist or ankle), and the face's marks (1 brow, -1 lip)
    coordinates: Tensor
    region: Tensor  # (vertices,) int64, one of HAND to NAPE
    hip_height: float  # of the hips at rest, metres
    neck_height: float

    @classmethod
    def of_body(cls, body: Body) -> "SurfaceMap":
        """Derive the map from the names of the bones and the shape at rest."""
        reference = body.reference.cpu().numpy()
        heads = dict(zip(body.bone_names, body.bone_rest.cpu().numpy(), strict=True))
        regions = [next(of for of, starts in BONES_OF_REGION.items() if name.startswith(starts)) for name in heads]
        region, marks = _face(reference, np.take(regions, body.dominant_bone.cpu().numpy()), body.faces.cpu().numpy())
        arm = _along(reference, heads, ("upperarm01", "lowerarm01", "wrist"))
        leg = _along(reference, heads, ("upperleg01", "lowerleg01", "foot"))
        coordinates = torch.from_numpy(np.stack([*reference.T, arm, leg, marks]).astype(np.float32))
        heights = (float(heads[bone][2]) for bone in ("upperleg01.L", "neck01"))
        return cls(coordinates.to(body.device), torch.from_numpy(region).to(body.device), *heights)


@dataclass(frozen=True)
class Outfit:
    """What the people of a batch wear."""

    sleeve: Tensor  # (batch,) end of the sleeves along the arm
    trouser: Tensor  # (batch,) end of the trousers along the leg
    hem: Tensor  # (batch,) metres above the hips where the top begins
    collar: Tensor  # (batch,) metres above the neck bone where the top ends
    bare_back: Tensor  # (batch,) bool, the top covers the skin with nothing
    shoes: Tensor  # (batch,) bool
    gloves: Tensor  # (batch,) bool
    hair: Tensor  # (batch,) bool
    long_hair: Tensor  # (batch,) bool, hair over the nape
    thickness: Tensor  # (batch, 5) metres that top, trousers, shoes, hair and nape stand off the body
    wrinkles: Tensor  # (batch, 3, 4) wave vectors of the folds (1/m), and in the last column their phases


@dataclass(frozen=True)
class Palette:
    """Paint of every material."""

    # (batch, materials, 11): two colours, frequency of the pattern (1/m), strength of the highlight, strength and
    # frequency (1/m) of its cloudiness, strength of its grain
    paint: Tensor
    pattern: Tensor  # (batch, materials) int64, PLAIN to PICTURE
    offset: Tensor  # (batch, 3) where in the noise volume this picture lies
    pictures: Tensor  # (batch, height, width, 3) uint8 dead-leaves picture


def draw_outfit(rng: np.random.Generator) -> Record:
    """Draw the garments and the hair of one person: the fields of `Outfit` without the batch dimension."""
    hair = rng.random() < 0.92
    locks = rng.choice([0.008, 0.02, 0.035], p=[0.45, 0.35, 0.2]) * (0.6 + 0.8 * rng.random())
    top, trousers = 0.008 + rng.uniform(0, 0.018), rng.uniform(0.002, 0.025)
    nape = rng.uniform(0.015, 0.05)
    return {
        "sleeve": rng.choice([-1.0, 0.45, 0.65, 1.1, 1.9], p=[0.08, 0.27, 0.25, 0.12, 0.28]),
        "trouser": rng.choice([0.35, 0.7, 0.95, 1.5, 1.9], p=[0.15, 0.15, 0.15, 0.1, 0.45]),
        "hem": rng.uniform(-0.06, 0.12),
        "collar": rng.uniform(-0.04, 0.03),
        "bare_back": np.bool_(rng.random() < 0.06),
        "shoes": np.bool_(rng.random() < 0.85),
        "gloves": np.bool_(rng.random() < 0.04),
        "hair": np.bool_(hair),
        "long_hair": np.bool_(hair and rng.random() < 0.38),
        "thickness": np.array([top, trousers, 0.008, locks, nape]),
        "wrinkles": np.concatenate([rng.normal(0, 45, (3, 3)), rng.uniform(0, 2 * np.pi, (3, 1))], -1),
    }


def draw_palette(rng: np.random.Generator) -> Record:
    """Draw the colours and patterns of one picture: the fields of `Palette` without the batch dimension."""
    first = np.concatenate([random_colours(rng, GROUND, 2.0), random_colours(rng, NUM_MATERIALS - GROUND, 3.5)])
    second = np.concatenate([random_colours(rng, GROUND, 2.0), random_colours(rng, NUM_MATERIALS - GROUND, 3.5)])
    related = rng.random(NUM_MATERIALS) < 0.55
    second[related] = (first * rng.uniform(0.4, 1.6, (NUM_MATERIALS, 1)))[related]
    if rng.random() < 0.3:
        first[LOWER], second[LOWER] = DENIM * rng.uniform(0.4, 2.5), DENIM * rng.uniform(0.4, 2.5)
    darkness = rng.random()
    skin = (LIGHT_SKIN * (1 - darkness) + DARK_SKIN * darkness) * rng.uniform(0.85, 1.2)
    hair = HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))] * rng.uniform(0.7, 1.4)
    first[[SKIN, LIPS, EYES, HAIR]] = skin, skin * [0.9, 0.55, 0.55], np.full(3, 0.5), hair * 0.7
    second[[SKIN, LIPS, EYES, HAIR]] = skin, skin * [0.9, 0.55, 0.55], np.full(3, 0.5), hair * 1.2
    first[SKY], second[SKY] = 0.45 + 0.55 * first[SKY], 0.35 + 0.65 * second[SKY]
    frequency = np.where(np.arange(NUM_MATERIALS) < GROUND, rng.uniform(15, 120, NUM_MATERIALS), 0)
    frequency += np.where(np.arange(NUM_MATERIALS) < GROUND, 0, np.exp(rng.normal(2.4, 0.7, NUM_MATERIALS)))
    frequency[HAIR] = 200.0
    highlight = rng.uniform(0, 0.12, NUM_MATERIALS)
    highlight[[SKIN, EYES]] = 0.1, 0.6
    clouds, grain = rng.beta(1.2, 2.5, NUM_MATERIALS) * 1.3, rng.beta(1.0, 2.5, NUM_MATERIALS) * 0.9
    clouds[SKIN] = rng.uniform(0.1, 0.35)
    cloud_frequency = np.exp(rng.uniform(np.log(0.4), np.log(10.0), NUM_MATERIALS))
    numbers = np.stack([frequency, highlight, clouds, cloud_frequency, grain], -1)
    return {
        "paint": np.concatenate([first, second, numbers], -1).clip(0, None),
        "pattern": _draw_patterns(rng),
        "offset": rng.uniform(0, 8, 3),
        "pictures": draw_picture(rng),
    }


def garment_thickness(surface: SurfaceMap, outfit: Outfit) -> Tensor:
    """How far each vertex is moved out along its normal by what the person wears: `(batch, vertices)` metres."""
    _, _, _, arm, leg, _ = surface.coordinates
    region = surface.region
    top, trousers, shoes, hair, nape = outfit.thickness.split(1, dim=1)  # (batch, 1) each
    cloth = torch.where(region == TORSO, top, 0.0)
    cloth = torch.where((region == ARM) & (arm < outfit.sleeve[:, None]), top * (1 + 0.5 * arm), cloth)
    legs = (region == LEG) & (leg < outfit.trouser[:, None])
    cloth = torch.where(legs, 0.006 + trousers * (0.4 + 0.5 * leg), cloth)  # (batch, vertices)
    waves = rotate(outfit.wrinkles[..., :3], surface.coordinates[:3, None]) + spread(outfit.wrinkles[..., 3])
    cloth = cloth * (1 + 0.125 * waves.sin().sum(0))
    total = torch.where(region == FOOT, shoes * outfit.shoes[:, None], cloth)
    total = torch.where((region == SCALP) & outfit.hair[:, None], hair, total)
    return torch.where((region == NAPE) & outfit.long_hair[:, None], nape, total)


def body_materials(coordinates: Tensor, region: Tensor, image: Tensor, surface: SurfaceMap, outfit: Outfit) -> Tensor:
    """Material `(fragments,)` at visible points of the body.

    Of each point: its interpolated `coordinates` `(6, fragments)`, the `region` of the nearest vertex, its picture.
    """
    _, _, height, arm, leg, marks = coordinates
    top = torch.where(outfit.bare_back, SKIN, UPPER)[image]
    is_upper = height > surface.hip_height + outfit.hem[image]
    material = torch.where((region == HAND) & outfit.gloves[image], GLOVES, SKIN)
    material = torch.where((region == LEG) & (leg < outfit.trouser[image]), LOWER, material)
    material = torch.where(region == TORSO, torch.where(is_upper, top, LOWER), material)
    material = torch.where((region == ARM) & (arm < outfit.sleeve[image]), top, material)
    material = torch.where((region == FOOT) & outfit.shoes[image], SHOES, material)
    is_head = (region == HEAD) | (region == NAPE)
    material = torch.where(is_head & (height < surface.neck_height + outfit.collar[image]), top, material)
    material = torch.where(is_head & (marks > 0.5), HAIR, material)
    material = torch.where(is_head & (marks < -0.5), LIPS, material)
    haired = (region == SCALP) & outfit.hair[image] | (region == NAPE) & outfit.long_hair[image]
    return torch.where(haired, HAIR, torch.where(region == EYE, EYES, material))


def paint_surface(texture: Tensor, material: Tensor, palette: Palette) -> tuple[Tensor, Tensor]:
    """Colour `(3, batch, pixels)` before light and strength of the highlight `(batch, pixels)` of what is seen.

    `texture` `(3, batch, pixels)` has coordinates in metres.
    """
    batch, pixels = material.shape
    image = torch.arange(batch, device=material.device)[:, None]
    slot = (image * NUM_MATERIALS + material).flatten()  # (points,)
    paint = palette.paint.flatten(0, 1).T.contiguous().index_select(1, slot)  # (11, points)
    frequency, highlight, clouds, cloud_frequency, grain = paint[6:]
    pattern = palette.pattern.flatten()[slot]
    shifted = (texture + spread(palette.offset)).flatten(1)  # (3, points)
    mix = _pattern_mix(texture.flatten(1), shifted, frequency, pattern)
    colour = torch.lerp(paint[:3], paint[3:6], mix)
    printed = (pattern == PICTURE).nonzero()[:, 0]
    across, deep, up = shifted.index_select(1, printed)
    place = torch.stack([across + 0.3 * deep, up + 0.7 * deep]) * (frequency[printed] * PICTURES_PER_WAVE)
    chosen = torch.div(printed, pixels, rounding_mode="floor")
    colour[:, printed] = sample_pictures(palette.pictures, chosen, place)
    cloudy = clouds * (sample_noise(shifted * cloud_frequency)[0] - 0.5)
    grainy = grain * (sample_noise(shifted * GRAIN_FREQUENCY, smooth=False)[0] - 0.5)
    colour = colour * (1 + cloudy + grainy).clamp(min=0.1)
    return colour.view(3, batch, pixels), highlight.view(batch, pixels)


def _pattern_mix(points: Tensor, shifted: Tensor, frequency: Tensor, pattern: Tensor) -> Tensor:
    """How much of the second colour each of the `(3, points)` shows: `(points,)` in [0, 1]."""
    mix = torch.zeros_like(frequency)
    for kind in (RINGS, CHECKS, BLOTCHES, STRIPES, BRICKS):
        index = (pattern == kind).nonzero()[:, 0]
        where, rate = points.index_select(1, index), frequency[index]
        if kind == BLOTCHES:
            noise = sample_noise(shifted.index_select(1, index) * rate * 0.06)[0]
            mix[index] = ((noise - 0.45) * 7).clamp(0, 1)
        elif kind == CHECKS:
            across, deep, up = (where * rate).sin()
            mix[index] = ((across * up + deep * up + across * deep) * 4 + 0.5).clamp(0, 1)
        elif kind == BRICKS:
            row = (where[2] + where[1]) * rate * 0.1
            along = where[0] * rate * 0.05 + 0.5 * torch.remainder(row.floor(), 2)
            mix[index] = ((torch.remainder(along, 1) > 0.05) & (torch.remainder(row, 1) > 0.08)).float()
        else:
            mix[index] = ((where[2 if kind == RINGS else 0] * rate).sin() * 4 + 0.5).clamp(0, 1)
    return mix


def _draw_patterns(rng: np.random.Generator) -> np.ndarray:
    """Pattern of each material, `(materials,)` int64."""
    pattern = rng.choice(7, NUM_MATERIALS, p=[0.4, 0.13, 0.1, 0.2, 0.08, 0, 0.09])
    pattern[GROUND:] = rng.choice(7, NUM_MATERIALS - GROUND, p=[0.26, 0.04, 0.06, 0.26, 0.04, 0.09, 0.25])
    pattern[[SKIN, LIPS, EYES]] = PLAIN
    pattern[HAIR] = BLOTCHES
    pattern[SKY] = rng.choice([BLOTCHES, PICTURE], p=[0.5, 0.5])
    return pattern


def _along(reference: np.ndarray, heads: dict[str, np.ndarray], bones: tuple[str, str, str]) -> np.ndarray:
    """Coordinate along a limb of two bones: 0 at its start, 1 at the middle joint, 2 at its end: `(vertices,)`."""
    result = np.zeros(len(reference))
    for side, chosen in ((".L", reference[:, 0] > 0), (".R", reference[:, 0] <= 0)):
        start, middle, end = (heads[bone + side] for bone in bones)
        first = (reference - start) @ (middle - start) / ((middle - start) @ (middle - start))
        second = (reference - middle) @ (end - middle) / ((end - middle) @ (end - middle))
        along = np.where(first < 1, first, 1 + np.clip(second, 0, 1.2))
        result[chosen] = along[chosen]
    return result


def _face(reference: np.ndarray, region: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell eyes, scalp and nape from the rest of the head, and mark brows and lips: two `(vertices,)` arrays."""
    is_head = region == HEAD
    eyes = _eyeballs(reference, is_head, faces)
    place = reference - reference[eyes].mean(0)  # from between the eyes
    side, depth, height = np.abs(place[:, 0]), place[:, 1], place[:, 2]
    region[is_head & (depth > 0.07)] = NAPE
    region[is_head & ((height > 0.06) | ((depth > 0.085) & (height > -0.07)))] = SCALP
    region[eyes] = EYE
    marks = np.zeros(len(reference))
    marks[is_head & (np.abs(height - 0.028) < 0.008) & (np.abs(side - 0.032) < 0.02) & (depth < 0.01)] = BROW
    marks[is_head & (np.abs(height + 0.078) < 0.009) & (side < 0.024) & (depth < 0)] = LIP
    return region, marks


def _eyeballs(reference: np.ndarray, is_head: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertices of the eyes, `(vertices,)` bool: the two small closed pieces of the head, one on each side."""
    one, other = faces[:, :2].flatten(), faces[:, 1:].flatten()  # ends of two edges of each face
    count = len(reference)
    graph = coo_matrix((np.ones(len(one)), (one, other)), shape=(count, count))
    _, piece = connected_components(graph, directed=False)
    sizes = np.bincount(piece)
    off_centre = np.abs(np.bincount(piece, reference[:, 0]) / sizes) > 0.01
    eyes = (off_centre & (sizes < count // 10))[piece] & is_head
    if not eyes.any():
        raise ValueError("the body must have eyeballs: two small closed pieces of the head, got none")
    return eyes


@lru_cache(maxsize=8)
def noise_volume(channels: int, device: torch.device) -> Tensor:
    """Periodic noise of three octaves, mean 0.5, deviation 0.16: `(1, channels, cells + 2, cells + 2, cells + 2)`.

    The volume is the same everywhere; pictures differ by where they look into it.
    """
    generator = torch.Generator().manual_seed(channels)
    total = torch.zeros(1, channels, NOISE_CELLS, NOISE_CELLS, NOISE_CELLS)
    for octave in range(3):
        factor = 4 >> octave
        cells = NOISE_CELLS // factor
        values = torch.rand(1, channels, cells, cells, cells, generator=generator)
        padded = F.pad(values, (1,) * 6, mode="circular")
        smooth = F.interpolate(padded, scale_factor=float(factor), mode="trilinear")
        inner = slice(factor, -factor)
        total += smooth[:, :, inner, inner, inner] * 0.5**octave
    total = (total - total.mean()) / total.std() * 0.16 + 0.5
    return F.pad(total, (1,) * 6, mode="circular").to(device)


def sample_noise(points: Tensor, channels: int = 1, smooth: bool = True) -> Tensor:
    """Noise at texture coordinates: `(3, points)` -> `(channels, points)`; coarse cells unless `smooth`."""
    cell = torch.remainder(points * NOISE_CELLS_PER_UNIT, NOISE_CELLS)
    grid = ((cell + 1.5) * (2 / (NOISE_CELLS + 2)) - 1).T.contiguous()
    volume, mode = noise_volume(channels, points.device), "bilinear" if smooth else "nearest"
    values = F.grid_sample(volume, grid.view(1, 1, 1, -1, 3), mode=mode, align_corners=False)
    return values.view(channels, -1)


def sample_pictures(pictures: Tensor, image: Tensor, coordinates: Tensor) -> Tensor:
    """Look up pictures `(batch, size, size, 3)` uint8 that repeat without end, mirrored at every second edge.

    `image` `(points,)` says which, `coordinates` `(2, points)` where: one unit is one edge. Returns `(3, points)`
    linear light in [0, 1], interpolated.
    """
    size = pictures.shape[1]
    folded = 1 - (torch.remainder(coordinates, 2) - 1).abs()  # (2, points) in [0, 1]
    place = folded * (size - 1)
    corner = place.long().clamp_(max=size - 2)
    right, down = place - corner
    texels = pictures.flatten(0, 2).T.contiguous()  # (3, texels)
    index = (image * size + corner[1]) * size + corner[0]
    texel = [texels.index_select(1, index + step).float() for step in (0, 1, size, size + 1)]
    upper, lower = torch.lerp(texel[0], texel[1], right), torch.lerp(texel[2], texel[3], right)
    return (torch.lerp(upper, lower, down) / 255) ** GAMMA


def draw_picture(rng: np.random.Generator) -> np.ndarray:
    """A dead-leaves picture, uint8: random shapes over one another, with the statistics of photographs.

    Source: Lee, Mumford and Huang, "Occlusion models for natural images" (IJCV 2001).
    """
    base = random_colours(rng, 1, saturation=2.5)[0]
    picture = Image.new("RGB", (PICTURE_SIZE, PICTURE_SIZE), tuple((base * 255).astype(int).tolist()))
    draw = ImageDraw.Draw(picture)
    count = int(rng.integers(15, 90))
    colours = np.clip(random_colours(rng, count, saturation=2.5) * 0.6 + base * 0.4, 0, 1)
    centres = rng.uniform(0, PICTURE_SIZE, (count, 2))
    radii = np.sort(PICTURE_SIZE * 0.03 / rng.uniform(0.07, 1, count))[::-1]  # big leaves first
    kinds = rng.choice(3, count, p=rng.dirichlet(np.ones(3)))
    angles = rng.uniform(0, np.pi, count)
    for colour, centre, radius, kind, angle in zip(colours, centres, radii, kinds, angles, strict=True):
        fill = tuple((colour * 255).astype(int).tolist())
        if kind == 0:
            draw.ellipse([*(centre - radius), *(centre + radius)], fill=fill)
            continue
        corners = angle + (np.array([0.4, 2.7, 3.6, 5.9]) if kind == 1 else np.array([0.0, 1.8, 4.0]))
        points = centre + radius * 1.3 * np.stack([np.cos(corners), np.sin(corners)], -1)
        draw.polygon([tuple(point) for point in points], fill=fill)
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 4)))
    return np.asarray(picture)


def random_colours(rng: np.random.Generator, count: int, saturation: float = 2.5) -> np.ndarray:
    """Colours that are mostly muted, warm or blue: `(count, 3)` in [0, 1]; a larger `saturation` gives greyer ones."""
    kind = rng.choice(3, (count, 1), p=[0.45, 0.2, 0.35])
    hues = [rng.normal(*WARM_HUE, (count, 1)), rng.normal(*BLUE_HUE, (count, 1)), rng.random((count, 1))]
    hue = np.choose(kind, hues) % 1 * 6
    strength = rng.beta(1.1, saturation, (count, 1))
    value = rng.beta(1.3, 1.6, (count, 1)) * 0.85 + 0.02
    chroma = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return value * (1 - strength * (1 - chroma))
