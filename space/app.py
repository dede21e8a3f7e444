"""The Space: `jointdetr.demo` as a web page. The Space's repository carries the package `jointdetr/` beside this file.

Environment variables set it up (`JOINTDETR_MODEL`, `JOINTDETR_DETECTOR`, limits); see docs/space.md. Where no detector
is named, a small one finds the people, and where it cannot be had, the pose model looks for them itself and says so.
"""

import os

# A Space with ZeroGPU wants a function that may borrow a GPU, marked before torch is there. Borrowing takes longer
# than this network takes on a CPU: nothing calls it, and the demo runs there as it does on a CPU.
if os.environ.get("SPACES_ZERO_GPU"):
    import spaces

    @spaces.GPU
    def borrow_gpu() -> None:
        """Stand for the function that ZeroGPU looks for."""


from jointdetr.demo import DemoSettings  # noqa: E402
from jointdetr.demo.app import launch  # noqa: E402

DETECTOR = "ustc-community/dfine-nano-coco"  # D-FINE, 15 MB, Apache-2.0

if __name__ == "__main__":
    os.environ.setdefault("JOINTDETR_DETECTOR", DETECTOR)  # an empty one asks for the search
    launch(DemoSettings.from_environment())
