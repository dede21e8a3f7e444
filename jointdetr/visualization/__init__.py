"""Poses as pictures and as files: overlays, figures from two sides, JSON and NPZ."""

from .figures import draw_overlay, pose_figure
from .skeletons import skeleton_from_config
from .writers import write_json, write_npz

__all__ = ["draw_overlay", "pose_figure", "skeleton_from_config", "write_json", "write_npz"]
