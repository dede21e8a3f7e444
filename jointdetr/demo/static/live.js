// The tab for a camera: the picture with the people's skeletons, the same people in 3D, and what starts and stops it.
import { Camera } from "./camera.js";
import { mountView } from "./view.js";

const COLORS = { left: "#1f77d0", right: "#f07f13", middle: "#6b6b6b" }; // of the 3D view
const START = "Start the camera";
const STOP = "Stop";
const WORDS_MS = 1000; // between two changes of the words, which are read out
const OFF = "The camera is off.";
const WAITING = "Waiting for the camera: allow it if the browser asks.";
const HELP =
  "Your skeleton is drawn on the camera's picture, and moves in 3D. The pictures go to this server, are looked at once, " +
  "and are not kept.";
const READY = "Stand back until you are seen from the hips up, or whole.";

export async function start({ element }, viewerUrl) {
  const place = element.querySelector(".jointdetr-live");
  const address = new URL(place.dataset.address, document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  place.live = new Live(place, await import(viewerUrl), address.href);
}

function make(tag, className, attributes = {}, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

class Live {
  constructor(element, viewer, address) {
    this.skeleton = null;
    this.camera = new Camera(address, {
      onSkeleton: (skeleton) => this.#begin(skeleton),
      onPeople: (frame) => this.#show(frame),
      onStop: (reason) => this.#end(reason),
    });
    this.canvas = make("canvas", "", { role: "img", "aria-label": "The camera's picture with the people's skeletons" });
    this.canvas.hidden = true;
    this.words = make("p", "jointdetr-live-words", { role: "status" }, OFF);
    this.speed = make("p", "jointdetr-live-speed");
    const view = make("div", "jointdetr-view");
    const help = make("p", "", {}, HELP);
    const picture = make("div", "jointdetr-live-picture", {}, this.canvas, help);
    element.replaceChildren(
      make("div", "jointdetr-live-left", {}, this.#makeTools(), picture, this.words, this.speed),
      make("div", "jointdetr-live-right", {}, view),
    );
    this.element = element;
    this.element.classList.add("jointdetr-off");
    this.viewer = mountView(view, viewer, null, { turning: true, live: true });
    this.#stopWhenLeft(element);
  }

  /** What the tests ask. */
  inspect() {
    const { isOn, sent, seen, letGo, rate, latency, onTheirWay } = this.camera;
    return { isOn, sent, seen, letGo, rate, latency, onTheirWay: onTheirWay.length, people: this.people?.length ?? 0 };
  }

  /** Whether the camera is on, or asked for. */
  get isAsked() {
    return this.button.textContent === STOP;
  }

  #makeTools() {
    this.button = make("button", "jointdetr-start", { type: "button" }, START);
    this.button.addEventListener("click", () => (this.isAsked ? this.camera.stop("", true) : this.#start()));
    this.mirror = make("input", "", { type: "checkbox" });
    this.mirror.checked = true;
    this.mirror.addEventListener("change", () => this.#applyMirror());
    this.choice = make("select", "", { "aria-label": "Camera" });
    this.choice.hidden = true;
    this.choice.addEventListener("change", () => this.#start(this.choice.value));
    const mirror = make("label", "", {}, this.mirror, " Mirror");
    return make("div", "jointdetr-tools", { role: "group", "aria-label": "Camera" }, this.button, mirror, this.choice);
  }

  #start(id) {
    this.element.classList.remove("jointdetr-off");
    this.element.scrollIntoView({ block: "start" });
    this.camera.start(id);
    this.button.textContent = STOP;
    this.#say(WAITING);
  }

  async #begin(skeleton) {
    this.skeleton = skeleton;
    this.#say(READY);
    this.mirror.checked = this.camera.isFacing;
    this.#applyMirror();
    const devices = await navigator.mediaDevices.enumerateDevices();
    const cameras = devices.filter((device) => device.kind === "videoinput");
    const used = this.camera.stream?.getVideoTracks()[0].getSettings().deviceId;
    this.choice.hidden = cameras.length < 2;
    this.choice.replaceChildren(...cameras.map(({ deviceId, label }) => new Option(label, deviceId, false, deviceId === used)));
  }

  #end(reason) {
    this.element.classList.add("jointdetr-off");
    this.button.textContent = START;
    this.people = null;
    this.#say(reason || OFF);
    this.speed.textContent = "";
    this.canvas.hidden = true;
    this.viewer.update(null);
  }

  /** Shows a frame and the people in it, who belong together however late they come. */
  #show({ canvas, people, words }) {
    this.people = people;
    if (this.canvas.width !== canvas.width) this.canvas.width = canvas.width;
    if (this.canvas.height !== canvas.height) this.canvas.height = canvas.height;
    const context = this.canvas.getContext("2d");
    context.drawImage(canvas, 0, 0);
    this.canvas.hidden = false;
    for (const person of people) drawPerson(context, this.skeleton, person);
    this.viewer.update(this.#scene());
    const now = performance.now();
    if (now - this.saidAt < WORDS_MS) return;
    this.#say(words);
    const { rate, latency } = this.camera;
    const frames = Math.round(rate);
    const behind = `${(latency / 1000).toFixed(2)} s behind`;
    if (rate) this.speed.textContent = `${frames} ${frames === 1 ? "frame" : "frames"} a second, ${behind}`;
  }

  /** People as the 3D view takes them, as in a mirror if they are seen in one. */
  #scene() {
    const turn = (joint) => joint && (this.mirror.checked ? [-joint[0], joint[1], joint[2]] : joint);
    const people = this.people.map(({ id, joints, detected }) => {
      return { id, joints: [joints.map(turn)], detected: [detected], root: null };
    });
    return { skeleton: this.skeleton, people, times: [0] };
  }

  #applyMirror() {
    this.canvas.classList.toggle("jointdetr-mirrored", this.mirror.checked);
  }

  #say(words) {
    this.saidAt = performance.now();
    if (this.words.textContent !== words) this.words.textContent = words;
  }

  /** Nobody is filmed who does not see it: not on another tab, of this page or of the browser, nor on another page. */
  #stopWhenLeft(element) {
    const stop = () => this.camera.stop("", this.isAsked);
    new ResizeObserver(() => element.clientWidth || stop()).observe(element);
    document.addEventListener("visibilitychange", () => document.hidden && stop());
    window.addEventListener("pagehide", stop);
  }
}

