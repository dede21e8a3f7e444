// The picture to act on: people's boxes over it, to be drawn, moved, sized and removed by mouse, touch, pen or keyboard.
// A finger moves only the box it has tapped, and draws at once where there is none or once it has tapped the picture,
// so that the page still scrolls under it.
// It is given {picture: data URL, size: [width, height] px, boxes: [[x, y, width, height] px, ...] or null to leave them}
// and sends boxes, or null to have people found.

const MIN_SIDE = 24; // px on the screen; anything smaller was a tap
const TAG_HEIGHT = 28; // px on the screen
const TAG_WIDTH = 52; // px on the screen
const KEY_STEP = 0.02; // part of the picture
const KEY_DELAY_MS = 500; // keys that follow each other sooner are one change
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const CORNERS = { "top left": [0, 0], "top right": [1, 0], "bottom left": [0, 1], "bottom right": [1, 1] };
const DRAW = "Draw a box from corner to corner.";
const CHANGE = "Drag a box or its corners, or draw another one.";
const CHANGE_BY_TOUCH = "Tap a box to change it, the picture to draw.";
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function make(tag, className, attributes = {}) {
  const element = document.createElement(tag);
  element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function start({ element, props, trigger, watch }) {
  const picture = new Picture(element.querySelector(".jointdetr-picture"), (boxes) => {
    props.value = JSON.stringify({ boxes });
    trigger("input");
  });
  const show = () => {
    const value = props.value ? JSON.parse(props.value) : {};
    if (!value.picture) return;
    picture.update(value);
    // whoever is asked next must hear of the boxes on the page, which an answer to an earlier question leaves out
    if (value.boxes === null) props.value = JSON.stringify({ ...value, boxes: picture.rounded });
  };
  show();
  watch("value", show);
}

class Picture {
  constructor(element, onChange) {
    this.element = element;
    this.onChange = onChange;
    this.size = [1, 1];
    this.boxes = [];
    this.drag = null; // {index, corner, from: [x, y] px of the picture, box: as it was, none yet if the index is new}
    this.image = make("img", "", { alt: "The picture with the people's skeletons", draggable: "false" });
    this.layer = make("div", "jointdetr-layer", { tabindex: "-1", role: "group", "aria-label": "Where boxes are drawn" });
    this.frame = make("div", "jointdetr-frame");
    this.frame.append(this.image, this.layer);
    this.hint = make("p", "jointdetr-hint");
    element.replaceChildren(this.frame, this.hint, this.#makeTools());
    this.layer.addEventListener("pointerdown", (event) => this.#grab(event));
    this.layer.addEventListener("pointermove", (event) => this.#move(event));
    this.layer.addEventListener("pointerup", (event) => this.#drop(event));
    this.layer.addEventListener("pointercancel", () => this.#cancel());
    this.layer.addEventListener("keydown", (event) => this.#onKey(event));
    for (const name of ["focus", "blur"]) this.layer.addEventListener(name, () => this.#tell());
    new ResizeObserver(() => this.#placeTags()).observe(this.frame);
  }

  /** Shows another picture, and its boxes unless somebody is just drawing. */
  update({ picture, size, boxes }) {
    this.element.hidden = false;
    this.image.src = picture;
    this.size = size;
    this.frame.style.setProperty("--aspect", size[0] / size[1]);
    if (boxes && !this.drag) this.#show(boxes.map((box) => this.#inside(box)));
  }

  #makeTools() {
    const actions = {
      "Add a box": () => this.#add(),
      "Whole picture": () => this.#replace([[0, 0, ...this.size]]),
      "Find people": () => this.onChange(null),
    };
    const tools = make("div", "jointdetr-tools", { role: "group", "aria-label": "Boxes around people" });
    for (const [text, action] of Object.entries(actions)) {
      const button = make("button", "", { type: "button" });
      button.textContent = text;
      button.addEventListener("click", action);
      tools.append(button);
    }
    return tools;
  }

  get #scale() {
    return this.size[0] / this.layer.clientWidth; // px of the picture in one px of the screen
  }

  #point(event) {
    const frame = this.layer.getBoundingClientRect();
    return [(event.clientX - frame.left) * this.#scale, (event.clientY - frame.top) * this.#scale];
  }

  /** Cuts a box to the picture. */
  #inside([x, y, width, height]) {
    const [left, top] = [clamp(x, 0, this.size[0]), clamp(y, 0, this.size[1])];
    return [left, top, clamp(x + width, left, this.size[0]) - left, clamp(y + height, top, this.size[1]) - top];
  }

  /** Draws other boxes; the focus stays on the one with the same number. */
  #show(boxes) {
    const focused = this.#indexOf(document.activeElement);
    this.boxes = boxes;
    this.layer.replaceChildren(...boxes.map((_, index) => this.#makeBox(index)));
    this.#placeAll();
    this.#tell();
    if (focused >= 0) this.layer.children[Math.min(focused, boxes.length - 1)]?.focus({ preventScroll: true });
  }

  /** Says what a drag would do now. */
  #tell() {
    const draws = !this.boxes.length || document.activeElement === this.layer;
    const byTouch = window.matchMedia("(pointer: coarse)").matches;
    this.hint.textContent = draws ? DRAW : byTouch ? CHANGE_BY_TOUCH : CHANGE;
  }

  #makeBox(index) {
    const label = `Person ${index + 1}: arrow keys move the box, with Shift they size it, Delete removes it`;
    const box = make("div", "jointdetr-box", { tabindex: "0", role: "group", "aria-label": label });
    for (const corner of Object.keys(CORNERS)) box.append(make("span", "jointdetr-corner", { "data-corner": corner }));
    const tag = make("span", "jointdetr-tag");
    const remove = make("button", "", { type: "button", "aria-label": `Remove person ${index + 1}` });
    remove.textContent = "\u2715";
    remove.addEventListener("click", () => this.#remove(index));
    tag.append(String(index + 1), remove);
    box.append(tag);
    return box;
  }

  #placeAll() {
    this.boxes.forEach(([x, y, width, height], index) => {
      const { style } = this.layer.children[index];
      const percent = (value, whole) => `${(100 * value) / whole}%`;
      [style.left, style.top] = [percent(x, this.size[0]), percent(y, this.size[1])];
      [style.width, style.height] = [percent(width, this.size[0]), percent(height, this.size[1])];
    });
    this.#placeTags();
  }

  /** A tag hangs below its box, or lies at its feet where the picture ends: never over a head. */
  #placeTags() {
    this.boxes.forEach(([, y, width, height], index) => {
      const classes = this.layer.children[index]?.classList;
      classes?.toggle("jointdetr-hanging", (this.size[1] - y - height) / this.#scale > TAG_HEIGHT);
      classes?.toggle("jointdetr-narrow", width / this.#scale < TAG_WIDTH);
    });
  }

  #indexOf(element) {
    return [...this.layer.children].indexOf(element?.closest?.(".jointdetr-box"));
  }

  #grab(event) {
    if (this.drag || !event.isPrimary || event.button !== 0 || event.target.closest("button")) return;
    const index = this.#indexOf(event.target);
    if (event.pointerType === "touch" && index >= 0 && index !== this.#indexOf(document.activeElement)) return;
    const from = this.#point(event);
    this.before = this.boxes;
    if (index >= 0) {
      this.drag = { index, corner: CORNERS[event.target.dataset.corner], from, box: this.boxes[index] };
      this.layer.children[index].focus({ preventScroll: true });
    } else this.drag = { index: this.boxes.length, corner: [1, 1], from, box: [...from, 0, 0] };
    this.layer.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  #move(event) {
    if (!this.drag || !event.isPrimary) return;
    const { index, corner, from, box } = this.drag;
    if (index === this.boxes.length) this.#show([...this.boxes, box]);
    const point = this.#point(event).map((value, axis) => clamp(value, 0, this.size[axis]));
    const shift = [point[0] - from[0], point[1] - from[1]];
    this.boxes = this.boxes.with(index, corner ? this.#sized(box, corner, shift) : this.#shifted(box, shift));
    this.#placeAll();
  }

  #shifted([x, y, width, height], [right, down]) {
    return [clamp(x + right, 0, this.size[0] - width), clamp(y + down, 0, this.size[1] - height), width, height];
  }

  /** Moves one corner of a box; the others may trade places with it. */
  #sized([x, y, width, height], [isRight, isBottom], [right, down]) {
    const xs = [x + (isRight ? 0 : right), x + width + (isRight ? right : 0)].sort((a, b) => a - b);
    const ys = [y + (isBottom ? 0 : down), y + height + (isBottom ? down : 0)].sort((a, b) => a - b);
    return this.#inside([xs[0], ys[0], xs[1] - xs[0], ys[1] - ys[0]]);
  }

  #drop({ isPrimary }) {
    if (!this.drag || !isPrimary) return;
    const { index, box } = this.drag;
    this.drag = null;
    const isNew = index === this.before.length;
    const drawn = this.boxes[index] ?? box;
    const isTap = this.#isTiny(drawn, isNew ? undefined : box);
    if (isTap) this.#show(this.before);
    else if (isNew || String(drawn) !== String(box)) this.#send();
    if (isNew) (isTap ? this.layer : this.layer.lastElementChild).focus({ preventScroll: true });
  }

  /** Whether a box was drawn, or sized, to next to nothing; one that was small before may be moved. */
  #isTiny(box, before = [0, 0, Infinity, Infinity]) {
    const least = MIN_SIDE * this.#scale;
    return [2, 3].some((side) => box[side] < Math.min(least, before[side]) - 0.5);
  }

  #cancel() {
    if (this.drag) this.#show(this.before);
    this.drag = null;
  }

  #remove(index) {
    this.#replace(this.boxes.filter((_, other) => other !== index));
  }

  /** Puts another box into the middle, to be moved to its person. */
  #add() {
    const [width, height] = this.size;
    this.#replace([...this.boxes, [0.3 * width, 0.1 * height, 0.4 * width, 0.8 * height]]);
    this.layer.lastElementChild.focus({ preventScroll: true });
  }

  #replace(boxes) {
    this.#show(boxes);
    this.#send();
  }

  #onKey(event) {
    const index = this.#indexOf(event.target);
    if (index < 0 || !event.target.classList.contains("jointdetr-box")) return;
    const arrow = ARROWS[event.key];
    if (event.key === "Delete" || event.key === "Backspace") this.#remove(index);
    else if (arrow) this.#onArrow(index, arrow, event.shiftKey);
    else return;
    event.preventDefault();
  }

  #onArrow(index, arrow, sizes) {
    const shift = arrow.map((way) => way * KEY_STEP * Math.max(...this.size));
    const box = this.boxes[index];
    const changed = sizes ? this.#sized(box, [1, 1], shift) : this.#shifted(box, shift);
    if (this.#isTiny(changed, box)) return;
    this.boxes = this.boxes.with(index, changed);
    this.#placeAll();
    clearTimeout(this.keyTimer);
    this.keyTimer = setTimeout(() => this.#send(), KEY_DELAY_MS);
  }

  /** The boxes in whole px of the picture. */
  get rounded() {
    return this.boxes.map((box) => box.map(Math.round));
  }

  #send() {
    this.onChange(this.rounded);
  }
}
