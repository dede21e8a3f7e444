"""Poses as pictures and as files: overlays, figures, tables, animation, and a page with a 3D viewer."""

from ..formats.bvh import write_bvh
from ..formats.glb import write_glb
from ..formats.tables import write_csv, write_json, write_npz, write_parquet
from .charts import angle_figure
from .figures import draw_overlay, pose_figure
from .files import read_poses, write_angles, write_poses
from .page import viewer_bundle, viewer_data, write_viewer_html

__all__ = ["angle_figure", "draw_overlay", "pose_figure", "read_poses", "viewer_bundle", "viewer_data"]
__all__ += ["write_angles", "write_bvh", "write_csv", "write_glb", "write_json", "write_npz", "write_parquet"]
__all__ += ["write_poses", "write_viewer_html"]
