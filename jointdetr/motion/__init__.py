"""Movements in time: poses as one motion a person, their joint angles, the floor under them."""

from ..formats.motions import PoseMotion, load_motions, motion_rows, motion_schema, motions_from_rows

__all__ = ["PoseMotion", "load_motions", "motion_rows", "motion_schema", "motions_from_rows"]
