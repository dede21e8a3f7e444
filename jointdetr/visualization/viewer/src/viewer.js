// A viewer for people's 3D poses, still or through time: `mount` puts it into an element of a page.
import { Clock } from "./clock.js";
import { Figures } from "./figures.js";
import { Panel } from "./panel.js";
import { isDark, onThemeChange, paletteOf } from "./palette.js";
import { placePeople } from "./placement.js";
import { Stage } from "./stage.js";

const REACH = 18; // pixels from the pointer within which a joint tells its name
const LABEL = { width: 62, height: 16 }; // pixels
const NO_WEBGL = "This browser cannot draw in 3D: WebGL is off or missing.";
const NOBODY = { skeleton: { joints: [], parents: [], root: 0 }, people: [], times: [0] };

/**
 * Shows people in 3D.
 * @param element fills it; give it a height
 * @param data `{skeleton: {joints, parents, root, sides?}, people: [{id, joints: [frames][J][3], detected: [frames][J],
 *   root: [frames][3] | null}], times: [frames]}`: millimetres in camera axes, null where missing, seconds; or null
 * @param options `theme`: "auto" (default), "light" or "dark"; `autoplay`: true (default) to play films at once,
 *   `turning`: true to turn people slowly until a visitor does; neither for whom wants no motion; `live`: true for
 *   data of one frame that are updated as it happens, people without a place (`root` null) staying where they stand
 * @returns {{update, setView, setTheme, play, pause, seek, inspect, dispose}} `inspect()` tells the state, for tests
 */
export function mount(element, data = null, options = {}) {
  return new Viewer(element, data, options).handle();
}

class Viewer {
  constructor(element, data, { theme = "auto", autoplay = true, turning = false, live = false } = {}) {
    this.theme = theme;
    this.live = live;
    this.clock = new Clock();
    this.panel = new Panel(element, {
      setView: (name) => this.setView(name),
      togglePlay: () => (this.clock.playing ? this.pause() : this.play()),
      seek: (seconds) => this.seek(seconds),
    });
    this.stage = this.#makeStage();
    this.endThemeWatch = onThemeChange(() => this.#applyTheme());
    this.#watchPointer();
    this.update(data);
    this.#applyTheme();
    if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    if (autoplay) this.play();
    if (turning) this.stage?.turn(true);
  }

  handle() {
    const names = ["update", "setView", "setTheme", "play", "pause", "seek", "inspect", "dispose"];
    return Object.fromEntries(names.map((name) => [name, (...values) => this[name](...values)]));
  }

  /** Shows other data; the view stays, and so does the time where it can. */
  update(data) {
    this.data = data ?? NOBODY;
    this.clock.setTimes(this.data.times);
    this.panel.showTime(this.clock);
    if (!this.stage) return;
    this.panel.say(data && !this.data.people.length ? "Nobody was found." : "");
    const { people, size } = placePeople(this.data, this.live);
    if (!this.figures?.take(this.data, people)) {
      this.figures?.dispose();
      this.figures = new Figures(this.data, people);
      this.stage.scene.add(this.figures.group);
    }
    this.stage.fit(size);
    this.#applyTheme();
  }

  setView(name) {
    this.stage?.setView(name);
  }

  setTheme(theme) {
    this.theme = theme;
    this.#applyTheme();
  }

  play() {
    this.clock.play();
    this.#timeChanged();
  }

  pause() {
    this.clock.pause();
    this.#timeChanged();
  }

  /** Goes to a time, in seconds from the first frame, and stays there. */
  seek(seconds) {
    this.clock.pause();
    this.clock.seek(seconds);
    this.#timeChanged();
  }

  inspect() {
    return {
      webgl: Boolean(this.stage),
      people: this.data.people.length,
      frame: this.clock.frame,
      seconds: this.clock.seconds,
      playing: this.clock.playing,
      azimuth: this.stage?.controls.getAzimuthalAngle() ?? 0,
      polar: this.stage?.controls.getPolarAngle() ?? 0,
      turning: this.stage?.controls.autoRotate ?? false,
      picturesDrawn: this.stage?.picturesDrawn ?? 0,
    };
  }

  dispose() {
    this.endThemeWatch();
    this.figures?.dispose();
    this.stage?.dispose();
    this.panel.dispose();
  }

  #makeStage() {
    let stage = null;
    try {
      stage = new Stage(this.panel.stage, (now) => this.#beforeDraw(now));
    } catch (error) {
      console.warn(error);
      this.panel.giveUp(NO_WEBGL);
      return null;
    }
    stage.canvas.addEventListener("webglcontextlost", () => this.panel.say("The graphics card was taken away."));
    stage.canvas.addEventListener("webglcontextrestored", () => {
      this.panel.say("");
      stage.draw();
    });
    this.panel.stage.prepend(stage.canvas);
    return stage;
  }

  #applyTheme() {
    this.panel.setDark(isDark(this.theme));
    this.stage?.setGrid(paletteOf(this.theme));
    this.#showFrame();
    this.stage?.draw();
  }

