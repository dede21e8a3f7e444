"""Surfaces of the body, garments, paint and noise."""

from copy import copy

import numpy as np
import pytest
import torch

from jointdetr.synthesis.body import Body, load_body
from jointdetr.synthesis.materials import (
    ARM,
    BONES_OF_REGION,
    EYE,
    EYES,
    HAIR,
    HAND,
    HEAD,
    LEG,
    LOWER,
    NAPE,
    NOISE_CELLS,
    NOISE_CELLS_PER_UNIT,
    NUM_MATERIALS,
    PICTURE_SIZE,
    SCALP,
    SKIN,
    TORSO,
    UPPER,
    Outfit,
    Palette,
    SurfaceMap,
    body_materials,
    draw_outfit,
    draw_palette,
    draw_picture,
    garment_thickness,
    paint_surface,
    random_colours,
    sample_noise,
    sample_pictures,
)
from jointdetr.synthesis.scene import Record, stack_records

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body()


@pytest.fixture(scope="module")
def surface(body: Body) -> SurfaceMap:
    return SurfaceMap.of_body(body)


def outfits(*changes: Record) -> Outfit:
    """One person for each of the changes, in a T-shirt and shorts."""
    plain = draw_outfit(np.random.default_rng(0)) | {
        "sleeve": np.float64(0.65),
        "trouser": np.float64(0.7),
        "hem": np.float64(0.05),
        "collar": np.float64(0.0),
        "bare_back": np.bool_(False),
        "shoes": np.bool_(True),
        "gloves": np.bool_(False),
        "hair": np.bool_(True),
        "long_hair": np.bool_(False),
        "thickness": np.array([0.02, 0.01, 0.008, 0.03, 0.04]),
    }
    return stack_records(Outfit, [plain | change for change in changes], CPU)


def test_head_has_two_eyes_in_front_and_hair_above(body: Body, surface: SurfaceMap) -> None:
    eyes = body.reference[surface.region == EYE]
    assert (eyes[:, 0] > 0).sum() == (eyes[:, 0] < 0).sum() > 10
    assert body.reference[surface.region == SCALP, 2].mean() > eyes[:, 2].mean()
    assert body.reference[surface.region == NAPE, 1].min() > eyes[:, 1].max()  # behind: the body faces -y
    assert surface.region[body.reference[:, 2].argmax()] == SCALP


def test_a_bone_belongs_to_the_first_region_that_its_name_fits(
    body: Body, surface: SurfaceMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BONES_OF_REGION, HEAD, ("neck", "head", "pelvis"))
    assert torch.equal(SurfaceMap.of_body(body).region, surface.region)


def test_a_body_without_eyeballs_is_refused(body: Body) -> None:
    sealed, numbers = copy(body), torch.arange(len(body.reference))
    sealed.faces = torch.stack([numbers, numbers, numbers.roll(1)], dim=1)  # the surface in one piece
    with pytest.raises(ValueError, match="the body must have eyeballs"):
        SurfaceMap.of_body(sealed)


def test_garments_cover_what_they_should(surface: SurfaceMap) -> None:
    hip, neck = surface.hip_height, surface.neck_height
    cases = [  # region, height, along the arm, along the leg, face mark, material
        (ARM, 0.4, 0.3, 0, 0, UPPER),
        (ARM, 0.3, 0.9, 0, 0, SKIN),
        (LEG, -0.2, 0, 0.4, 0, LOWER),
        (LEG, -0.6, 0, 1.4, 0, SKIN),
        (TORSO, hip + 0.2, 0, 0, 0, UPPER),
        (TORSO, hip - 0.02, 0, 0, 0, LOWER),
        (HAND, 0.1, 0, 0, 0, SKIN),
        (HEAD, neck + 0.1, 0, 0, 0, SKIN),
        (HEAD, neck - 0.02, 0, 0, 0, UPPER),
        (HEAD, neck + 0.1, 0, 0, 1, HAIR),
        (SCALP, neck + 0.2, 0, 0, 0, HAIR),
        (NAPE, neck + 0.1, 0, 0, 0, SKIN),
        (EYE, neck + 0.1, 0, 0, 0, EYES),
    ]
    coordinates = torch.tensor([[0, 0, *case[1:5]] for case in cases]).T
    region = torch.tensor([case[0] for case in cases])
    both = outfits({}, {"hair": np.bool_(False), "bare_back": np.bool_(True)})
    image = torch.zeros_like(region)
    dressed = body_materials(coordinates, region, image, surface, both)
    assert dressed.tolist() == [case[5] for case in cases]
    bare = body_materials(coordinates, region, image + 1, surface, both)
    assert UPPER not in bare.tolist()
    assert bare[10] == SKIN


def test_garments_stand_off_the_body_and_skin_does_not(surface: SurfaceMap) -> None:
    thickness = garment_thickness(surface, outfits({}, {"hair": np.bool_(False)}))
    assert thickness.shape == (2, len(surface.region))
    assert (thickness >= 0).all()
    assert (thickness < 0.06).all()
    torso, hand, scalp = (surface.region == region for region in (TORSO, HAND, SCALP))
    assert (thickness[:, torso] > 0.01).all()
    assert (thickness[:, hand] == 0).all()
    assert (thickness[0, scalp] == 0.03).all()
    assert (thickness[1, scalp] == 0).all()
    bare_shin = (surface.region == LEG) & (surface.coordinates[4] > 0.7)
    assert (thickness[:, bare_shin] == 0).all()


def test_every_material_is_painted() -> None:
    palettes = stack_records(Palette, [draw_palette(np.random.default_rng(seed)) for seed in range(20)], CPU)
    material = torch.arange(NUM_MATERIALS).repeat(20, 8)
    texture = torch.rand(3, 20, NUM_MATERIALS * 8) * 4
    colour, highlight = paint_surface(texture, material, palettes)
    assert colour.shape == (3, 20, NUM_MATERIALS * 8)
    assert colour.isfinite().all()
    assert (colour >= 0).all()
    assert colour.std() > 0.1
    assert (highlight >= 0).all()


def test_noise_is_periodic_and_centred() -> None:
    points = torch.rand(3, 2000) * 3
    period = NOISE_CELLS / NOISE_CELLS_PER_UNIT
    torch.testing.assert_close(sample_noise(points), sample_noise(points + period), rtol=0, atol=1e-3)
    values = sample_noise(points, channels=3)
    assert values.shape == (3, 2000)
    assert 0.45 < values.mean() < 0.55
    assert 0.05 < values.std() < 0.2
    near = sample_noise(points + 1e-4)
    assert (near - sample_noise(points)).abs().max() < 0.01  # continuous


def test_sample_pictures_reads_texels_and_mirrors() -> None:
    picture = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    picture[1, 2, 1] = torch.tensor([255, 51, 0], dtype=torch.uint8)  # row 2, column 1
    place = torch.tensor([1 / 3, 2 / 3])[:, None]
    expected = torch.tensor([1.0, 0.2**2.2, 0.0])[:, None]
    for moved in (place, -place, place + 2):
        torch.testing.assert_close(sample_pictures(picture, torch.tensor([1]), moved), expected, rtol=0, atol=1e-4)
    assert (sample_pictures(picture, torch.tensor([0]), place) == 0).all()


def test_pictures_and_colours_depend_on_the_generator_alone() -> None:
    first, again, other = (draw_picture(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (PICTURE_SIZE, PICTURE_SIZE, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    colours = random_colours(np.random.default_rng(0), 500)
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert colours.std() > 0.15
