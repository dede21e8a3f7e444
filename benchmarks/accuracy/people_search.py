"""Does the built-in search find the people of whole pictures, and nobody where nobody is? And at what cost?

    python -m benchmarks.accuracy.people_search --lspet FOLDER [--model FOLDER] [--count 200] [--output search.json]

Three kinds of pictures, `--count` of each: photographs of Leeds Sports Pose Extended cut to twice the person's box
(`FOLDER` with `images.tar` and `joints.mat`), synthetic people at 20 to 90% of the height of pictures of several
shapes, and pictures of nobody (the same synthetic rooms, seen the other way, and plain surfaces, stripes and noise).
People of the first two kinds who are upright are also looked for in pictures that end between breast and
hips.

The table says how often the person of the label was found (a box that shares half of the union with the label's), how
many people were kept besides, how often nobody was, and the processor's time a picture. Below it, for setting
`SearchLimits` anew: what decides, at the end of a search without limits, of right poses, of wrong ones in pictures of
people and of those in pictures of nobody, and what limits would keep of each.
"""

import argparse
import io
import itertools
import json
import tarfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy.io import loadmat
from transformers import pipeline

import jointdetr  # noqa: F401  makes the task known
from jointdetr.people_jointdetr import (
    LIMITS,
    SearchLimits,
    Sightings,
    body_box,
    box_overlaps,
    following_of,
    reduction,
    search_people,
)
from jointdetr.synthesis.body import load_body
from jointdetr.synthesis.materials import Outfit, Palette
from jointdetr.synthesis.poses import PosedPeople, sample_people
from jointdetr.synthesis.renderer import PersonRenderer, RenderSettings
from jointdetr.synthesis.rows import person_seed
from jointdetr.synthesis.scene import Scene

RIGHT_OVERLAP = 0.5
SCENE_SIZE = 768
SCENE_SETTINGS = RenderSettings(SCENE_SIZE, supersampling=1, preset="everyday")
LEAST_VISIBLE = 0.6  # of the joints: who stands behind a box is not looked for
SHAPES = ((4, 3), (3, 4), (16, 9), (9, 16), (1, 1))
HIGH, PORTRAIT_SHARES = 1.4, (0.25, 0.5)  # height over width of a body, and how much of its height is shown
SEED = 4711
LARGE = (4000, 3000)
ERROR_STEPS_MM = (150, 180, 200, 220, 240, 260, 300, 400)
POSES = ("right", "wrong", "nobody")  # of the person; others in pictures of people; in pictures of nobody
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass
class Example:
    """A picture, and the box of the person in it; None for nobody."""

    image: Image.Image
    box: list[float] | None
    is_upright: bool = True  # head above shoulders above hips, where that is known


class SceneRenderer(PersonRenderer):
    """Pictures people from farther away than they are trained on, or the room behind the camera.

    Args:
        sizes: Size of the person each, as a share of what the scene was drawn for; None looks the other way.
    """

    sizes: list[float] | None = None

    def _draw(self, generators: list[np.random.Generator], people: PosedPeople) -> tuple[Scene, Outfit, Palette]:
        scene, outfit, palette = super()._draw(generators, people)
        if self.sizes is None:
            turned = scene.rotation * torch.tensor([-1.0, 1.0, -1.0])[:, None]
            return replace(scene, rotation=turned), outfit, palette
        return replace(scene, focal=scene.focal * torch.tensor(self.sizes)), outfit, palette


def synthetic_scenes(count: int) -> Iterator[Example]:
    """Synthetic people of 20 to 90% of the pictures' height, or of their width if they lie, anywhere in them."""
    rng = np.random.default_rng(SEED)
    renderer = SceneRenderer(load_body(), SCENE_SETTINGS)
    for number in itertools.count():
        seed = person_seed(SEED, number)
        people = sample_people(load_body(), [seed], "everyday")
        cut, share = _shape(rng), rng.uniform(0.2, 0.9)
        renderer.sizes = [1.0]
        near = body_box(renderer.render(people, [seed]).joints_2d[0].numpy())
        renderer.sizes = [float(share / (np.array(near[2:]) / cut).max())]
        rendering = renderer.render(people, [seed])
        if rendering.visible[0].float().mean() < LEAST_VISIBLE:
            continue
        yield _cut(Image.fromarray(rendering.images[0].numpy()), rendering.joints_2d[0].numpy(), cut, rng)
        count -= 1
        if count == 0:
            return


