"""`jointdetr predict` hands each kind of source to its function, with the options in one object."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner, Result

from jointdetr.cli import app
from jointdetr.cli.predict_options import PredictOptions, Smoothing


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What the functions for pictures, films and data sets were called with, in order."""
    calls: list[tuple] = []
    for kind in ("pictures", "video", "dataset"):
        module = ModuleType(f"jointdetr.cli.predict_{kind}")

        def record(source: object, options: PredictOptions, kind: str = kind) -> bool:
            calls.append((kind, source, options))
            return True

        setattr(module, f"predict_{kind}", record)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_pictures_go_together_and_films_one_by_one(asked):
    result = run("predict", "a.jpg", "one.MP4", "b.png", "https://example.com/two.webm?x=1", "--smoothing", "one-euro")
    assert result.exit_code == 0, result.output
    assert [call[:2] for call in asked] == [
        ("pictures", ["a.jpg", "b.png"]),
        ("video", "one.MP4"),
        ("video", "https://example.com/two.webm?x=1"),
    ]
    assert all(options.smoothing is Smoothing.ONE_EURO for _, _, options in asked)


def test_a_webcam_and_a_dataset(asked):
    assert run("predict", "--webcam", 1).exit_code == 0
    assert run("predict", "--dataset", "data/mine", "--split", "test", "--output", "there").exit_code == 0
    assert [call[:2] for call in asked] == [("video", 1), ("dataset", "data/mine")]
    assert asked[1][2] == PredictOptions(split="test", output=Path("there"))


@pytest.mark.parametrize("arguments", [(), ("a.jpg", "--webcam", "0"), ("--webcam", "0", "--dataset", "mine")])
def test_one_kind_of_source_is_wanted(asked, arguments):
    result = run("predict", *arguments)
    assert result.exit_code == 2
    assert "one of the three" in " ".join(result.stderr.replace("│", " ").split())
    assert not asked
