"""Triangle rasteriser with a depth buffer, in torch alone.

It knows no loop over triangles or pictures: every triangle contributes the cells of its own bounding rectangle to one
flat list, the cells inside a triangle are kept, and a scatter-minimum over (depth, face) keys finds the nearest.
Coordinates come first, `(3, ...)`: arithmetic on them then runs along memory, several times faster than the other way.

Shape vocabulary: `batch` pictures, `vertices` and `faces` of the mesh that they share, `pixels` = height x width of
one picture in row order, `triangles` and `cells` flat lists of faces that may be seen and of (triangle, pixel) pairs,
`fragments` covered pixels of all pictures.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

FACE_BITS = 20  # a key holds the depth above and the face index below
DEPTH_STEPS = 1e5  # resolution of the depth buffer: 10 micrometres
EMPTY = torch.iinfo(torch.int64).max
NEAREST_DEPTH = 0.05
SMALLEST_AREA = 1e-9  # in px^2; thinner triangles have no stable barycentric coordinates


@dataclass(frozen=True)
class Fragments:
    """Covered pixels of a batch of pictures and where on the mesh each one lies."""

    image: Tensor  # (fragments,) index of the picture
    pixel: Tensor  # (fragments,) index into the flattened batch x pixels
    face: Tensor  # (fragments,) index of the face
    weights: Tensor  # (3, fragments) barycentric coordinates on the surface, perspective-correct
    depth: Tensor  # (fragments,) camera depth in metres

    def select(self, mask: Tensor) -> "Fragments":
        """Keep the fragments of a `(fragments,)` mask."""
        kept = mask.nonzero()[:, 0]
        return Fragments(*(getattr(self, field.name).index_select(-1, kept) for field in fields(self)))


def cells_in_rectangles(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """List every cell of rectangles by first and last column and row, `(2, rectangles)` int64 each.

    Returns `(cells,)` index of the rectangle, column and row.
    """
    width, height = high - low + 1
    count = width * height
    total = int(count.sum())
    owner = torch.repeat_interleave(count, output_size=total)  # (cells,)
    offset = torch.arange(total, device=low.device) - (count.cumsum(0) - count)[owner]
    across = width[owner]
    row = torch.div(offset, across, rounding_mode="floor")
    return owner, low[0][owner] + offset - row * across, low[1][owner] + row


def rasterize(screen: Tensor, faces: Tensor, size: int, cull_back: bool = True) -> tuple[Tensor, Tensor]:
    """Find the nearest face under every pixel's centre; `cull_back` leaves out faces that look away.

    `screen` `(3, batch, vertices)` is x and y in px (y down) and depth in metres, `faces` `(faces, 3)` int64 are
    counter-clockwise seen from outside. Returns `(batch, pixels)` int64 index of the face, -1 for none, and
    `(batch, pixels)` float depth, infinite for none.
    """
    batch = screen.shape[1]
    triangle, corners, low, high = _candidates(screen, faces, size, cull_back)
    owner, column, row = cells_in_rectangles(low, high)
    corners = [corner.index_select(1, owner) for corner in corners]  # 3 x (3, cells)
    weights = _screen_weights(corners, column + 0.5, row + 0.5)  # (3, cells)
    inside = (weights.amin(0) >= 0).nonzero()[:, 0]
    inverse = sum(weight / corner[2] for weight, corner in zip(weights, corners, strict=True))
    depth = 1 / inverse[inside]  # what is linear on the screen is the inverse depth
    triangle = triangle[owner[inside]]
    image = torch.div(triangle, len(faces), rounding_mode="floor")
    pixel = image * (size * size) + row[inside] * size + column[inside]
    keys = ((depth * DEPTH_STEPS).long() << FACE_BITS) | (triangle - image * len(faces))
    buffer = torch.full((batch * size * size,), EMPTY, device=screen.device)
    buffer.scatter_reduce_(0, pixel, keys, "amin")
    buffer = buffer.view(batch, size * size)
    hit = buffer < EMPTY
    nearest = torch.where(hit, buffer & ((1 << FACE_BITS) - 1), -1)
    return nearest, torch.where(hit, (buffer >> FACE_BITS).float() / DEPTH_STEPS, torch.inf)


def locate_fragments(screen: Tensor, faces: Tensor, nearest: Tensor, size: int) -> Fragments:
    """The place on the mesh under every covered pixel, from the `(batch, pixels)` face indices of `rasterize`."""
    image, cell = (nearest >= 0).nonzero(as_tuple=True)
    face = nearest[image, cell]
    vertices = faces[face].T + image * screen.shape[2]  # (3, fragments)
    corners = [screen.flatten(1).index_select(1, vertex) for vertex in vertices]
    row = torch.div(cell, size, rounding_mode="floor")
    weights = _screen_weights(corners, cell - row * size + 0.5, row + 0.5)
    weights = weights / torch.stack([corner[2] for corner in corners])
    total = weights.sum(0)
    return Fragments(image, image * (size * size) + cell, face, weights / total, 1 / total)


def interpolate(fragments: Fragments, faces: Tensor, values: Tensor) -> Tensor:
    """Interpolate `(channels, vertices)` or `(channels, batch, vertices)` values -> `(channels, fragments)`."""
    vertices = faces[fragments.face].T  # (3, fragments)
    if values.dim() == 3:
        vertices = vertices + fragments.image * values.shape[2]
        values = values.flatten(1)
    corners = (values.index_select(1, vertex) for vertex in vertices)
    return sum(corner * weight for corner, weight in zip(corners, fragments.weights, strict=True))


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit normals: `(3, batch, vertices)` -> `(3, batch, vertices)`."""
    _, batch, count = vertices.shape
    first, second, third = (vertices.index_select(2, corner) for corner in faces.T)  # (3, batch, faces) each
    normals = cross(second - first, third - first)  # (3, batch, faces)
    rows = normals.permute(2, 0, 1).flatten(1)  # (faces, 3 * batch): adding whole rows is faster
    total = torch.zeros(count, 3 * batch, device=vertices.device)
    for corner in range(3):
        total.index_add_(0, faces[:, corner], rows)
    return unit(total.view(count, 3, batch).permute(1, 2, 0).contiguous())


