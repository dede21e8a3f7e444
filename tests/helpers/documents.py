"""Runs what the README and the pages of `docs/` show, at a small scale: their Python and their commands, in order."""

import contextlib
import io
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from jointdetr.cli import app

REPOSITORY = Path(__file__).parents[2]
CARRIED = ("jointdetr", "docs", "examples", "space")
"""Folders of the repository that a reader has below the current one."""

# The same commands on a small scale: an option or a recipe's key that is given twice has the last value.
FEW_PEOPLE = ("--count", "4", "--size", "64", "--workers", "1")
SHORT_TRAINING = (
    *("batch_size=2", "train.workers=0", "schedule.max_steps=1", "schedule.warmup_steps=0"),
    *("watch_steps=0", "report_to=none"),
)
SMALL_SYNTHESIS = ("train.synthesis.size=64", "train.synthesis.at_once=2")
SHORT_REFINING = ("synthetic=32", "epochs=1")
SMALL_SCALE = {"synthesize": FEW_PEOPLE, "train": SHORT_TRAINING, "train-refiner": SHORT_REFINING}
TOLERANCE = 10.0  # another processor rounds otherwise; millimetres where no unit follows the number
TOLERANCES = {"px": 0.5, "people": 0.0, "person": 0.0}

BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(python|bash|text)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    content: str


def read_blocks(page: Path) -> list[Block]:
    """The blocks of a page that are to be run; `<!-- not run: REASON -->` on the line above leaves one out."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, content) for left_out, language, content in found if not left_out]


def run_document(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page in a folder: Python in one namespace, our commands in this process; compare promised output.

    A `text` block is what the Python block before it prints. Commands of other programs, such as pip, are left out.
    """
    for name in CARRIED:
        if (REPOSITORY / name).is_dir():
            (folder / name).symlink_to(REPOSITORY / name)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    for block in read_blocks(page):
        if block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(compile(block.content, page.name, "exec"), names)
            printed = stream.getvalue()
        elif block.language == "text":
            _assert_same_lines(printed, block.content)
        else:
            for words in _commands(block.content):
                _run_command(words)


def _commands(block: str) -> list[list[str]]:
    """The words of each command of a bash block that is ours to run."""
    lines = block.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line and line[0] in ("jointdetr", "accelerate")]


def _run_command(words: Sequence[str]) -> None:
    """Run one command of the package in this process."""
    if words[:2] == ["accelerate", "launch"]:
        words = ["jointdetr", "train", *words[words.index("jointdetr.training.train") + 1 :]]
    program, command, *arguments = words
    assert program == "jointdetr"
    if any(argument.startswith("train.synthesis=") for argument in arguments):
        arguments += SMALL_SYNTHESIS
    smaller = [change for change in SMALL_SCALE.get(command, ()) if f"{change.partition('=')[0]}=0" not in arguments]
    result = CliRunner().invoke(app, [command, *arguments, *smaller])
    assert result.exit_code == 0, (words, result.output, result.exception)


def _assert_same_lines(printed: str, promised: str) -> None:
    """Compare word by word, numbers to within the tolerance of the unit that follows them."""
    assert len(printed.split()) == len(promised.split()), printed
    units = [*promised.split()[1:], ""]
    for got, expected, unit in zip(printed.split(), promised.split(), units, strict=True):
        if re.fullmatch(r"-?\d+(\.\d+)?", expected):
            assert float(got) == pytest.approx(float(expected), abs=TOLERANCES.get(unit, TOLERANCE)), printed
        else:
            assert got == expected, printed
