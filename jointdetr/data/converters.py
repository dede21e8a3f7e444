"""The converters by the name that `jointdetr convert` knows them by.

To add one, write a class as `jointdetr.data.conversion` shows, and give `CONVERTERS` a function that makes it of a
`Source`. Functions import what they make, so that nobody waits for readers of files that he does not have.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .conversion import Converter


@dataclass(frozen=True)
class Source:
    """Where a data set lies, and how much of it is wanted.

    Args:
        path: the folder or file with the labels.
        images: the folder that names of pictures are relative to; None where `path` says it.
        step: take every `step`-th frame of a recording; None takes as many as the data set's users do.

    Raises:
        ValueError: `path` or `images` does not exist, or `step` is below 1.
    """

    path: Path
    images: Path | None = None
    step: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that could only fail later."""
        if not self.path.exists():
            raise ValueError(f"{self.path} does not exist")
        if self.images is not None and not self.images.is_dir():
            raise ValueError(f"`images` must be a folder, got {self.images}")
        if self.step is not None and self.step < 1:
            raise ValueError(f"`step` must be at least 1, got {self.step}")


def make_converter(name: str, source: Source) -> Converter:
    """Make the converter of a name.

    Raises:
        ValueError: There is none of this name, or the source is not as it expects.
    """
    if name not in CONVERTERS:
        raise ValueError(f"there are converters for {', '.join(CONVERTERS)}; got {name!r}")
    return CONVERTERS[name](source)


def _human36m(source: Source) -> Converter:
    from .human36m import human36m_converter

    return human36m_converter(source)


def _mpi_inf_3dhp(source: Source) -> Converter:
    from .mpi_inf_3dhp import mpi_inf_3dhp_converter

    return mpi_inf_3dhp_converter(source)


CONVERTERS: dict[str, Callable[[Source], Converter]] = {
    "human36m": _human36m,
    "mpi-inf-3dhp": _mpi_inf_3dhp,
}
