"""The controls that pictures and films have in common: the camera as a visitor knows it, and the threshold."""

import gradio as gr

from .camera import KINDS, NUMBER_LABELS, UNKNOWN

CAMERA_HELP = (
    "Places the people before the camera. Most phones and webcams see 50 to 75 degrees across the picture's longer "
    "side. Directions hold whatever you say; distances are off by as much as the focal length is."
)


class CameraControls:
    """What a visitor may say of the camera: the kind of number, and the number.

    `named` is the event after another kind was chosen and the number emptied.
    """

    def __init__(self, elem_id: str):
        with gr.Accordion("Camera", open=False):
            gr.Markdown(CAMERA_HELP)
            with gr.Row():
                self.kind = gr.Dropdown(
                    list(KINDS), value=UNKNOWN, label="What you know of the camera", min_width=140, elem_id=elem_id
                )
                self.number = gr.Number(None, min_width=100, elem_id=f"{elem_id}-value", visible=False)
            self.named = self.kind.input(
                _name_number, self.kind, self.number, api_visibility="private", queue=False, show_progress="hidden"
            )
        self.components = (self.kind, self.number)


def _name_number(kind: str) -> gr.Number:
    """Return the empty field for the number of this kind; it is hidden where there is none to give."""
    return gr.Number(None, label=NUMBER_LABELS.get(kind), visible=kind in NUMBER_LABELS)


def add_threshold(elem_id: str, value: float) -> gr.Slider:
    """Add the slider for the probability from which on a joint counts as found."""
    words = "A joint less probable than this is a guess, drawn hollow."
    return gr.Slider(0, 1, value, step=0.01, label="Threshold (probability, 0 to 1)", info=words, elem_id=elem_id)
