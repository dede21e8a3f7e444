"""Load a published model where jointdetr cannot be imported, and print the joints that it finds in a picture."""

import json
import sys

import numpy as np
import torch
import transformers

sys.modules["jointdetr"] = None  # `import jointdetr` now fails

repo, revision, arrays = sys.argv[1:]
stored = np.load(arrays)
load = {"revision": revision, "trust_remote_code": True}
model = transformers.AutoModelForPoseEstimation.from_pretrained(repo, **load).eval()
processor = transformers.AutoImageProcessor.from_pretrained(repo, **load)
estimate = transformers.pipeline("pose-estimation-3d", model=repo, device="cpu", **load)
inputs = processor(stored["image"], boxes=stored["boxes"], return_tensors="pt")
with torch.no_grad():
    outputs = model(**inputs)
((person,),) = processor.post_process_pose_estimation(outputs, inputs, threshold=0.0, refiner=model.refiner)
found = {
    "module": type(model).__module__,
    "joints": person["joints"].tolist(),
    "pipeline": estimate(stored["image"], boxes=stored["boxes"], threshold=0.0, second_look=False)[0]["joints"],
}
print(json.dumps(found))
