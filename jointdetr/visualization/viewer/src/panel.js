// Everything around the picture: buttons, play bar, legend, names, words instead of a picture.

const STYLE = `
.jd-viewer { --jd-background: #f7f8fa; --jd-text: #20242a; --jd-soft: #5b636e; --jd-line: #cfd5dc;
  --jd-panel: rgba(255, 255, 255, 0.92); --jd-accent: #1f5fa8; --jd-left: #1f77d0; --jd-right: #f07f13;
  --jd-middle: #6b6b6b; box-sizing: border-box; display: flex; flex-direction: column; width: 100%; height: 100%;
  min-height: 20rem; overflow: hidden; border-radius: 8px; background: var(--jd-background); color: var(--jd-text);
  font: 14px/1.35 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; text-align: left; }
.jd-viewer.jd-dark { --jd-background: #14171c; --jd-text: #eceff3; --jd-soft: #aab2bd; --jd-line: #3d444e;
  --jd-panel: rgba(32, 37, 44, 0.92); --jd-accent: #8cc2ff; --jd-left: #5aa9f5; --jd-right: #ffa04d;
  --jd-middle: #b4bac2; }
.jd-viewer *, .jd-viewer *::before { box-sizing: border-box; }
.jd-stage { position: relative; flex: 1 1 0; min-height: 12rem; overflow: hidden; }
.jd-stage canvas { position: absolute; inset: 0; display: block; cursor: grab; outline: none; }
.jd-stage canvas:active { cursor: grabbing; }
.jd-views { position: absolute; top: 8px; right: 8px; display: flex; gap: 4px; }
.jd-viewer button { min-width: 44px; min-height: 36px; margin: 0; padding: 4px 12px; border: 1px solid var(--jd-line);
  border-radius: 6px; background: var(--jd-panel); color: var(--jd-text); font: inherit; cursor: pointer; }
.jd-viewer button:hover { border-color: var(--jd-accent); color: var(--jd-accent); }
.jd-viewer :focus-visible { outline: 2px solid var(--jd-accent); outline-offset: 1px; }
.jd-legend { position: absolute; left: 10px; bottom: 8px; display: flex; flex-wrap: wrap; gap: 2px 12px;
  margin: 0; padding: 0; color: var(--jd-soft); font-size: 12px; list-style: none; pointer-events: none; }
.jd-legend li { display: flex; align-items: center; gap: 5px; margin: 0; padding: 0; }
.jd-legend li::before { content: ""; width: 10px; height: 10px; border-radius: 50%; background: var(--jd-dot); }
.jd-legend li.jd-guess::before { background: transparent; border: 2px solid var(--jd-middle); }
.jd-name, .jd-label { position: absolute; left: 0; top: 0; white-space: nowrap; pointer-events: none; }
.jd-name { padding: 3px 8px; border-radius: 5px; background: var(--jd-text); color: var(--jd-background);
  font-size: 13px; }
.jd-label { color: var(--jd-soft); font-size: 12px; text-shadow: 0 0 3px var(--jd-background), 0 0 3px
  var(--jd-background); }
.jd-words { position: absolute; inset: 0; display: flex; align-items: center; justify-content: center; padding: 16px;
  color: var(--jd-soft); text-align: center; pointer-events: none; }
.jd-play { display: flex; align-items: center; gap: 10px; padding: 8px 10px; border-top: 1px solid var(--jd-line); }
.jd-play input { flex: 1 1 0; min-width: 60px; height: 36px; margin: 0; accent-color: var(--jd-accent); }
.jd-time { flex: none; color: var(--jd-soft); font-variant-numeric: tabular-nums; }
.jd-viewer.jd-flat :is(.jd-views, .jd-legend, .jd-play), .jd-viewer [hidden] { display: none; }
`;

