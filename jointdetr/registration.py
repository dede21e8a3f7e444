"""Makes transformers' Auto classes and pipelines know the package: importing this module registers everything.

`import jointdetr` does that, and so does the command `jointdetr` before it does what it was asked for.
"""

from pathlib import Path

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForPoseEstimation
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_jointdetr import JointDetrConfig, JointRefinerConfig
from .image_processing_jointdetr import JointDetrImageProcessor, JointDetrImageProcessorPil
from .modeling_jointdetr import JointDetrForPoseEstimation, JointDetrModel
from .pipeline_jointdetr import JointDetrPipeline
from .refinement_jointdetr import JointRefiner

AutoConfig.register(JointDetrConfig.model_type, JointDetrConfig, exist_ok=True)
AutoConfig.register(JointRefinerConfig.model_type, JointRefinerConfig, exist_ok=True)
AutoModel.register(JointDetrConfig, JointDetrModel, exist_ok=True)
AutoModel.register(JointRefinerConfig, JointRefiner, exist_ok=True)
AutoModelForPoseEstimation.register(JointDetrConfig, JointDetrForPoseEstimation, exist_ok=True)
AutoImageProcessor.register(
    JointDetrConfig,
    # Without torchvision both names are the same class.
    image_processor_classes={"pil": JointDetrImageProcessorPil, "torchvision": JointDetrImageProcessor},
    exist_ok=True,
)
PIPELINE_REGISTRY.register_pipeline(
    "pose-estimation-3d",
    pipeline_class=JointDetrPipeline,
    pt_model=AutoModelForPoseEstimation,
    default={"model": (str(Path(__file__).parent / "pretrained"), None)},  # a folder has no revision
    type="image",
)

# What `save_pretrained` writes carries its code, and loads with `trust_remote_code=True` where jointdetr is absent.
JointDetrConfig.register_for_auto_class()
JointRefinerConfig.register_for_auto_class()
JointDetrModel.register_for_auto_class("AutoModel")
JointRefiner.register_for_auto_class("AutoModel")
JointDetrForPoseEstimation.register_for_auto_class("AutoModelForPoseEstimation")
JointDetrImageProcessorPil.register_for_auto_class()
JointDetrImageProcessor.register_for_auto_class()
