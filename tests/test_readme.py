"""The README keeps its promises: its code runs, its commands work, its printed output is what is printed."""

import contextlib
import io
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jointdetr.cli import app

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|bash|text)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)

# The same commands on a small scale: an option or a recipe's key that is given twice has the last value.
FEW_PEOPLE = ("--count", "4", "--size", "64", "--workers", "1")
SHORT_TRAINING = ("batch_size=2", "train.workers=0", "schedule.max_steps=1", "schedule.warmup_steps=0")
SHORT_REFINING = ("synthetic=32", "epochs=1")
TOLERANCE_MM = 10.0  # another processor rounds otherwise


def run_command(words: Sequence[str]) -> None:
    """Run one command of the package in this process."""
    if words[:3] == ["accelerate", "launch", "-m"]:
        assert words[3] == "jointdetr.training.train"
        words = ["jointdetr", "train", *words[4:]]
    program, command, *arguments = words
    assert program == "jointdetr"
    small = {"synthesize": FEW_PEOPLE, "train": SHORT_TRAINING, "train-refiner": SHORT_REFINING}.get(command, ())
    result = CliRunner().invoke(app, [command, *arguments, *small])
    assert result.exit_code == 0, (words, result.output, result.exception)


def commands(block: str) -> list[list[str]]:
    """The words of each command of a bash block that is ours to run."""
    lines = block.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line and line[0] in ("jointdetr", "accelerate")]


def assert_same_lines(printed: str, promised: str) -> None:
    """Compare word by word, numbers to within the tolerance."""
    assert len(printed.split()) == len(promised.split()), printed
    for got, expected in zip(printed.split(), promised.split(), strict=True):
        if re.fullmatch(r"-?\d+(\.\d+)?", expected):
            assert float(got) == pytest.approx(float(expected), abs=TOLERANCE_MM), printed
        else:
            assert got == expected, printed


def test_code_and_commands_run_in_order(shipped_checkpoint, tmp_path, monkeypatch):
    for name in ("jointdetr", "docs"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    printed = ""
    for language, block in BLOCKS:
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(compile(block, "README.md", "exec"), names)
            printed = stream.getvalue()
        elif language == "text":
            assert_same_lines(printed, block)
        for words in commands(block) if language == "bash" else []:
            run_command(words)
    for promised in ("pose.png", "out/person.pose.json", "runs/mine/final/model.safetensors", "out/evaluation.json"):
        assert (tmp_path / promised).is_file(), promised


@pytest.mark.usefixtures("shipped_checkpoint")
def test_newcomers_see_a_result_install_and_first_output_early():
    lines = README.splitlines()
    assert any(line.startswith("![") for line in lines[:20])
    assert any("pip install" in line for line in lines[:20])
    assert "```text" in lines[:35]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README):
        assert "://" in target or (REPOSITORY / target).is_file(), target
