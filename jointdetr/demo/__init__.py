"""The demo in the browser: a picture or a film in, a skeleton that turns under the mouse out.

`jointdetr demo` and the Space run the same code: `launch(DemoSettings(...))`. Needs the extra `space`.
"""

from .settings import DemoSettings

__all__ = ["DemoSettings"]
