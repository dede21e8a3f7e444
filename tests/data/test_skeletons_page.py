"""The page on skeletons: its tables are those of the code, its code runs, its pictures are those of the skeletons."""

from pathlib import Path

import pytest
from documents import run_document

from jointdetr.data.skeleton_mapping import FORMULAS, POINT_OF_JOINT, joint_sources
from jointdetr.skeleton_jointdetr import HUMAN36M, SKELETONS, Skeleton
from jointdetr.visualization.charts import joint_places, skeleton_figure
from tools.draw_skeletons import main, mapping_figure

PAGE = Path(__file__).parents[2] / "docs" / "skeletons.md"
PICTURES = PAGE.parent / "images" / "skeletons"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def skeletons_table() -> str:
    rows = [
        [f"[`{name}`](images/skeletons/{name}.png)", str(len(skeleton.joints)), skeleton.joints[skeleton.root]]
        for name, skeleton in SKELETONS.items()
    ]
    return table(["skeleton", "joints", "root"], rows)


def pairs_table() -> str:
    rows = [
        [f"`{name}`", *(count(source, target) for target in SKELETONS.values())] for name, source in SKELETONS.items()
    ]
    return table(["from, to", *(f"`{name}`" for name in SKELETONS)], rows)


def count(source: Skeleton, target: Skeleton) -> str:
    found = [joint for joint in joint_sources(source, target) if joint is not None]
    by_formula = sum(bool(joint.notes) for joint in found)
    return f"{len(found)}" + (f" ({by_formula})" if by_formula else "")


def formulas_table() -> str:
    rows = [
        [point, " + ".join(f"{share:g} {part}" for part, share in formula.weights.items()), formula.note]
        for point, formulas in FORMULAS.items()
        for formula in formulas
    ]
    return table(["point", "formula", "what is approximate"], rows)


def points_table() -> str:
    rows = [[f"`{name}`", joint, point] for name, points in POINT_OF_JOINT.items() for joint, point in points.items()]
    return table(["skeleton", "joint", "is at"], rows)


@pytest.mark.parametrize("make", [skeletons_table, pairs_table, formulas_table, points_table])
def test_tables_are_those_of_the_code(make):
    assert make() in PAGE.read_text(), f"expected in {PAGE}:\n{make()}"


def test_the_page_runs(tmp_path, monkeypatch):
    run_document(PAGE, tmp_path, monkeypatch)
    assert (tmp_path / "mine.png").stat().st_size > 1000


def test_every_skeleton_is_drawn_small(tmp_path):
    main([str(tmp_path)])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{name}.png" for name in SKELETONS} | {"to_human36m.png"}
    assert names == {path.name for path in PICTURES.iterdir()}
    assert all(path.stat().st_size < 60_000 for path in PICTURES.iterdir())


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=SKELETONS)
def test_joints_have_places_of_their_own_that_mirror(skeleton):
    places = joint_places(skeleton)
    assert len(set(places)) == len(places)
    for first, second in skeleton.flip_pairs:
        assert places[first] == (-places[second][0], places[second][1])
        left = first if skeleton.joints[first].startswith("left") else second
        assert places[left][0] > 0


def test_unknown_joints_are_drawn_beside_their_parents():
    tail = Skeleton("cat", ("pelvis", "tail", "tip"), (-1, 0, 1), (), 0)
    assert joint_places(tail) == [(0.0, 0.0), (0.05, -0.07), (0.1, -0.14)]
    names = {text.get_text() for text in skeleton_figure(tail).axes[0].texts}
    assert {"pelvis", "tail", "tip"} <= names


def test_a_mapping_shows_what_each_source_gives():
    figure = mapping_figure(HUMAN36M, [SKELETONS["coco"], SKELETONS["smpl"]])
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["from coco", "from smpl"]
    assert [len(axes.collections) for axes in figure.axes[:2]] == [17, 17]