def empty_rooms(count: int) -> Iterator[Example]:
    """The rooms of synthetic people, seen the other way."""
    rng = np.random.default_rng(SEED)
    renderer = SceneRenderer(load_body(), SCENE_SETTINGS)
    for number in range(count):
        seed = [person_seed(SEED, number)]
        picture = renderer.render(sample_people(load_body(), seed, "everyday"), seed).images[0].numpy()
        width, height = np.floor(_shape(rng)).astype(int)
        yield Example(Image.fromarray(picture[:height, :width]), None)


def _shape(rng: np.random.Generator) -> np.ndarray:
    """Width and height in px of a picture of one of the usual shapes, smaller than a scene."""
    shape = np.array(SHAPES[rng.integers(len(SHAPES))])
    return 0.8 * SCENE_SIZE * shape / shape.max()


def _cut(image: Image.Image, joints_2d: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> Example:
    """Cut a picture of this size, width and height, that shows the person somewhere."""
    box = np.array(body_box(joints_2d))
    high = np.array(image.size) - size
    low = np.clip(box[:2] + box[2:] - size, 0, high)
    corner = np.floor(rng.uniform(low, np.maximum(np.clip(box[:2], 0, high), low)))
    picture = image.crop((*corner.tolist(), *np.floor(corner + size).tolist()))
    return Example(picture, body_box(joints_2d - corner))


def lspet_pictures(folder: Path, count: int) -> Iterator[Example]:
    """Photographs cut to twice the person's box, evenly over the data set."""
    joints = loadmat(folder / "joints.mat")["joints"]  # (14, 3, people)
    wanted = set(np.linspace(0, joints.shape[2] - 1, count).astype(int).tolist())
    with tarfile.open(folder / "images.tar") as archive:
        for member in archive:
            if not member.name.endswith(".jpg"):
                continue
            number = int(Path(member.name).stem[2:]) - 1
            if number not in wanted:
                continue
            labelled = joints[:, 2, number] > 0
            picture = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
            box, (head, shoulder, hip) = body_box(joints[labelled, :2, number]), joints[[13, 8, 2], 1, number]
            yield Example(picture, box, bool(head < shoulder < hip and labelled[[13, 8, 2]].all()))


def portraits(examples: Iterable[Example]) -> Iterator[Example]:
    """Pictures of people who are upright and higher than wide, that end between breast and hips."""
    rng = np.random.default_rng(SEED)
    for example in examples:
        left, top, width, height = example.box
        if example.is_upright and height > HIGH * width:
            height *= rng.uniform(*PORTRAIT_SHARES)
            picture = example.image.crop((0, 0, example.image.width, round(top + height)))
            yield Example(picture, [left, top, width, height])


def nobody(count: int) -> Iterator[Example]:
    """Rooms without people, and every other picture a surface, stripes, blots or noise."""
    rng = np.random.default_rng(SEED)
    rooms = empty_rooms(-(-count // 2))
    for number in range(count):
        yield next(rooms) if number % 2 == 0 else Example(_surface(rng, number // 2), None)


def _surface(rng: np.random.Generator, kind: int) -> Image.Image:
    """A picture of nothing in particular; the first is black, the second a test pattern."""
    width, height = (640, 480) if kind % 3 else (480, 640)
    colours = rng.integers(0, 256, (8, 3), dtype=np.uint8)
    if kind == 0:
        return Image.new("RGB", (width, height))
    if kind % 5 == 1:
        return Image.fromarray(np.tile(colours.repeat(-(-width // 8), axis=0)[None, :width], (height, 1, 1)))
    if kind % 5 == 2:
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    cells = 2 ** rng.integers(1, 6)
    blots = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize((width, height))
    return blots.filter(ImageFilter.GaussianBlur(2)) if kind % 5 == 3 else Image.new("RGB", blots.size, (*colours[0],))


@dataclass
class Tally:
    """What the search did with pictures of one kind."""

    pictures: int = 0
    right: int = 0
    others: int = 0
    empty: int = 0
    seconds: float = 0.0
    figures: dict[str, list[np.ndarray]] = field(default_factory=lambda: {kind: [] for kind in POSES})

    def row(self) -> dict[str, float]:
        """Shares and means."""
        count = max(self.pictures, 1)
        return {
            "pictures": self.pictures,
            "right person": self.right / count,
            "others a picture": self.others / count,
            "nobody found": self.empty / count,
            "cpu seconds": self.seconds / count,
        }


def measure(examples: Iterable[Example], look: Any) -> Tally:
    """Search in pictures, with the limits and without."""
    tally = Tally()
    for example in examples:
        started = time.process_time()
        boxes = search_people(example.image, look)
        tally.seconds += time.process_time() - started
        hits = [_is_right(box, example.box) for box in boxes]
        tally.pictures += 1
        tally.right += any(hits)
        tally.others += len(hits) - any(hits)
        tally.empty += not boxes
        for figures, is_right in figures_without_limits(example, look):
            tally.figures["right" if is_right else "wrong" if example.box else "nobody"].append(figures)
    return tally


def _is_right(box: list[float], label: list[float] | None) -> bool:
    return label is not None and box_overlaps(np.array([box]), np.array([label])).item() >= RIGHT_OVERLAP


def figures_without_limits(example: Example, look: Any) -> list[tuple[np.ndarray, bool]]:
    """Sureness, expected error and following of each pose of a search without limits, and if it is the label's."""
    seen: list[tuple[list[list[float]], Sightings]] = []

    def watch(image: Image.Image, boxes: list[list[float]], second_look: bool = False) -> Sightings:
        seen.append((boxes, look(image, boxes, second_look)))
        return seen[-1][1]

    search_people(
        example.image, watch, SearchLimits(sureness=0.0, far_sureness=0.0, error_mm=np.inf, following=np.inf)
    )
    (_, near), (_, last) = seen[-2:]
    figures = np.stack([last.sureness(), last.errors_mm(), following_of(near, last)], axis=-1)  # (poses, 3)
    factor = reduction(example.image.size)
    rights = [_is_right([factor * number for number in box], example.box) for box in last.boxes()]
    return list(zip(figures, rights, strict=True))


def print_figures(tallies: dict[str, Tally]) -> None:
    """Print how the figures are spread among right and wrong poses, and what limits would keep of them."""
    poses = {kind: [row for tally in tallies.values() for row in tally.figures[kind]] for kind in POSES}
    arrays = {kind: np.array(rows).reshape(-1, 3) for kind, rows in poses.items()}
    for kind, values in arrays.items():
        print(f"\n{kind}, {len(values)} poses: quantiles {', '.join(map(str, QUANTILES))}")
        for name, column in zip(("sureness", "error mm", "following"), values.T, strict=True):
            if len(column):
                print(f"{name:10}", " ".join(f"{value:6.3f}" for value in np.quantile(column, QUANTILES)))
    print(f"\nkept by the other limits, by largest expected error (now {LIMITS.error_mm:g} mm):")
    for most in ERROR_STEPS_MM:
        kept = {kind: _share_within(values, most) for kind, values in arrays.items()}
        print(f"{most:8.0f}", "  ".join(f"{kind} {share:6.1%}" for kind, share in kept.items()))


def _share_within(figures: np.ndarray, error_mm: float) -> float:
    """Share of poses `(poses, 3)` that limits keep whose joints may be expected to be off by so much."""
    sureness, errors, following = figures.T
    kept = (sureness >= LIMITS.sureness) & (errors <= error_mm) & (following <= LIMITS.following)
    return float(kept.mean()) if len(kept) else 0.0


def measure_large(look: Any, image: Image.Image) -> float:
    """Processor seconds of a search in a picture of 12 megapixels."""
    large = image.resize(LARGE)
    started = time.process_time()
    search_people(large, look)
    return time.process_time() - started


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lspet", type=Path, help="folder with images.tar and joints.mat; left out without it")
    parser.add_argument("--model", default=str(files("jointdetr") / "pretrained"))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    look = pipeline("pose-estimation-3d", model=arguments.model, device="cpu").look
    kinds = {
        "synthetic": synthetic_scenes(arguments.count),
        "cut": portraits(synthetic_scenes(arguments.count)),
        "nobody": nobody(arguments.count),
    }
    if arguments.lspet is not None:
        kinds["lspet"] = lspet_pictures(arguments.lspet, arguments.count)
        kinds["lspet cut"] = portraits(lspet_pictures(arguments.lspet, arguments.count))
    tallies = {}
    for name, examples in kinds.items():
        tallies[name] = measure(examples, look)
        print(f"{name:10}", "  ".join(f"{key} {value:.3g}" for key, value in tallies[name].row().items()), flush=True)
    large_s = min(measure_large(look, next(synthetic_scenes(1)).image) for _ in range(3))
    print(f"12 megapixels: {large_s:.2f} s of processor time")
    print_figures(tallies)
    if arguments.output is not None:
        result = {name: tally.row() for name, tally in tallies.items()} | {"12 megapixels, s": large_s}
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
