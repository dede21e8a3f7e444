// Boxes around people, drawn over a picture with the mouse or a finger; a tap on a box's cross removes it.
// The value is {picture: data URL, size: [width, height] px, boxes: [[x, y, width, height] px, ...]}.

const COLOR = "#f07f13";
const MIN_SIDE = 12; // px on the screen; anything smaller was a tap
const CROSS = 22; // px on the screen

export function mount(element, onChange) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "Picture to draw boxes on: drag from corner to corner of a person");
  canvas.style.cssText = "display:block;width:100%;touch-action:none;cursor:crosshair;border-radius:8px";
  element.replaceChildren(canvas);
  const image = new Image();
  let size = [1, 1];
  let boxes = [];
  let drag = null; // {from: [x, y], to: [x, y]} px of the picture

  const scale = () => size[0] / canvas.clientWidth; // px of the picture in one px of the screen
  const place = (event) => {
    const frame = canvas.getBoundingClientRect();
    const clamp = (value, limit) => Math.min(Math.max(value, 0), limit);
    return [
      clamp((event.clientX - frame.left) * scale(), size[0]),
      clamp((event.clientY - frame.top) * scale(), size[1]),
    ];
  };
  const asBox = ({ from, to }) => [
    Math.min(from[0], to[0]),
    Math.min(from[1], to[1]),
    Math.abs(to[0] - from[0]),
    Math.abs(to[1] - from[1]),
  ];
  const crossOf = ([x, y, width]) => [x + width - CROSS * scale(), y];
  const isOnCross = (box, [x, y]) => {
    const [left, top] = crossOf(box);
    return x >= left && x <= left + CROSS * scale() && y >= top && y <= top + CROSS * scale();
  };

  function drawBox(context, box, number) {
    const unit = scale();
    const [x, y, width, height] = box;
    context.lineWidth = 3 * unit;
    context.strokeStyle = COLOR;
    context.strokeRect(x, y, width, height);
    if (number === null) return;
    const side = CROSS * unit;
    const [left, top] = crossOf(box);
    context.fillStyle = COLOR;
    context.fillRect(x, y, side, side);
    context.fillRect(left, top, side, side);
    context.fillStyle = "white";
    context.font = `bold ${14 * unit}px sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(number, x + side / 2, y + side / 2);
    context.fillText("✕", left + side / 2, top + side / 2);
  }

  function draw() {
    if (!image.naturalWidth || !canvas.clientWidth) return;
    const sharpness = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * sharpness;
    canvas.height = (canvas.width * size[1]) / size[0];
    const context = canvas.getContext("2d");
    context.scale(canvas.width / size[0], canvas.height / size[1]);
    context.drawImage(image, 0, 0, size[0], size[1]);
    boxes.forEach((box, index) => drawBox(context, box, String(index + 1)));
    if (drag) drawBox(context, asBox(drag), null);
  }

  canvas.addEventListener("pointerdown", (event) => {
    const point = place(event);
    const hit = boxes.findIndex((box) => isOnCross(box, point));
    if (hit >= 0) {
      boxes = boxes.filter((_, index) => index !== hit);
      onChange(boxes);
    } else {
      canvas.setPointerCapture(event.pointerId);
      drag = { from: point, to: point };
    }
    draw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return;
    drag.to = place(event);
    draw();
  });
  canvas.addEventListener("pointerup", () => {
    const box = drag && asBox(drag);
    drag = null;
    if (box && box[2] > MIN_SIDE * scale() && box[3] > MIN_SIDE * scale()) {
      boxes = [...boxes, box.map(Math.round)];
      onChange(boxes);
    }
    draw();
  });
  canvas.addEventListener("pointercancel", () => {
    drag = null;
    draw();
  });
  image.addEventListener("load", draw);
  new ResizeObserver(draw).observe(element);

  return {
    update(value) {
      if (value.picture) {
        size = value.size;
        image.src = value.picture;
      }
      boxes = value.boxes;
      element.hidden = false;
      draw();
    },
  };
}
