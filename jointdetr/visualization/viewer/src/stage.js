// The renderer, the camera that turns under the mouse, light and ground. Draws only when something has changed.
import * as THREE from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";

const FIELD_OF_VIEW = 35; // degrees, vertical
const MARGIN = 1.12; // room around the people
const BUTTONS = 52; // px at the top of the picture, which no head is to be under
const LEGEND = 28; // px at its bottom
const MIN_RADIUS = 0.6; // metres
const NEARLY_TOP = 0.001; // radians; exactly from above the camera would not know its up
const TURN_SPEED = 1.5; // a turn in 40 seconds
const KEY_STEP = 0.12; // radians, and the part of the distance
const KEYS = {
  ArrowLeft: { azimuth: -KEY_STEP },
  ArrowRight: { azimuth: KEY_STEP },
  ArrowUp: { polar: -KEY_STEP },
  ArrowDown: { polar: KEY_STEP },
  "+": { nearer: 1 - KEY_STEP },
  "-": { nearer: 1 + KEY_STEP },
};
const SIMILAR = 1.25; // new people up to this much larger or smaller leave the camera's distance alone
const VIEWS = {
  start: { azimuth: 0.5, polar: 1.35 },
  front: { azimuth: 0, polar: Math.PI / 2 },
  side: { azimuth: Math.PI / 2, polar: Math.PI / 2 },
  top: { azimuth: 0, polar: NEARLY_TOP },
};

export class Stage {
  /**
   * @param element where the canvas goes; it has a size by its own style
   * @param beforeDraw called with the time in milliseconds before every picture; returns true to ask for another one
   */
  constructor(element, beforeDraw) {
    this.element = element;
    this.beforeDraw = beforeDraw;
    this.picturesDrawn = 0;
    this.radius = 0;
    this.free = 1; // part of the picture's height between buttons and legend
    this.request = null;
    this.renderer = new THREE.WebGLRenderer({ antialias: true, alpha: true, preserveDrawingBuffer: true });
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    this.camera = new THREE.PerspectiveCamera(FIELD_OF_VIEW, 1, 0.05, 500);
    this.scene = new THREE.Scene();
    this.#addLight();
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "People in 3D: drag or arrow keys turn them, + and - come closer");
    this.canvas.tabIndex = 0;
    this.canvas.addEventListener("keydown", (event) => this.#onKey(event));
    element.append(this.canvas);
    this.controls = new OrbitControls(this.camera, this.canvas);
    this.controls.enableDamping = true;
    this.controls.autoRotateSpeed = TURN_SPEED;
    this.controls.addEventListener("change", () => this.draw());
    for (const name of ["pointerdown", "wheel"]) {
      this.canvas.addEventListener(name, () => this.turn(false), { passive: true });
    }
    this.resizeObserver = new ResizeObserver(() => this.#resize());
    this.resizeObserver.observe(element);
  }

  get canvas() {
    return this.renderer.domElement;
  }

  /** Asks for a new picture with the next refresh of the screen. */
  draw() {
    this.request ??= requestAnimationFrame((now) => this.#drawNow(now));
  }

  /** Lays the grid and aims the camera at people of this size who stand on the ground around the origin. */
  fit(size) {
    const radius = Math.max(Math.hypot(size.x, size.y, size.z) / 2, MIN_RADIUS);
    const first = this.radius === 0;
    const similar = !first && radius / this.radius < SIMILAR && this.radius / radius < SIMILAR;
    this.size = size;
    this.#moveTarget(new THREE.Vector3(0, size.y / 2, 0));
    if (similar) return;
    this.radius = radius;
    this.controls.minDistance = radius * 0.3;
    this.controls.maxDistance = radius * 12;
    this.#aim(first ? VIEWS.start : null);
  }

  /** Looks from "front" (where the photographer stood), "side" or "top". */
  setView(name) {
    if (!(name in VIEWS)) throw new Error(`a view is one of ${Object.keys(VIEWS).join(", ")}, got ${name}`);
    this.turn(false);
    this.#aim(VIEWS[name]);
  }

  /** Lets the people turn slowly by themselves, until somebody turns them or asks for a view. */
  turn(turning) {
    this.controls.autoRotate = turning;
    this.draw();
  }

  setGrid(palette) {
    const reach = Math.max(this.size?.x ?? 0, this.size?.z ?? 0, 1.5);
    const metres = 2 * Math.ceil(reach * 0.75 + 0.5);
    if (this.grid?.name === `${metres} ${palette.grid}`) return;
    this.grid?.removeFromParent();
    this.grid?.dispose();
    const step = metres > 40 ? 1 : 2; // lines a metre
    this.grid = new THREE.GridHelper(metres, metres * step, palette.gridMain, palette.grid);
    this.grid.name = `${metres} ${palette.grid}`;
    this.scene.add(this.grid);
  }

  /** Pixels from the canvas's top left corner, for a point of the scene that the camera sees. */
  project(point) {
    const seen = point.clone().project(this.camera);
    const { clientWidth, clientHeight } = this.canvas;
    return { x: ((seen.x + 1) / 2) * clientWidth, y: ((1 - seen.y) / 2) * clientHeight, depth: seen.z };
  }

  dispose() {
    cancelAnimationFrame(this.request);
    this.resizeObserver.disconnect();
    this.controls.dispose();
    this.grid?.dispose();
    this.renderer.dispose();
    this.canvas.remove();
  }

  #addLight() {
    const sun = new THREE.DirectionalLight(0xffffff, 1.4);
    sun.position.set(2, 4, 3);
    this.scene.add(new THREE.HemisphereLight(0xffffff, 0x8a8f99, 2.2), sun);
  }

  #moveTarget(target) {
    this.camera.position.add(target.clone().sub(this.controls.target));
    this.controls.target.copy(target);
    this.controls.update();
    this.draw();
  }