/** Draws bones and joints over a picture; a guessed joint is hollow, and a bone to it is dashed. */
function drawPerson(context, { parents, sides }, { points, detected }) {
  const { width, height } = context.canvas;
  const places = points.map((point) => point && [point[0] * width, point[1] * height]);
  const thick = Math.max(2, Math.max(width, height) / 120);
  const line = (from, to, color, size) => {
    [context.strokeStyle, context.lineWidth] = [color, size];
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
  };
  context.lineCap = "round";
  parents.forEach((parent, child) => {
    if (parent < 0 || !places[parent] || !places[child]) return;
    context.setLineDash(detected[parent] && detected[child] ? [] : [thick, 2 * thick]);
    line(places[parent], places[child], "rgba(255, 255, 255, 0.85)", 1.7 * thick);
    line(places[parent], places[child], COLORS[sides[child]], thick);
  });
  context.setLineDash([]);
  places.forEach((place, joint) => {
    if (!place) return;
    context.beginPath();
    context.arc(...place, 1.1 * thick, 0, 2 * Math.PI);
    context.fillStyle = detected[joint] ? COLORS[sides[joint]] : "white";
    [context.strokeStyle, context.lineWidth] = [detected[joint] ? "white" : COLORS[sides[joint]], thick / 2];
    context.fill();
    context.stroke();
  });
}
