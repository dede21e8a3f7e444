"""Numbers as tables: printed, and saved as JSON, Markdown or plain text with their fine print beside them."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

SUFFIXES = (".json", ".md", ".txt")
TEXT_WIDTH = 120


@dataclass(frozen=True)
class ReportTable:
    """A table of strings.

    Args:
        title: what it shows.
        header: names of the columns.
        rows: one list of cells a row.
    """

    title: str
    header: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        """Lay the table out as Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return f"### {self.title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def rich(self) -> Table:
        """Lay the table out for a console; numbers stand on the right."""
        table = Table(title=self.title, box=box.SIMPLE_HEAD)
        for index, name in enumerate(self.header):
            is_number = index > 0 and all(row[index][:1].isdigit() or row[index] in ("-", "") for row in self.rows)
            table.add_column(name, justify="right" if is_number else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Args:
        title: of the whole.
        tables: the numbers.
        fine_print: what the numbers depend on, by topic.
        content: everything with full precision, ready for JSON; NaN is written as null.
    """

    title: str
    tables: Sequence[ReportTable]
    fine_print: dict[str, Any]
    content: dict[str, Any]

    def print(self, console: Console | None = None) -> None:
        """Print the tables and the fine print."""
        console = console or Console()
        console.print(self.title, style="bold")
        for table in self.tables:
            console.print(table.rich())
        for name, value in self.fine_print.items():
            console.print(f"{name}: {value}", highlight=False)

    def markdown(self) -> str:
        """Lay everything out as Markdown."""
        fine_print = "\n".join(f"- **{name}**: {value}" for name, value in self.fine_print.items())
        return "\n\n".join([f"## {self.title}", *(table.markdown() for table in self.tables), fine_print]) + "\n"

    def text(self) -> str:
        """Lay everything out as it is printed, without colours."""
        stream = io.StringIO()
        self.print(Console(file=stream, width=TEXT_WIDTH))
        return stream.getvalue()

    def save(self, path: str | Path) -> None:
        """Write a file of the kind that its suffix says: `.json`, `.md` or `.txt`.

        Raises:
            ValueError: Another suffix.
        """
        path = Path(path)
        require_report_suffix(path)
        if path.suffix == ".json":
            text = json.dumps(without_nan(self.content), indent=2) + "\n"
        else:
            text = self.markdown() if path.suffix == ".md" else self.text()
        path.write_text(text, encoding="utf-8")


def require_report_suffix(path: Path) -> None:
    """Raise `ValueError` unless a report can be written to a file of this name."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a report must end in one of {', '.join(SUFFIXES)}, got {path.name!r}")


def number(value: float, digits: int = 1) -> str:
    """Round a number for a table; a dash stands for one that does not exist."""
    return "-" if value != value else f"{value:.{digits}f}"


def without_nan(content: Any) -> Any:
    """Replace NaN, which JSON has not, by None, all the way down."""
    if isinstance(content, dict):
        return {name: without_nan(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and content != content else content