  #timeChanged() {
    this.panel.showTime(this.clock);
    this.#showFrame();
    this.stage?.draw();
  }

  #showFrame() {
    this.figures?.show(this.clock.frame, paletteOf(this.theme));
  }

  /** Brings people, labels and play bar to the time of the picture that is about to be drawn. */
  #beforeDraw(now) {
    if (!this.figures) return false;
    this.clock.tick(now);
    if (this.clock.frame !== this.figures.frame) this.#showFrame();
    if (this.clock.playing) this.panel.showTime(this.clock);
    this.panel.showLabels(this.data.people.length > 1 ? this.#labels() : []);
    return this.clock.playing;
  }

  /** Who is who, over the heads; of labels that would cover each other the nearer person's is kept. */
  #labels() {
    const labels = this.data.people.flatMap((person, index) => {
      const points = this.#points(index);
      if (!points.length) return [];
      const top = points.reduce((highest, point) => (point.y < highest.y ? point : highest));
      return [{ text: `person ${person.id}`, ...top }];
    });
    labels.sort((first, second) => first.depth - second.depth);
    const isFree = (label, others) =>
      others.every((other) => Math.abs(other.x - label.x) > LABEL.width || Math.abs(other.y - label.y) > LABEL.height);
    return labels.reduce((kept, label) => (isFree(label, kept) ? [...kept, label] : kept), []);
  }

  /** Where the joints of a person are in the picture: `{person, joint, x, y, depth}`. */
  #points(person) {
    return this.data.skeleton.joints.flatMap((_, joint) => {
      const position = this.figures.position(person, joint);
      return position ? [{ person, joint, ...this.stage.project(position) }] : [];
    });
  }

  #watchPointer() {
    if (!this.stage) return;
    const { canvas } = this.stage;
    const tell = (event) => this.#tellName(event.offsetX, event.offsetY);
    canvas.addEventListener("pointermove", tell);
    canvas.addEventListener("pointerdown", tell);
    canvas.addEventListener("pointerleave", () => this.panel.showName(""));
  }

  #tellName(x, y) {
    const points = this.data.people.flatMap((_, person) => this.#points(person));
    const near = points
      .map((point) => ({ ...point, distance: Math.hypot(point.x - x, point.y - y) }))
      .filter((point) => point.distance < REACH)
      .sort((first, second) => first.distance - second.distance || first.depth - second.depth)[0];
    this.panel.showName(near ? this.#nameOf(near) : "", near?.x, near?.y);
  }

  #nameOf({ person, joint }) {
    const name = this.data.skeleton.joints[joint].replaceAll("_", " ");
    const whose = this.data.people.length > 1 ? `person ${this.data.people[person].id}: ` : "";
    return `${whose}${name}${this.figures.isSeen(person, joint) ? "" : " (guessed)"}`;
  }
}
