// The 3D viewer on the page: in a shadow tree, so that the page's styles do not reach its buttons, and in the page's theme.

const theme = () => (document.body.classList.contains("dark") ? "dark" : "light");

/** Mounts the viewer's module in an element and returns the viewer's handle. */
export function mountView(element, viewer, data, options) {
  const inside = document.createElement("div");
  inside.style.height = "100%";
  element.attachShadow({ mode: "open" }).append(inside);
  const handle = viewer.mount(inside, data, { theme: theme(), ...options });
  new MutationObserver(() => handle.setTheme(theme())).observe(document.body, { attributeFilter: ["class"] });
  return handle;
}

/** Starts the 3D view in its component: the first value mounts the viewer, a later one keeps the direction of the view. */
export async function start({ element, props, watch }, viewerUrl) {
  const place = element.querySelector(".jointdetr-view");
  const words = element.querySelector(".jointdetr-words");
  const viewer = await import(viewerUrl);
  const show = () => {
    const data = props.value ? JSON.parse(props.value) : null;
    words.hidden = Boolean(data);
    place.hidden = !data;
    if (!data) return;
    if (place.viewer) place.viewer.update(data);
    else place.viewer = mountView(place, viewer, data, { turning: true });
  };
  show();
  watch("value", show);
}
