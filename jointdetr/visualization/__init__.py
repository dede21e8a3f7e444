"""Poses as pictures and as files: overlays, figures from two sides, JSON and NPZ."""

from .figures import draw_overlay, pose_figure
from .writers import write_json, write_npz

__all__ = ["draw_overlay", "pose_figure", "write_json", "write_npz"]
