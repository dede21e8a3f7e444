"""The Space: `jointdetr.demo` as a web page. The Space's repository carries the package `jointdetr/` beside this file.

Environment variables set it up (`JOINTDETR_MODEL`, `JOINTDETR_DETECTOR`, limits); see docs/space.md. Where no detector
is named, a small one finds the people, and where it cannot be had, the pose model looks for them itself and says so.
"""

import os

from jointdetr.demo import DemoSettings
from jointdetr.demo.app import launch

DETECTOR = "ustc-community/dfine-nano-coco"  # D-FINE, 15 MB, Apache-2.0

if __name__ == "__main__":
    os.environ.setdefault("JOINTDETR_DETECTOR", DETECTOR)  # an empty one asks for the search
    launch(DemoSettings.from_environment())