  /** Stands off as far as everybody needs, in the direction of a view or in the present one. */
  #aim(view) {
    this.#stopTurning();
    const direction = new THREE.Spherical().setFromVector3(this.camera.position.clone().sub(this.controls.target));
    if (view) [direction.theta, direction.phi] = [view.azimuth, view.polar];
    direction.radius = this.#distance(view === VIEWS.top);
    this.camera.position.setFromSpherical(direction).add(this.controls.target);
    this.controls.update();
    this.draw();
  }

  /** Ends what is left of a turn after the mouse let go. */
  #stopTurning() {
    this.controls.enableDamping = false;
    this.controls.update();
    this.controls.enableDamping = true;
  }

  /** From where everybody fits into the picture, from above or from whatever side. */
  #distance(fromAbove) {
    const { x, y, z } = this.size ?? { x: 0, y: 0, z: 0 };
    const around = Math.max(Math.hypot(x, z), MIN_RADIUS) / 2; // half the width from the worst side, and the depth
    const upright = Math.max(y / 2, MIN_RADIUS);
    const [width, height, depth] = fromAbove ? [around, around, upright] : [around, upright, around];
    const slope = Math.tan(THREE.MathUtils.degToRad(FIELD_OF_VIEW) / 2);
    return (depth + Math.max(width / (slope * this.camera.aspect), height / (slope * this.free))) * MARGIN;
  }

  #resize() {
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return; // hidden, as in a tab that is closed
    const before = this.#distance(false);
    this.renderer.setSize(width, height);
    this.camera.aspect = width / height;
    this.free = Math.max(1 - (BUTTONS + LEGEND) / height, 0.5);
    this.camera.setViewOffset(width, height, 0, (LEGEND - BUTTONS) / 2, width, height);
    this.#standOff(this.#distance(false) / before);
    this.#drawNow(performance.now()); // at once: a canvas is empty after a change of size
  }

  #onKey(event) {
    const key = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key];
    if (!key) return;
    event.preventDefault();
    this.turn(false);
    const direction = new THREE.Spherical().setFromVector3(this.camera.position.clone().sub(this.controls.target));
    direction.theta += key.azimuth ?? 0;
    direction.phi += key.polar ?? 0;
    direction.radius *= key.nearer ?? 1;
    direction.makeSafe();
    this.camera.position.setFromSpherical(direction).add(this.controls.target);
    this.controls.update();
    this.draw();
  }

  /** Changes the distance to the people by a factor. */
  #standOff(factor) {
    this.camera.position.sub(this.controls.target).multiplyScalar(factor).add(this.controls.target);
  }

  #drawNow(now) {
    cancelAnimationFrame(this.request);
    this.request = null;
    const more = this.beforeDraw(now);
    const moving = this.controls.update((now - (this.drawnAt ?? now)) / 1000);
    this.drawnAt = now;
    this.renderer.render(this.scene, this.camera);
    this.picturesDrawn += 1;
    // two pictures of one moment have not moved, and would end the turning
    if (more || moving || this.controls.autoRotate) this.draw();
  }
}
