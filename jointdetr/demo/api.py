"""The one public endpoint: `estimate`, for gradio_client, curl and MCP."""

from typing import Any

import gradio as gr

from ..people.boxes import parse_boxes, read_boxes
from ..people_jointdetr import SEARCH, PeopleRequest
from .estimator import PoseEstimator
from .guard import open_picture, plain_errors
from .parts import FOCAL_LENGTH, camera_of


class Endpoint:
    """Invisible components of the page with one public listener."""

    def __init__(self, estimator: PoseEstimator):
        self.estimator = estimator
        picture = gr.Image(type="filepath", image_mode=None, label="picture", visible=False)
        threshold = gr.Slider(0, 1, 0.5, label="threshold", visible=False)
        focal_px = gr.Number(None, label="focal_px", visible=False)
        boxes = gr.Textbox("", label="boxes", max_length=2000, visible=False)
        people = gr.Textbox(SEARCH, label="people", max_length=20, visible=False)
        gr.Button(visible=False).click(
            self.estimate,
            [picture, threshold, focal_px, boxes, people],
            gr.JSON(label="poses", visible=False),
            api_name="estimate",
            concurrency_id="network",
            concurrency_limit=1,
        )

    # Gradio shows this text to programs and language models, and takes one line for each argument.
    @plain_errors()
    def estimate(
        self,
        picture: str,
        threshold: float = 0.5,
        focal_px: float | None = None,
        boxes: str = "",
        people: str = SEARCH,
    ) -> dict[str, Any]:
        """Estimate the 3D poses of the people in one picture.

        Without boxes the server finds the people. The list of people is empty where nobody is found.

        Args:
            picture: The picture.
            threshold: A joint less probable than this counts as not found, from 0 to 1.
            focal_px: Focal length in pixels, if known; otherwise 60 degrees are guessed, to place people before it.
            boxes: Where the people are, as "x y width height; x y width height; ..." in pixels.
            people: "search" finds the people where there are no boxes, "whole" takes the whole picture as one person.

        Returns:
            The skeleton's joint names and parents, and for each person the joints in millimetres relative to the root
            (x right, y down, z away from the camera), in pixels, their scores, how many millimetres off each is
            expected to be, and which of them were found.
        """
        estimator, settings = self.estimator, self.estimator.settings
        image = open_picture(picture, settings)
        camera = camera_of(FOCAL_LENGTH, focal_px, image.size)
        given = parse_boxes(read_boxes(boxes), image, settings.max_people) if boxes.strip() else None
        request = PeopleRequest(boxes=given, people=people)
        if given is None and request.people == SEARCH:
            given = estimator.find_people(image)
        found = estimator.assemble(estimator.look(image, given), threshold, camera)
        skeleton = estimator.skeleton
        return {
            "skeleton": {"name": skeleton.name, "joints": skeleton.joints, "parents": skeleton.parents},
            "picture_size": [image.width, image.height],
            "people": estimator.pipeline.postprocess({"people": found}),
        }
