"""The parts of the page that Gradio has not, the 3D view and the area to draw boxes in: `gr.HTML` with a module each.

A module is loaded from a static path by `import`, because script tags in such a component never run.
"""

from pathlib import Path

import gradio as gr

from ..visualization import viewer_bundle

VIEW_HEIGHT_PX = 440  # as in style.css
BOXES_MODULE = Path(__file__).parent / "static" / "boxes.js"

# The first value mounts the viewer, a later one keeps the direction of the view. `place.viewer` is its handle. It lies
# in a shadow tree, so that the page's styles do not reach its buttons.
VIEWER_SCRIPT = """
const place = element.querySelector('.jointdetr-view'), words = element.querySelector('.jointdetr-words');
const inside = document.createElement('div');
inside.style.height = '100%';
place.attachShadow({{ mode: 'open' }}).append(inside);
const theme = () => document.body.classList.contains('dark') ? 'dark' : 'light';
import(new URL('{url}', document.baseURI).href).then(({{ mount }}) => {{
  const show = () => {{
    const data = props.value ? JSON.parse(props.value) : null;
    words.hidden = Boolean(data);
    place.hidden = !data;
    if (!data) return;
    if (place.viewer) place.viewer.update(data);
    else place.viewer = mount(inside, data, {{ theme: theme() }});
  }};
  show();
  watch('value', show);
  new MutationObserver(() => place.viewer?.setTheme(theme())).observe(document.body, {{ attributeFilter: ['class'] }});
}}).catch((error) => {{ words.hidden = false; words.textContent = 'The 3D view could not start: ' + error.message; }});
"""
BOXES_SCRIPT = """
const place = element.querySelector('.jointdetr-boxes');
import(new URL('{url}', document.baseURI).href).then(({{ mount }}) => {{
  const area = mount(place, (boxes) => {{ props.value = JSON.stringify({{ boxes }}); trigger('input'); }});
  const show = () => {{ if (props.value) area.update(JSON.parse(props.value)); }};
  show();
  watch('value', show);
}});
"""


def static_files() -> list[Path]:
    """What the page loads from this package."""
    return [viewer_bundle(), BOXES_MODULE]


def pose_viewer(words: str, elem_id: str) -> gr.HTML:
    """Make the 3D view; its value is the JSON of `viewer_data`, or `None`, which shows `words`."""
    template = f"<div class='jointdetr-view' hidden></div><div class='jointdetr-words'>{words}</div>"
    script = VIEWER_SCRIPT.format(url=_url(viewer_bundle()))
    return gr.HTML(
        None, html_template=template, js_on_load=script, label="3D", elem_id=elem_id, min_height=VIEW_HEIGHT_PX
    )


def boxes_area() -> gr.HTML:
    """Make the area to draw boxes in; its value is the JSON of `drawing_value`."""
    template = "<div class='jointdetr-boxes' hidden></div>"
    script = BOXES_SCRIPT.format(url=_url(BOXES_MODULE))
    return gr.HTML(None, html_template=template, js_on_load=script, label="People", elem_id="boxes", visible=False)


def _url(path: Path) -> str:
    """Address of a static file below the page's own, so that it works behind any proxy."""
    return f"gradio_api/file={path.as_posix()}"
