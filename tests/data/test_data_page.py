"""The page on data: its commands and code run, on files that it makes itself, and its tables are complete."""

from pathlib import Path

from documents import run_document

from jointdetr.converters.conversion import CONVERTERS
from jointdetr.converters.folder import KEYS
from jointdetr.data.loading import load_pose_dataset
from jointdetr.formats.skeletons import read_skeleton

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_the_page_runs(tmp_path, monkeypatch):
    run_document(PAGE, tmp_path, monkeypatch)
    human36m = load_pose_dataset(tmp_path / "data" / "human36m", "test")
    assert len(human36m) == 4 and set(human36m["skeleton"]) == {"human36m"}
    mine = load_pose_dataset(tmp_path / "data" / "marker-poses")
    assert len(mine) == 8 and len(mine[0]["joints_3d"]) == 23
    assert read_skeleton(tmp_path / "data" / "marker-poses" / "skeleton.json").joints[-1] == "right_heel"
    assert len(list((tmp_path / "data" / "marker-poses" / "check").glob("*.png"))) == 4


def test_every_converter_and_every_key_is_described():
    text = PAGE.read_text()
    assert all(f"| `{name}` | " in text for name in CONVERTERS)
    assert all(f"`{key}`" in text for key in KEYS)
