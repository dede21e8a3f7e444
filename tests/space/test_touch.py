"""The page under a finger, on a phone: a picture of one's own, boxes, and the 3D view."""

import pytest
from pages import (
    INSPECT,
    IS_IN_VIEW,
    PHONE_OPTIONS,
    SCREENSHOTS,
    middle_on_screen,
    swipe,
    touch,
    wait_for_estimate,
    wait_for_skeleton,
)

pytest.importorskip("playwright")
from playwright.sync_api import Page  # noqa: E402


@pytest.fixture
def phone(open_page) -> Page:
    page = open_page(device_scale_factor=2, **PHONE_OPTIONS)
    wait_for_skeleton(page)
    return page


def first_box(page: Page) -> dict[str, float]:
    return page.locator(".jointdetr-box").first.bounding_box()


def test_one_touch_and_the_phones_own_question_give_a_turning_skeleton(open_page, example_picture):
    page = open_page(reduced_motion="no-preference", **PHONE_OPTIONS)
    wait_for_skeleton(page)
    with page.expect_file_chooser() as event:
        touch(page, page.locator("#picture button").filter(has_text="Click to Upload").first)
    event.value.set_files(example_picture)
    wait_for_estimate(page)
    page.wait_for_function(IS_IN_VIEW, arg="#view")
    wait_for_skeleton(page)
    first = page.evaluate(INSPECT)
    assert first["turning"]
    page.wait_for_timeout(1000)
    assert page.evaluate(INSPECT)["azimuth"] != first["azimuth"]


def test_a_box_is_chosen_moved_and_sized(phone):
    before = first_box(phone)
    swipe(phone, middle_on_screen(phone, phone.locator(".jointdetr-box")), (20, 10))
    assert first_box(phone)["x"] == before["x"], "the page scrolls under a finger until a box is chosen"
    phone.evaluate("window.scrollTo(0, 0)")
    touch(phone, phone.locator(".jointdetr-box"))
    corner = phone.locator(".jointdetr-corner[data-corner='top right']")
    handle = corner.bounding_box()
    assert min(handle["width"], handle["height"]) >= 24
    phone.screenshot(path=SCREENSHOTS / "phone-box.png")
    swipe(phone, middle_on_screen(phone, corner), (-40, 30))
    sized = first_box(phone)
    assert before["width"] - sized["width"] == pytest.approx(40, abs=4)
    assert before["height"] - sized["height"] == pytest.approx(30, abs=4)
    wait_for_estimate(phone)
    wait_for_skeleton(phone)
    swipe(phone, middle_on_screen(phone, phone.locator(".jointdetr-box")), (20, -20))
    moved = first_box(phone)
    assert (moved["width"], moved["height"]) == pytest.approx((sized["width"], sized["height"]), abs=2)
    assert moved["x"] - sized["x"] == pytest.approx(20, abs=4)


def draw_from_corner(page: Page, by: tuple[int, int]) -> tuple[float, float, float, float]:
    """Draw from the corner of the picture where there is room to go `by` px; returns where the new box has to be."""
    page.evaluate("window.scrollTo(0, 0)")
    layer = page.locator(".jointdetr-layer").bounding_box()
    x = layer["x"] + (6 if by[0] > 0 else layer["width"] - 6)
    y = layer["y"] + (40 if by[1] > 0 else layer["height"] - 40)
    swipe(page, (x, y), by)
    return min(x, x + by[0]), min(y, y + by[1]), abs(by[0]), abs(by[1])


def box_edges(page: Page, number: int) -> tuple[float, ...]:
    box = page.locator(".jointdetr-box").nth(number).bounding_box()
    return box["x"], box["y"], box["width"], box["height"]


def test_a_box_is_drawn_at_once_where_there_is_none(phone):
    for by in ((90, 90), (-90, 90), (90, -90), (-90, -90), (40, 140), (140, 40)):
        touch(phone, phone.get_by_label("Remove person 1"))
        assert phone.locator(".jointdetr-box").count() == 0
        expected = draw_from_corner(phone, by)
        assert box_edges(phone, 0) == pytest.approx(expected, abs=3), by
        assert phone.evaluate("window.scrollY") == 0, "the page stays where it is"
    wait_for_estimate(phone)


def test_a_box_is_drawn_beside_others_once_the_picture_was_tapped(phone):
    by = (-90, -120)
    draw_from_corner(phone, by)
    assert phone.locator(".jointdetr-box").count() == 1
    assert phone.evaluate("window.scrollY") > 60, "until then the page scrolls under a finger"
    phone.evaluate("window.scrollTo(0, 0)")
    layer = phone.locator(".jointdetr-layer").bounding_box()
    phone.touchscreen.tap(layer["x"] + layer["width"] - 10, layer["y"] + 120)
    assert phone.locator(".jointdetr-box").count() == 1, "a tap is no box"
    phone.screenshot(path=SCREENSHOTS / "phone-draw.png")
    expected = draw_from_corner(phone, by)
    assert box_edges(phone, 1) == pytest.approx(expected, abs=3)
    assert phone.evaluate("window.scrollY") == 0
    wait_for_skeleton(phone, people=2)
    phone.evaluate("document.activeElement.blur()")
    draw_from_corner(phone, by)
    assert phone.locator(".jointdetr-box").count() == 2, "and scrolls again"


def test_boxes_are_added_and_removed(phone):
    touch(phone, phone.get_by_role("button", name="Add a box"))
    assert phone.locator(".jointdetr-box").count() == 2
    wait_for_skeleton(phone, people=2)
    phone.evaluate("window.scrollTo(0, 0)")
    touch(phone, phone.get_by_label("Remove person 2"))
    wait_for_skeleton(phone, people=1)
    assert phone.locator(".jointdetr-box").count() == 1


def test_people_turn_under_a_finger(phone):
    phone.locator("#view").scroll_into_view_if_needed()
    before = phone.evaluate(INSPECT)["azimuth"]
    swipe(phone, middle_on_screen(phone, phone.locator("#view canvas")), (120, 0))
    assert abs(phone.evaluate(INSPECT)["azimuth"] - before) > 0.3
