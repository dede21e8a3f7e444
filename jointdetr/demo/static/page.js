// What the page does beside Gradio: examples have names, wide tables scroll, files of poses open where they are dropped.

const POSES = /\.(json|html|glb|bvh)$/i;

// Gradio's own pictures of examples have no name for those who cannot see them.
function nameExample(item) {
  const address = item.querySelector("img, video")?.src;
  if (address) item.setAttribute("aria-label", "Example " + address.split("/").pop().replace(/[.].*$/, ""));
}

function nameExamples() {
  document.querySelectorAll(".gallery-item:not([aria-label])").forEach(nameExample);
}

// Wide tables scroll by themselves on a phone, also for those who have a keyboard.
function makeTablesScroll() {
  for (const table of document.querySelectorAll("#about table:not([tabindex])")) table.tabIndex = 0;
}

/** Hands a file to the tab that opens it, which is there once it was shown. */
function open(file) {
  const tab = [...document.querySelectorAll("[role=tab]")].find((each) => each.textContent.trim() === "Open");
  tab.click();
  const hand = () => {
    const clear = document.querySelector("#open-file [aria-label=Clear]");
    const input = document.querySelector("#open-file input[type=file]");
    if (clear) clear.click();
    if (clear || !input) return requestAnimationFrame(hand);
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  hand();
}

function openDropped(event) {
  const file = [...(event.dataTransfer?.files ?? [])].find(({ name }) => POSES.test(name));
  if (!file || event.target.closest?.("#open-file")) return;
  event.preventDefault();
  event.stopPropagation();
  open(file);
}

// Gradio measures its tabs when it may not have this page's style yet, and again only when the window changes its size.
function measureTabs() {
  window.dispatchEvent(new Event("resize"));
}

// A refused picture is taken away, which is answered like any other change of the picture: the words about it stay.
let refused = false;

function refusePicture() {
  refused = true;
}

function clearErrors() {
  document.querySelectorAll(".toast-close").forEach((button) => button.click());
}

/** Brings what was asked for into view where it is not, from another element on; the error before it goes away. */
function showResult(view, start) {
  if (refused) return void (refused = false);
  clearErrors();
  const { top, bottom } = document.querySelector(view).getBoundingClientRect();
  if (top >= 0 && bottom <= window.innerHeight) return;
  const behavior = window.matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  document.querySelector(start).scrollIntoView({ block: "start", behavior });
}

export function start() {
  window.jointdetr = { clearErrors, refusePicture, showResult };
  const mend = () => {
    nameExamples();
    makeTablesScroll();
  };
  mend();
  document.fonts.ready.then(measureTabs);
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true, attributeFilter: ["src"] });
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", openDropped, { capture: true });
}
