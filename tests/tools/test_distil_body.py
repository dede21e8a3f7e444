"""The parts of the distillation that need no `anny`, and the message without it."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tools.distil_body import (
    NUM_COMPONENTS,
    Population,
    coefficients,
    distil,
    kept_bones,
    nearest_kept,
    principal_components,
    random_phenotypes,
    strongest_weights,
)

NAMES = ["root", "upperleg01.L", "upperleg02.L", "lowerleg01.L", "foot.L", "toe1-1.L"]
PARENTS = [-1, 0, 1, 2, 3, 4]


def test_dropped_bones_follow_their_nearest_kept_ancestor() -> None:
    kept = kept_bones(NAMES)
    assert [NAMES[bone] for bone in kept] == ["root", "upperleg01.L", "lowerleg01.L", "foot.L"]
    assert nearest_kept(PARENTS, kept).tolist() == [0, 1, 1, 2, 3, 3]


def test_weights_of_dropped_bones_are_added_to_the_kept_ones() -> None:
    model = SimpleNamespace(
        vertex_bone_indices=torch.tensor([[1, 2, 3], [4, 5, 0]]),
        vertex_bone_weights=torch.tensor([[0.3, 0.5, 0.2], [0.1, 0.2, 0.7]]),
    )
    bones, weights = strongest_weights(model, nearest_kept(PARENTS, kept_bones(NAMES)))
    assert bones[:, :2].tolist() == [[1, 2], [0, 3]]
    np.testing.assert_allclose(weights[:, :2], [[0.8, 0.2], [0.7, 0.3]], atol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_components_rebuild_people_of_so_few_dimensions() -> None:
    random = np.random.default_rng(0)
    points = random.normal(size=(60, NUM_COMPONENTS)) @ random.normal(size=(NUM_COMPONENTS, 90)) + 3
    mean, components = principal_components(points)
    found = coefficients(points, mean, components)
    np.testing.assert_allclose(mean + found @ components, points, atol=1e-9)
    np.testing.assert_allclose(found.std(axis=0, ddof=1), 1, atol=1e-9)


def test_people_are_measured_from_their_root() -> None:
    vertices, heads = np.ones((2, 5, 3)), np.full((2, 3, 3), 4.0)
    flat = Population(vertices, heads).flat([0, 2]).reshape(2, 7, 3)
    assert (flat[:, :5] == -3).all() and (flat[:, 5:] == 0).all()


def test_phenotypes_stay_in_the_realistic_band() -> None:
    people = random_phenotypes(2000, torch.Generator().manual_seed(0))
    assert all(value.min() >= 0 and value.max() <= 1 for value in people.values())
    assert people["height"].min() >= 0.27 and people["height"].max() <= 0.52
    assert 0.08 < (people["age"] < 0.6).float().mean() < 0.16


@pytest.mark.skipif(importlib.util.find_spec("anny") is not None, reason="anny is installed")
def test_without_anny_the_import_error_names_it(tmp_path: Path) -> None:

    with pytest.raises(ImportError, match="anny"):
        distil(tmp_path / "body.npz")
