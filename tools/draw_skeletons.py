"""Draw the skeletons of the package, and what each gives of Human3.6M's, for docs/skeletons.md.

`python tools/draw_skeletons.py docs/images/skeletons`
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jointdetr.data.skeleton_mapping import joint_sources
from jointdetr.formats.skeletons import joint_sides
from jointdetr.skeleton_jointdetr import HUMAN36M, SKELETONS, Skeleton
from jointdetr.visualization.charts import draw_bones, joint_places, skeleton_figure
from jointdetr.visualization.figures import COLORS


def mapping_figure(target: Skeleton, sources: Sequence[Skeleton]) -> Figure:
    """Draw what each source gives of a target: full joints are taken as they are, hollow ones by a formula."""
    rows = -(-len(sources) // 4)
    figure = Figure(figsize=(9.0, 2.9 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, 4, squeeze=False)
    for axes, source in zip(grid.flat, sources, strict=False):
        draw_bones(axes, target, 0.75, f"from {source.name}")
        joints = zip(joint_places(target), joint_sides(target), joint_sources(source, target), strict=True)
        for place, side, found in joints:
            if found is None:
                axes.scatter(*place, s=40, c="black", marker="x", linewidths=1.5, zorder=3)
            else:
                fill = "white" if found.notes else COLORS[side]
                axes.scatter(*place, s=45, c=fill, edgecolors=COLORS[side], linewidths=1.5, zorder=2)
    for axes in figure.axes[len(sources) :]:
        axes.set_axis_off()
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the skeletons of the package, and what each gives of Human3.6M's."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, skeleton in SKELETONS.items():
        skeleton_figure(skeleton).savefig(folder / f"{name}.png")
    sources = [skeleton for skeleton in SKELETONS.values() if skeleton is not HUMAN36M]
    mapping_figure(HUMAN36M, sources).savefig(folder / "to_human36m.png")


if __name__ == "__main__":
    main()
