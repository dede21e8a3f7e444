"""Triangle rasteriser with a depth buffer, in torch alone.

It knows no loop over triangles or pictures: every triangle contributes the cells of its own bounding rectangle to one
flat list, the cells inside a triangle are kept, and a scatter-minimum over (depth, face) keys finds the nearest.

Shape vocabulary: `batch` pictures, `vertices` and `faces` of the mesh that they share, `pixels` = height x width of
one picture in row order, `cells` any flat list of (triangle, pixel) pairs, `fragments` covered pixels of all pictures.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

FACE_BITS = 20  # a key holds the depth above and the face index below
DEPTH_STEPS = 1e5  # resolution of the depth buffer: 10 micrometres
EMPTY = torch.iinfo(torch.int64).max
NEAREST_DEPTH = 0.05
SMALLEST_AREA = 1e-9  # in px^2; thinner triangles have no stable barycentric coordinates


@dataclass(frozen=True)
class Fragments:
    """Covered pixels of a batch of pictures and where on the mesh each one lies.

    Attributes:
        image: `(fragments,)` index of the picture.
        pixel: `(fragments,)` index into the flattened batch x pixels.
        face: `(fragments,)` index of the face.
        weights: `(fragments, 3)` barycentric coordinates on the surface, perspective-correct.
        depth: `(fragments,)` camera depth in metres.
    """

    image: Tensor
    pixel: Tensor
    face: Tensor
    weights: Tensor
    depth: Tensor

    def select(self, mask: Tensor) -> "Fragments":
        """Keep the fragments of a `(fragments,)` mask."""
        kept = mask.nonzero()[:, 0]
        return Fragments(*(field[kept] for field in (self.image, self.pixel, self.face, self.weights, self.depth)))


def cells_in_rectangles(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """List every integer cell of every rectangle.

    Args:
        low: `(rectangles, 2)` int64 first column and row.
        high: `(rectangles, 2)` int64 last column and row, not before the first.

    Returns:
        `(cells,)` index of the rectangle, column and row.
    """
    width, height = (high - low + 1).unbind(-1)
    count = width * height
    total = int(count.sum())
    owner = torch.repeat_interleave(count, output_size=total)  # (cells,)
    offset = torch.arange(total, device=low.device) - (count.cumsum(0) - count)[owner]
    row = torch.div(offset, width[owner], rounding_mode="floor")
    column = offset - row * width[owner]
    return owner, low[owner, 0] + column, low[owner, 1] + row


def rasterize(screen: Tensor, faces: Tensor, size: int, cull_back: bool = True) -> tuple[Tensor, Tensor]:
    """Find the nearest face under every pixel's centre.

    Args:
        screen: `(batch, vertices, 3)` x and y in px (y down), depth in metres.
        faces: `(faces, 3)` int64, counter-clockwise seen from outside.
        size: width and height of the picture in px.
        cull_back: leave out faces that look away.

    Returns:
        `(batch, pixels)` int64 index of the face, -1 for none, and `(batch, pixels)` float depth, infinite for none.
    """
    batch = screen.shape[0]
    corners, image, face, low, high = _candidates(screen, faces, size, cull_back)
    owner, column, row = cells_in_rectangles(low, high)
    centre = torch.stack([column, row], -1) + 0.5  # (cells, 2)
    weights = _screen_weights(corners[owner], centre)  # (cells, 3)
    inside = (weights >= 0).all(-1).nonzero()[:, 0]
    owner, weights = owner[inside], weights[inside]
    depth = 1 / (weights / corners[owner][..., 2]).sum(-1)  # screen-linear is the inverse depth
    pixel = image[owner] * (size * size) + row[inside] * size + column[inside]
    keys = ((depth * DEPTH_STEPS).long() << FACE_BITS) | face[owner]
    buffer = torch.full((batch * size * size,), EMPTY, device=screen.device)
    buffer.scatter_reduce_(0, pixel, keys, "amin")
    buffer = buffer.view(batch, size * size)
    hit = buffer < EMPTY
    nearest = torch.where(hit, buffer & ((1 << FACE_BITS) - 1), -1)
    return nearest, torch.where(hit, (buffer >> FACE_BITS).float() / DEPTH_STEPS, torch.inf)


def locate_fragments(screen: Tensor, faces: Tensor, nearest: Tensor, size: int) -> Fragments:
    """Compute the place on the mesh under every covered pixel.

    Args:
        screen: `(batch, vertices, 3)` as for `rasterize`.
        faces: `(faces, 3)` int64.
        nearest: `(batch, pixels)` face indices from `rasterize`.
        size: width and height of the picture in px.
    """
    image, cell = (nearest >= 0).nonzero(as_tuple=True)
    face = nearest[image, cell]
    corners = screen[image[:, None], faces[face]]  # (fragments, 3, 3)
    centre = torch.stack([cell % size, torch.div(cell, size, rounding_mode="floor")], -1) + 0.5
    weights = _screen_weights(corners, centre) / corners[..., 2]
    total = weights.sum(-1, keepdim=True)
    return Fragments(image, image * (size * size) + cell, face, weights / total, 1 / total[:, 0])


def interpolate(fragments: Fragments, faces: Tensor, values: Tensor) -> Tensor:
    """Interpolate `(vertices, channels)` or `(batch, vertices, channels)` values -> `(fragments, channels)`."""
    corners = faces[fragments.face]  # (fragments, 3)
    if values.dim() == 3:
        corners = corners + (fragments.image * values.shape[1])[:, None]
        values = values.flatten(0, 1)
    return (values[corners] * fragments.weights[..., None]).sum(1)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit normals: `(batch, vertices, 3)` -> `(batch, vertices, 3)`."""
    corners = vertices[:, faces]  # (batch, faces, 3, 3)
    first = corners[:, :, 0]
    normals = torch.linalg.cross(corners[:, :, 1] - first, corners[:, :, 2] - first)  # (batch, faces, 3)
    total = torch.zeros_like(vertices)
    for corner in range(3):
        total.index_add_(1, faces[:, corner], normals)
    return torch.nn.functional.normalize(total, dim=-1)


def _candidates(
    screen: Tensor, faces: Tensor, size: int, cull_back: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Triangles whose bounding rectangle holds a pixel centre: corners, picture, face, first and last cell."""
    corners = screen[:, faces]  # (batch, faces, 3, 3)
    points = corners[..., :2]
    low = (points.amin(2) - 0.5).ceil().clamp_(min=0)
    high = (points.amax(2) - 0.5).floor().clamp_(max=size - 1)
    area = _doubled_area(points[:, :, 0], points[:, :, 1], points[:, :, 2])
    facing = area < -SMALLEST_AREA if cull_back else area.abs() > SMALLEST_AREA
    kept = facing & (high >= low).all(-1) & (corners[..., 2].amin(2) > NEAREST_DEPTH)
    image, face = kept.nonzero(as_tuple=True)
    return corners[image, face], image, face, low[image, face].long(), high[image, face].long()


def _doubled_area(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Twice the signed area of triangles `(..., 2)` x 3 -> `(...)`."""
    return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])


def _screen_weights(corners: Tensor, point: Tensor) -> Tensor:
    """Barycentric coordinates in the picture: `(cells, 3, 3)` corners and `(cells, 2)` points -> `(cells, 3)`."""
    a, b, c = corners[..., :2].unbind(1)
    area = _doubled_area(a, b, c)
    first = _doubled_area(b, c, point) / area
    second = _doubled_area(c, a, point) / area
    return torch.stack([first, second, 1 - first - second], -1)
