"""The demo in the browser: a picture or a film in, a skeleton that turns under the mouse out.

`jointdetr demo` and the Space run the same code, `demo.app.launch(DemoSettings(...))`, which needs the extra `space`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True)
class DemoSettings:
    """Settings of the demo. Each can be given as an environment variable: `JOINTDETR_` and its name in capitals."""

    model: str = ""  # folder or Hub repository of the checkpoint; empty: the one in the package
    detector: str = ""  # the same of an object detector that finds people; empty: the built-in search does
    max_file_mb: float = 30
    max_megapixels: float = 40  # of a picture, in millions of pixels
    max_video_seconds: float = 30
    max_people: int = 12  # in a picture
    max_live: int = 4  # visitors whose cameras are looked at at the same time
    queue_length: int = 24  # requests that may wait; those after them are refused as "busy"
    keep_files_seconds: int = 1800  # how long uploaded and written files are kept

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is not str and not value > 0:
                raise ValueError(f"`{field.name}` must be positive, got {value}")

    @classmethod
    def from_environment(cls, model: str | None = None, environment: Mapping[str, str] = os.environ) -> "DemoSettings":
        """Read the settings from variables by name, defaults for the rest; `model` goes before its variable."""
        given = {} if model is None else {"model": model}
        for field in fields(cls):
            variable = f"JOINTDETR_{field.name.upper()}"
            text = environment.get(variable, "").strip()
            if not text or field.name in given:
                continue
            try:
                given[field.name] = field.type(text)
            except ValueError as error:
                raise ValueError(f"{variable} must be a number, got {text!r}") from error
        return cls(**given)

    @property
    def checkpoint(self) -> str:
        """Where the model is loaded from."""
        return self.model or str(files("jointdetr") / "pretrained")

    @property
    def model_name(self) -> str:
        """What files say of the model."""
        return self.model or "jointdetr (in the package)"

    @property
    def card(self) -> Path:
        """The model's card, which may not exist: a model on the Hub has its card there."""
        return Path(self.checkpoint) / "README.md"
