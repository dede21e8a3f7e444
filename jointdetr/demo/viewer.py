"""Parts of the page that Gradio has not, the 3D view and the picture to draw boxes on: `gr.HTML` with a module each.

A module is loaded from a static path by `import`, because script tags in such a component never run.
"""

from pathlib import Path

import gradio as gr

from ..visualization import viewer_bundle

STATIC = Path(__file__).parent / "static"
PICTURE_MODULE, VIEW_MODULE, LIVE_MODULE = (STATIC / name for name in ("picture.js", "view.js", "live.js"))
PAGE_MODULE = STATIC / "page.js"
CAMERA_MODULE = STATIC / "camera.js"  # a part of the live view

# The first value mounts the viewer, a later one keeps the direction of the view. `place.viewer` is its handle.
VIEWER_SCRIPT = """
const place = element.querySelector('.jointdetr-view'), words = element.querySelector('.jointdetr-words');
const load = (url) => import(new URL(url, document.baseURI).href);
Promise.all([load('{viewer}'), load('{view}')]).then(([viewer, {{ mountView }}]) => {{
  const show = () => {{
    const data = props.value ? JSON.parse(props.value) : null;
    words.hidden = Boolean(data);
    place.hidden = !data;
    if (!data) return;
    if (place.viewer) place.viewer.update(data);
    else place.viewer = mountView(place, viewer, data, {{ turning: true }});
  }};
  show();
  watch('value', show);
}}).catch((error) => {{ words.hidden = false; words.textContent = 'The 3D view could not start: ' + error.message; }});
"""
PICTURE_SCRIPT = """
const place = element.querySelector('.jointdetr-picture');
import(new URL('{url}', document.baseURI).href).then(({{ mount }}) => {{
  const picture = mount(place, (boxes) => {{ props.value = JSON.stringify({{ boxes }}); trigger('input'); }});
  const show = () => {{
    const value = props.value ? JSON.parse(props.value) : {{}};
    if (!value.picture) return;
    picture.update(value);
    // whoever is asked next must hear of the boxes on the page, which an answer to an earlier question leaves out
    if (value.boxes === null) props.value = JSON.stringify({{ ...value, boxes: picture.rounded }});
  }};
  show();
  watch('value', show);
}});
"""
LIVE_SCRIPT = """
const place = element.querySelector('.jointdetr-live');
const load = (url) => import(new URL(url, document.baseURI).href);
const address = new URL('{address}', document.baseURI);
address.protocol = address.protocol.replace('http', 'ws');
Promise.all([load('{viewer}'), load('{live}')])
  .then(([viewer, {{ mount }}]) => {{ place.live = mount(place, viewer, address.href); }})
  .catch((error) => {{ place.textContent = 'The camera could not be prepared: ' + error.message; }});
"""
# What was asked for is brought into view where it is not, and the error before it goes away.
SHOW_RESULT = """
() => {{
  document.querySelectorAll('.toast-close').forEach((button) => button.click());
  const {{ top, bottom }} = document.querySelector('{view}').getBoundingClientRect();
  if (top >= 0 && bottom <= window.innerHeight) return;
  const behavior = window.matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth';
  document.querySelector('{start}').scrollIntoView({{ block: 'start', behavior }});
}}
"""
CLEAR_ERRORS = "() => document.querySelectorAll('.toast-close').forEach((button) => button.click())"


def static_files() -> list[Path]:
    """What the page loads from this package."""
    return [viewer_bundle(), PICTURE_MODULE, VIEW_MODULE, LIVE_MODULE, CAMERA_MODULE, PAGE_MODULE]


def pose_viewer(words: str, elem_id: str) -> gr.HTML:
    """Make the 3D view; its value is the JSON of `viewer_data`, or `None`, which shows `words`."""
    template = f"<div class='jointdetr-view' hidden></div><div class='jointdetr-words'>{words}</div>"
    script = VIEWER_SCRIPT.format(viewer=_url(viewer_bundle()), view=_url(VIEW_MODULE))
    return gr.HTML(None, html_template=template, js_on_load=script, label="3D", elem_id=elem_id)


def acted_picture(elem_id: str) -> gr.HTML:
    """Make the picture to draw boxes on; its value is the JSON of `drawing_value`, or what `drawn_boxes` reads."""
    template = "<div class='jointdetr-picture' hidden></div>"
    script = PICTURE_SCRIPT.format(url=_url(PICTURE_MODULE))
    return gr.HTML(None, html_template=template, js_on_load=script, label="Picture and people", elem_id=elem_id)


def live_view(address: str, elem_id: str) -> gr.HTML:
    """Make the live picture and its 3D view; `address` is that of the WebSocket that looks at the frames."""
    urls = {"viewer": _url(viewer_bundle()), "live": _url(LIVE_MODULE), "address": address.lstrip("/")}
    template = "<div class='jointdetr-live'></div>"
    return gr.HTML(None, html_template=template, js_on_load=LIVE_SCRIPT.format(**urls), label="Live", elem_id=elem_id)


def show_result(view: str, start: str) -> str:
    """Return the script that brings the element `view` into view, from the element `start` on."""
    return SHOW_RESULT.format(view=f"#{view}", start=f"#{start}")


def _url(path: Path) -> str:
    """Address of a static file below the page's own, so that it works behind any proxy."""
    return f"gradio_api/file={path.as_posix()}"


PAGE_SCRIPT = f"() => import(new URL('{_url(PAGE_MODULE)}', document.baseURI).href).then(({{ start }}) => start())"
