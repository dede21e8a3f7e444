"""3D human pose from one RGB image with a Joint Detection Transformer, native to Hugging Face."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# `jointdetr --help` answers at once: what takes seconds to import is left to the command that is then run. A process
# that a command has started is no command: its `__main__` has no file yet when it comes by here.
_IS_COMMAND = Path(sys.argv[0]).stem == "jointdetr" and "__file__" in vars(sys.modules["__main__"])

if TYPE_CHECKING or not _IS_COMMAND:
    from . import registration  # noqa: F401 (the Auto classes know the package from here on)
    from .camera_jointdetr import Camera, Distortion
    from .configuration_jointdetr import JointDetrConfig, JointRefinerConfig
    from .hub.publishing import save_with_remote_code
    from .image_processing_jointdetr import JointDetrImageProcessor, JointDetrImageProcessorPil
    from .modeling_jointdetr import JointDetrForPoseEstimation, JointDetrModel
    from .people_jointdetr import detect_people
    from .pipeline_jointdetr import JointDetrPipeline
    from .postprocessing_jointdetr import AssembledPoses, assemble_poses
    from .refinement_jointdetr import JointRefiner
    from .skeleton_jointdetr import HUMAN36M, MPI_INF_3DHP, SKELETONS, Skeleton
    from .training.adaptation import adapt_to_skeleton

__all__ = [
    "HUMAN36M",
    "MPI_INF_3DHP",
    "SKELETONS",
    "AssembledPoses",
    "Camera",
    "Distortion",
    "JointDetrConfig",
    "JointDetrForPoseEstimation",
    "JointDetrImageProcessor",
    "JointDetrImageProcessorPil",
    "JointDetrModel",
    "JointDetrPipeline",
    "JointRefiner",
    "JointRefinerConfig",
    "Skeleton",
    "adapt_to_skeleton",
    "assemble_poses",
    "detect_people",
    "save_with_remote_code",
]