def cross(first: Tensor, second: Tensor) -> Tensor:
    """Cross product of vectors `(3, ...)`."""
    (x1, y1, z1), (x2, y2, z2) = first, second
    return torch.stack([y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2])


def dot(first: Tensor, second: Tensor) -> Tensor:
    """Dot product of vectors `(3, ...)` -> `(...)`."""
    return (first * second).sum(0)


def unit(vectors: Tensor) -> Tensor:
    """Vectors `(3, ...)` scaled to length 1; zero stays zero."""
    return vectors * dot(vectors, vectors).clamp(min=1e-24).rsqrt()


def _candidates(
    screen: Tensor, faces: Tensor, size: int, cull_back: bool
) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
    """Triangles whose bounding rectangle holds a pixel centre.

    Their `(triangles,)` indices into the flattened batch x faces, corners 3 x `(3, triangles)` as x, y and depth, and
    first and last column and row, `(2, triangles)` int64 each.
    """
    first, second, third = (screen.index_select(2, corner) for corner in faces.T)  # (3, batch, faces) each
    lowest = torch.minimum(torch.minimum(first, second), third)
    highest = torch.maximum(torch.maximum(first[:2], second[:2]), third[:2])
    low = (lowest[:2] - 0.5).ceil_().clamp_(min=0)
    high = (highest - 0.5).floor_().clamp_(max=size - 1)
    area = _doubled_area(first, second, third[0], third[1])
    facing = area < -SMALLEST_AREA if cull_back else area.abs() > SMALLEST_AREA
    kept = facing & (high[0] >= low[0]) & (high[1] >= low[1]) & (lowest[2] > NEAREST_DEPTH)
    index = kept.flatten().nonzero()[:, 0]
    chosen = [values.flatten(1).index_select(1, index) for values in (first, second, third, low, high)]
    return index, chosen[:3], chosen[3].long(), chosen[4].long()


def _doubled_area(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Twice the signed area of triangles from corners `(2 or 3, ...)` to points x, y `(...)` -> `(...)`."""
    return (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])


def _screen_weights(corners: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Barycentric coordinates on the screen of points x, y `(cells,)` in corners 3 x `(3, cells)` -> `(3, cells)`."""
    a, b, c = corners
    area = _doubled_area(a, b, c[0], c[1])
    first, second = _doubled_area(b, c, x, y) / area, _doubled_area(c, a, x, y) / area
    return torch.stack([first, second, 1 - first - second])
