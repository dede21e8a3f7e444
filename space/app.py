"""The Space: `jointdetr.demo` as a web page. The Space's repository carries the package `jointdetr/` beside this file.

Environment variables set it up (`JOINTDETR_MODEL`, `JOINTDETR_DETECTOR`, limits); see docs/space.md.
"""

from jointdetr.demo import DemoSettings
from jointdetr.demo.app import launch

if __name__ == "__main__":
    launch(DemoSettings.from_environment())
