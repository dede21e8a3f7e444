"""How many synthetic people a second does one process draw, pose, render and encode, on the CPU or on a GPU?

    python benchmarks/synthesis.py --devices cpu cuda --output synthesis.json

The poses are drawn on the CPU on every device, and the pictures are encoded there. That both devices picture the same
people is checked first; edges may differ in a few pixels, as the last bits of sums do.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from timing import CPU, parse_arguments, peak_memory_mb, report, wait_for

from jointdetr.data.loading import open_stored
from jointdetr.synthesis.poses import sample_people
from jointdetr.synthesis.rows import PersonRows, RowSettings, person_seed

CHECKED_PEOPLE = 4


def check(one: PersonRows, other: PersonRows) -> None:
    """Raise unless both draw the same people."""
    for left, right in zip(*(rows.render(range(CHECKED_PEOPLE)) for rows in (one, other)), strict=True):
        apart = np.abs(np.subtract(left["joints_3d"], right["joints_3d"])).max()
        pictures = [
            np.asarray(open_stored(row["image"]).resize((32, 32), Image.Resampling.BOX), float)
            for row in (left, right)
        ]
        if apart > 1.0 or np.abs(pictures[0] - pictures[1]).mean() > 2.0:
            raise RuntimeError(f"person {left['frame']} differs on the devices, joints by {apart:.2f} mm")


def measure(people: PersonRows, count: int, at_once: int) -> dict[str, float]:
    """People a second of the whole work, and of posing and rendering alone, once all is warm."""
    device = people.body.device
    groups = [range(first, first + at_once) for first in range(at_once, at_once + count, at_once)]
    people.render(range(at_once))

    def poses_and_pictures(numbers: Sequence[int]) -> None:
        seeds = [person_seed(people.settings.seed, number) for number in numbers]
        people.renderer.render(sample_people(people.body, seeds, people.settings.preset), seeds)

    def poses(numbers: Sequence[int]) -> None:
        sample_people(people.body, [person_seed(people.settings.seed, number) for number in numbers])

    rates = {}
    for name, work in (("all", people.render), ("without encoding", poses_and_pictures), ("poses alone", poses)):
        wait_for(device)
        started = time.perf_counter()
        for numbers in groups:
            work(numbers)
        wait_for(device)
        rates[f"{name}/s"] = at_once * len(groups) / (time.perf_counter() - started)
    peak = peak_memory_mb(lambda: people.render(groups[0]), device)
    return {**rates, "peak MB": peak}


def main() -> None:
    """Time each device and write the table."""
    parser = parse_arguments(__doc__, rounds=1)
    parser.add_argument("--devices", nargs="+", default=["cpu"])
    parser.add_argument("--people", type=int, default=512)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--at-once", type=int, nargs="+", default=[32, 64])
    options = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker
    rows = []
    reference = PersonRows(RowSettings(size=options.size))
    for name in options.devices:
        device = torch.device(name)
        people = reference if device == CPU else PersonRows(RowSettings(size=options.size, device=name))
        check(reference, people)
        for at_once in options.at_once:
            count = max(at_once, options.people // 8 if device == CPU else options.people)
            rows.append({"device": name, "size": options.size, "at once": at_once, **measure(people, count, at_once)})
    report(rows, options.output)


if __name__ == "__main__":
    main()
