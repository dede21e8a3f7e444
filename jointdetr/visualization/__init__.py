"""Poses as pictures and as files: overlays, figures from two sides, JSON and NPZ, a page with a 3D viewer."""

from .figures import draw_overlay, pose_figure
from .page import viewer_bundle, viewer_data, write_viewer_html
from .writers import write_json, write_npz

__all__ = [
    "draw_overlay",
    "pose_figure",
    "viewer_bundle",
    "viewer_data",
    "write_json",
    "write_npz",
    "write_viewer_html",
]