/** An element with a class, attributes and text; text is never taken for HTML. */
function make(tag, className, { text = "", ...attributes } = {}) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function makeLegend() {
  const legend = make("ul", "jd-legend");
  for (const side of ["left", "right", "middle"]) {
    legend.append(make("li", "", { text: side, style: `--jd-dot: var(--jd-${side})` }));
  }
  legend.append(make("li", "jd-guess", { text: "guessed" }));
  return legend;
}

export class Panel {
  /** @param actions what the buttons do: `setView(name)`, `togglePlay()`, `seek(seconds)` */
  constructor(element, actions) {
    this.root = make("div", "jd-viewer");
    this.stage = make("div", "jd-stage");
    this.words = make("div", "jd-words", { role: "status" });
    this.name = make("div", "jd-name");
    this.labels = [];
    this.#makeViews(actions);
    this.#makePlayBar(actions);
    const style = make("style", "", { text: STYLE });
    this.stage.append(this.words, this.views, makeLegend(), this.name);
    this.root.append(style, this.stage, this.playBar);
    this.name.hidden = this.playBar.hidden = true;
    element.replaceChildren(this.root);
  }

  setDark(dark) {
    this.root.classList.toggle("jd-dark", dark);
  }

  /** Words in the middle of the picture; none if empty. */
  say(words) {
    this.words.textContent = words;
    this.words.hidden = !words;
  }

  /** Words in place of everything, for good. */
  giveUp(words) {
    this.root.classList.add("jd-flat");
    this.say(words);
  }

  showTime(clock) {
    this.playBar.hidden = clock.times.length < 2;
    this.slider.max = clock.duration;
    this.slider.value = Math.min(clock.seconds, clock.duration);
    const time = `${Math.min(clock.seconds, clock.duration).toFixed(1)} / ${clock.duration.toFixed(1)} s`;
    this.time.textContent = time;
    this.slider.setAttribute("aria-valuetext", time);
    this.playButton.textContent = clock.playing ? "\u275A\u275A" : "\u25B6\uFE0E";
    this.playButton.setAttribute("aria-label", clock.playing ? "Pause" : "Play");
  }

  /** Shows a joint's name beside a point of the picture, inside the picture; hides it without a text. */
  showName(text, x = 0, y = 0) {
    this.name.hidden = !text;
    this.name.textContent = text;
    const left = Math.min(Math.max(x + 12, 4), this.stage.clientWidth - this.name.offsetWidth - 4);
    const top = Math.min(Math.max(y - 34, 4), this.stage.clientHeight - this.name.offsetHeight - 4);
    this.name.style.transform = `translate(${left}px, ${top}px)`;
  }

  /** Writes a text over each point `{text, x, y}` of the picture. */
  showLabels(labels) {
    while (this.labels.length < labels.length) {
      this.labels.push(make("div", "jd-label"));
      this.stage.insertBefore(this.labels[this.labels.length - 1], this.views);
    }
    this.labels.forEach((element, index) => {
      const label = labels[index];
      element.hidden = !label;
      if (!label) return;
      if (element.textContent !== label.text) element.textContent = label.text;
      element.style.transform = `translate(${label.x}px, ${label.y}px) translate(-50%, -150%)`;
    });
  }

  dispose() {
    this.root.remove();
  }

  #makeViews({ setView }) {
    this.views = make("div", "jd-views", { role: "group", "aria-label": "View" });
    for (const [name, text] of Object.entries({ front: "Front", side: "Side", top: "Top" })) {
      const button = make("button", "", { text, type: "button", "data-view": name });
      button.addEventListener("click", () => setView(name));
      this.views.append(button);
    }
  }

  #makePlayBar({ togglePlay, seek }) {
    this.playBar = make("div", "jd-play");
    this.playButton = make("button", "", { type: "button" });
    this.slider = make("input", "", { type: "range", min: "0", step: "any", "aria-label": "Time" });
    this.time = make("span", "jd-time");
    this.playButton.addEventListener("click", togglePlay);
    this.slider.addEventListener("input", () => seek(this.slider.valueAsNumber));
    this.playBar.append(this.playButton, this.slider, this.time);
  }
}
