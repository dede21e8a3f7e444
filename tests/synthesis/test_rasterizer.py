"""The rasteriser against brute force and hand answers."""

import math

import torch

from jointdetr.synthesis.rasterizer import (
    cells_in_rectangles,
    interpolate,
    locate_fragments,
    rasterize,
    vertex_normals,
)

SIZE = 24


def random_soup(batch: int = 2, triangles: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles without common vertices, some partly outside the picture: screen (3, batch, vertices), faces."""
    generator = torch.Generator().manual_seed(3)
    middle = torch.rand(2, batch, triangles, 1, generator=generator) * SIZE
    points = middle + torch.randn(2, batch, triangles, 3, generator=generator) * 5
    depth = 1 + 4 * torch.rand(1, batch, triangles, 3, generator=generator)
    return torch.cat([points, depth]).flatten(2), torch.arange(3 * triangles).view(-1, 3)


def nearest_by_hand(screen: torch.Tensor, faces: torch.Tensor, cull_back: bool) -> tuple[list[int], list[float]]:
    """Nearest face and its depth under every pixel's centre of one picture (3, vertices), one triangle at a time."""
    chosen, depths = [-1] * SIZE**2, [math.inf] * SIZE**2
    for index, face in enumerate(faces.tolist()):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = screen[:, face].T.double().tolist()
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if cull_back and area > 0:
            continue
        for pixel in range(SIZE**2):
            x, y = pixel % SIZE + 0.5, pixel // SIZE + 0.5
            u = ((cx - bx) * (y - by) - (cy - by) * (x - bx)) / area
            v = ((ax - cx) * (y - cy) - (ay - cy) * (x - cx)) / area
            w = 1 - u - v
            depth = 1 / (u / az + v / bz + w / cz)
            if min(u, v, w) >= 0 and depth < depths[pixel]:
                chosen[pixel], depths[pixel] = index, depth
    return chosen, depths


def test_rasterize_agrees_with_brute_force() -> None:
    screen, faces = random_soup()
    for cull_back in (True, False):
        nearest, depth = rasterize(screen, faces, SIZE, cull_back)
        for image in range(2):
            chosen, depths = nearest_by_hand(screen[:, image], faces, cull_back)
            assert nearest[image].tolist() == chosen
            assert sum(face >= 0 for face in chosen) > 100
            torch.testing.assert_close(depth[image], torch.tensor(depths), rtol=1e-4, atol=2e-5)


def test_culling_leaves_out_faces_that_look_away() -> None:
    screen = torch.tensor([[2.0, 20.0, 2.0], [2.0, 2.0, 20.0], [1.0, 1.0, 1.0]])[:, None]
    clockwise, counter_clockwise = torch.tensor([[0, 1, 2]]), torch.tensor([[0, 2, 1]])
    assert (rasterize(screen, counter_clockwise, SIZE)[0] >= 0).any()
    assert not (rasterize(screen, clockwise, SIZE)[0] >= 0).any()
    assert (rasterize(screen, clockwise, SIZE, cull_back=False)[0] >= 0).any()


def test_depth_is_perspective_correct() -> None:
    focal, middle = 20.0, SIZE / 2
    # the plane z = 3 + x, seen under a pixel's ray (a, b, 1): z = 3 / (1 - a)
    corners = torch.tensor([[-1.5, 1.5, 0.0], [-1.0, -1.0, 2.0]])
    depth = 3 + corners[0]
    screen = torch.cat([corners / depth * focal + middle, depth[None]])[:, None]
    nearest, found = rasterize(screen, torch.tensor([[0, 1, 2]]), SIZE, cull_back=False)
    covered = (nearest[0] >= 0).nonzero()[:, 0]
    assert len(covered) > 50
    slope = (covered % SIZE + 0.5 - middle) / focal
    torch.testing.assert_close(found[0, covered], 3 / (1 - slope), rtol=0, atol=2e-5)


def test_interpolated_camera_coordinates_lie_on_the_ray_of_their_pixel() -> None:
    screen, faces = random_soup()
    camera = torch.cat([screen[:2] * screen[2], screen[2:]])  # a camera with focal length 1 and no offset
    nearest, depth = rasterize(screen, faces, SIZE, cull_back=False)
    fragments = locate_fragments(screen, faces, nearest, SIZE)
    place = interpolate(fragments, faces, camera)
    cell = fragments.pixel % SIZE**2
    # thin triangles have ill-conditioned weights: a thousandth of a pixel
    torch.testing.assert_close(place[0] / place[2], cell % SIZE + 0.5, rtol=0, atol=1e-3)
    torch.testing.assert_close(place[1] / place[2], cell // SIZE + 0.5, rtol=0, atol=1e-3)
    torch.testing.assert_close(fragments.depth, depth.flatten()[fragments.pixel], rtol=1e-4, atol=2e-5)
    shared = interpolate(fragments, faces, screen[:, 0])
    first = fragments.image == 0
    torch.testing.assert_close(shared[2][first], (1 * interpolate(fragments, faces, screen))[2][first])


def test_cells_in_rectangles() -> None:
    low, high = torch.tensor([[1, 4], [2, 0]]), torch.tensor([[2, 4], [3, 2]])
    owner, column, row = cells_in_rectangles(low, high)
    assert owner.tolist() == [0] * 4 + [1] * 3
    assert list(zip(column.tolist(), row.tolist(), strict=True)) == [
        (1, 2), (2, 2), (1, 3), (2, 3), (4, 0), (4, 1), (4, 2),
    ]  # fmt: skip


def test_vertex_normals_of_an_octahedron_point_outwards() -> None:
    vertices = torch.tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]).float()
    faces = torch.tensor([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    both = torch.stack([vertices, 2 * vertices], 1).permute(2, 1, 0).contiguous()  # (3, 2, 6)
    normals = vertex_normals(both, faces)
    torch.testing.assert_close(normals, vertices.T[:, None].expand(3, 2, 6))
