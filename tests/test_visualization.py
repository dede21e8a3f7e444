"""Overlays, figures, and files of poses."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from jointdetr import HUMAN36M, Skeleton
from jointdetr.formats.skeletons import joint_sides
from jointdetr.visualization import draw_overlay, pose_figure, write_json, write_npz
from jointdetr.visualization.figures import as_picture, pose_sheet

STICK = Skeleton("stick", ("hips", "left_foot", "right_foot"), (-1, 0, 0), ((1, 2),), 0)
BLUE, ORANGE = (31, 119, 208), (240, 127, 19)


def make_person(shift: float = 0.0) -> dict[str, torch.Tensor]:
    return {
        "joints": torch.tensor([[0.0, 0.0, 0.0], [200.0, 400.0, 100.0], [-200.0, 400.0, -100.0]]),
        "joints_2d": torch.tensor([[50.0, 20.0], [80.0, 80.0], [20.0, 80.0]]) + shift,
        "detected": torch.tensor([True, True, True]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
    }


def is_near(picture: Image.Image, x: float, y: float, color: tuple[int, int, int]) -> bool:
    return max(abs(a - b) for a, b in zip(picture.getpixel((int(x), int(y))), color, strict=True)) < 25


class TestSkeletons:
    def test_sides_follow_the_names_whatever_the_order_of_the_pairs(self):
        assert joint_sides(STICK) == ["middle", "left", "right"]
        for name, side in zip(HUMAN36M.joints, joint_sides(HUMAN36M), strict=True):
            assert side == (name.split("_")[0] if "_" in name else "middle")


class TestOverlay:
    def test_draws_left_blue_and_right_orange_at_the_joints(self):
        person, image = make_person(), Image.new("RGB", (101, 99))
        drawn = draw_overlay(image, person["joints_2d"], person["detected"], STICK)
        assert drawn.size == image.size
        assert is_near(drawn, 80, 80, BLUE)
        assert is_near(drawn, 20, 80, ORANGE)
        assert is_near(drawn, 65, 50, BLUE)  # half way along the left leg
        assert is_near(drawn, 5, 5, (0, 0, 0))
        assert image.getbbox() is None  # the picture given is left alone

    def test_a_guess_is_hollow_and_a_missing_joint_is_left_out(self):
        person, image = make_person(), Image.new("RGB", (300, 300))
        points = person["joints_2d"] * 3
        guessed = draw_overlay(image, points, torch.tensor([True, False, True]), STICK)
        assert is_near(guessed, 240, 240, (255, 255, 255))
        points[1] = torch.nan
        assert is_near(draw_overlay(image, points, torch.tensor([True, False, True]), STICK), 240, 240, (0, 0, 0))

    def test_draws_several_people(self):
        points = torch.stack([make_person()["joints_2d"], make_person(100.0)["joints_2d"]])
        drawn = draw_overlay(Image.new("L", (200, 200)), points, torch.ones(2, 3, dtype=torch.bool), STICK)
        assert is_near(drawn, 80, 80, BLUE)
        assert is_near(drawn, 180, 180, BLUE)

    def test_refuses_another_skeleton(self):
        person = make_person()
        with pytest.raises(ValueError, match=r"joints_2d.*\(17, 2\).*got \(3, 2\)"):
            draw_overlay(Image.new("RGB", (9, 9)), person["joints_2d"], person["detected"], HUMAN36M)

    def test_refuses_people_without_flags(self):
        points = make_person()["joints_2d"].expand(2, 3, 2)
        with pytest.raises(ValueError, match="2 people and `detected` has 1"):
            draw_overlay(Image.new("RGB", (9, 9)), points, torch.ones(3), STICK)


class TestSheet:
    def test_every_picture_has_its_person_beside_it(self):
        images = [Image.new("RGB", (100, 100), (0, 0, shade)) for shade in (50, 150, 250)]
        figure = pose_sheet(images, [make_person()] * 3, STICK, ["first", "second", "third"])
        drawn = [axes for axes in figure.axes if axes.axison or axes.images]
        assert len(figure.axes) == 12 and len(drawn) == 9
        assert [axes.get_title() for axes in drawn[::3]] == ["first", "second", "third"]
        assert [axes.images[0].get_array()[0, 0, 2] for axes in drawn[::3]] == [50, 150, 250]
        picture = as_picture(figure)
        width, height = (figure.get_size_inches() * figure.dpi).astype(int)
        assert picture.size == (width, height) and picture.mode == "RGB"


class TestPoseFigure:
    def test_panels_show_both_views_upright_with_equal_millimetres(self):
        figure = pose_figure(Image.new("RGB", (60, 90)), [make_person()], STICK)
        _, front, side = figure.axes
        assert (front.get_title(), side.get_title()) == ("as the camera sees it", "from the side")
        for axes in (front, side):
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            assert bottom > top  # y points down, so the larger value is at the bottom
            assert right - left == pytest.approx(bottom - top)
            assert axes.get_aspect() == 1
        drawn = [tuple(float(v) for v in line.get_xdata()) for line in side.lines if len(line.get_xdata()) == 2]
        assert drawn == [(0.0, 100.0), (0.0, -100.0)]  # depth runs along the side view's axis

    def test_nearer_bones_are_drawn_over_farther_ones(self):
        front = pose_figure(Image.new("RGB", (60, 90)), [make_person()], STICK).axes[1]
        to_left, to_right = [line for line in front.lines if len(line.get_xdata()) == 2]
        assert to_right.get_zorder() > to_left.get_zorder()  # the right foot is 200 mm closer to the camera

    @pytest.mark.parametrize("count", [0, 2, 3])
    def test_every_person_has_two_panels(self, count):
        figure = pose_figure(Image.new("RGB", (60, 90)), [make_person()] * count, STICK)
        assert len(figure.axes) == 1 + 2 * count
        figure.canvas.draw()

    def test_a_crowd_is_in_the_picture_and_its_first_six_in_3d(self):
        figure = pose_figure(Image.new("RGB", (60, 90)), [make_person()] * 50, STICK)
        assert len(figure.axes) == 1 + 2 * 6
        assert len(figure.axes[0].texts) == 50
        assert max(figure.get_size_inches()) < 20

    def test_nobody_is_said_above_the_picture(self):
        figure = pose_figure(Image.new("RGB", (80, 60)), [], HUMAN36M)
        (picture,) = figure.axes
        assert picture.get_title() == "nobody found" and not figure.legends

    def test_a_person_of_whom_nothing_is_known_leaves_the_panels_empty(self):
        person = make_person() | {"joints": torch.full((3, 3), torch.nan), "joints_2d": torch.full((3, 2), torch.nan)}
        figure = pose_figure(Image.new("RGB", (60, 90)), [person], STICK)
        assert [len(axes.lines) for axes in figure.axes] == [0, 0, 0]
        figure.canvas.draw()


class TestWriters:
    def test_json_says_units_axes_and_skeleton_and_writes_nan_as_null(self, tmp_path):
        person = make_person()
        person["joints"][1] = torch.nan
        write_json([person], tmp_path / "a.json", STICK, {"picture": "ä.jpg"})
        document = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
        assert document["picture"] == "ä.jpg"
        assert document["skeleton"] == {
            "name": "stick",
            "joints": ["hips", "left_foot", "right_foot"],
            "parents": [-1, 0, 0],
            "flip_pairs": [[1, 2]],
            "root": 0,
        }
        assert document["fields"]["joints"].startswith("mm")
        assert "y down" in document["fields"]["joints"]
        (written,) = document["people"]
        assert written["joints"] == [[0, 0, 0], [None] * 3, [-200, 400, -100]]
        assert written["detected"] == [True, True, True]
        assert written["scores"] == [0.9, 0.8, 0.7]
        assert set(document["fields"]) == set(written)

    def test_json_of_nobody(self, tmp_path):
        write_json([], tmp_path / "a.json", STICK)
        assert json.loads((tmp_path / "a.json").read_text())["people"] == []

    def test_npz_stacks_people_and_needs_no_pickle(self, tmp_path):
        write_npz([make_person(), make_person(10.0)], tmp_path / "poses.npz", STICK)
        with np.load(tmp_path / "poses.npz", allow_pickle=False) as archive:
            assert archive["joints_2d"].shape == (2, 3, 2)
            np.testing.assert_array_equal(archive["joints_2d"][1], make_person(10.0)["joints_2d"])
            assert archive["joint_names"].tolist() == list(STICK.joints)
            assert "joints_camera" not in archive

    def test_npz_has_nan_for_what_only_others_have(self, tmp_path):
        placed = make_person() | {"joints_camera": torch.ones(3, 3)}
        write_npz([make_person(), placed], tmp_path / "poses.npz", STICK)
        with np.load(tmp_path / "poses.npz", allow_pickle=False) as archive:
            assert np.isnan(archive["joints_camera"][0]).all()
            np.testing.assert_array_equal(archive["joints_camera"][1], np.ones((3, 3)))

    def test_npz_refuses_yes_or_no_that_only_others_have(self, tmp_path):
        person = make_person()
        inside = person | {"inside": torch.ones(3, dtype=bool)}
        with pytest.raises(ValueError, match="all people must have `inside`, or none of them, got 1 of 2"):
            write_npz([person, inside], tmp_path / "poses.npz", STICK)
