"""Solid noise and small random pictures: all that surfaces are painted with.

Shape vocabulary: `points` any flat list of texture coordinates, `cells` the edge of the noise volume.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

NOISE_CELLS = 32
NOISE_CELLS_PER_UNIT = 4
PICTURE_SIZE = 192
GAMMA = 2.2
WARM_HUE, BLUE_HUE = (0.08, 0.05), (0.59, 0.05)  # mean and deviation of the hues that rooms and clothes mostly have


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
        _draw_leaf(draw, (centre, radius, angle), int(kind), tuple((colour * 255).astype(int).tolist()))
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


def _draw_leaf(
    draw: ImageDraw.ImageDraw, place: tuple[np.ndarray, float, float], kind: int, colour: tuple[int, ...]
) -> None:
    """Paint one disc, turned rectangle or triangle at a place (centre, radius, angle)."""
    centre, radius, angle = place
    if kind == 0:
        draw.ellipse([*(centre - radius), *(centre + radius)], fill=colour)
        return
    corners = angle + np.array([0.4, 2.7, 3.6, 5.9]) if kind == 1 else angle + np.array([0.0, 1.8, 4.0])
    points = centre + radius * 1.3 * np.stack([np.cos(corners), np.sin(corners)], -1)
    draw.polygon([tuple(point) for point in points], fill=colour)
