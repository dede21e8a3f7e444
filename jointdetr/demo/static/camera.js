// A visitor's camera, and the server that looks at it. Frames go one after another and few are on their way at a time:
// what the camera shows meanwhile is let go, so that nothing queues up and what is seen is never old.

const MOST_ON_THEIR_WAY = 2; // one is looked at while the next one travels, if that takes as long
const WANTED = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };
const LONGEST_SIDE = 640; // px of a frame
const QUALITY = 0.8;
const RATE_MS = 2000; // over which frames a second are counted
const REFUSALS = {
  NotAllowedError: "The camera was not allowed: allow it in the browser's address bar, then start again.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is in use by another program.",
};
const NO_CAMERA = "This browser gives the camera only to pages by https, or from this machine.";
const LOST = "The connection to the server was lost.";

export class Camera {
  /**
   * @param address of the server's WebSocket
   * @param onSkeleton called with the server's skeleton when it is ready
   * @param onPeople called with `{canvas, people, words}` for each frame that was looked at, in their order
   * @param onStop called with the reason, empty if it was asked for, when the camera is released
   */
  constructor(address, { onSkeleton, onPeople, onStop }) {
    Object.assign(this, { address, onSkeleton, onPeople, onStop });
    this.video = document.createElement("video");
    Object.assign(this.video, { muted: true, playsInline: true });
    this.canvases = Array.from({ length: MOST_ON_THEIR_WAY + 1 }, () => document.createElement("canvas"));
    this.stream = this.socket = null;
    this.attempt = 0;
    this.clear();
  }

  clear() {
    this.onTheirWay = []; // {time, canvas}, the oldest first
    this.isEncoding = false;
    this.answered = []; // when the answers of the last seconds came
    this.sent = this.seen = this.letGo = 0;
    this.latency = 0; // ms from a picture to its people
    this.looking = 0; // ms of them at the server
  }

  get isOn() {
    return this.stream !== null;
  }

  /** Frames a second that were looked at. */
  get rate() {
    const { length } = this.answered;
    return length < 2 ? 0 : (1000 * (length - 1)) / (this.answered[length - 1] - this.answered[0]);
  }

  /** A frame that came while another one is looked at would only wait. */
  get mayBeOnTheirWay() {
    return this.latency > 2.2 * this.looking ? MOST_ON_THEIR_WAY : 1;
  }

  /** Whether the camera looks at whoever holds the screen, as far as is known. */
  get isFacing() {
    return this.stream?.getVideoTracks()[0].getSettings().facingMode !== "environment";
  }

  /** Asks for the camera, or another one by its id, and has its frames looked at. */
  async start(id = "") {
    this.stop();
    const attempt = ++this.attempt;
    try {
      if (!navigator.mediaDevices) throw new Error(NO_CAMERA);
      const which = id ? { deviceId: { exact: id } } : { facingMode: "user" };
      const stream = await navigator.mediaDevices.getUserMedia({ video: { ...WANTED, ...which }, audio: false });
      if (attempt !== this.attempt) return release(stream); // stopped while the visitor was asked
      this.stream = this.video.srcObject = stream;
      stream.getVideoTracks()[0].addEventListener("ended", () => this.stop("The camera was taken away."));
      await this.video.play();
      if (attempt === this.attempt) this.#connect();
    } catch (error) {
      if (attempt === this.attempt) this.stop(REFUSALS[error.name] ?? error.message, true);
    }
  }

  /** Releases the camera and leaves the server. */
  stop(reason = "", isNews = this.isOn) {
    this.attempt += 1;
    if (this.stream) release(this.stream);
    const { socket } = this;
    this.stream = this.socket = this.video.srcObject = null;
    socket?.close();
    this.clear();
    if (isNews) this.onStop(reason);
  }

  #connect() {
    const socket = new WebSocket(this.address);
    socket.addEventListener("message", ({ data }) => socket === this.socket && this.#hear(JSON.parse(data)));
    socket.addEventListener("close", () => socket === this.socket && this.stop(LOST));
    this.socket = socket;
  }

  #hear(answer) {
    if (answer.error) this.stop(answer.error);
    else if (answer.skeleton) {
      this.onSkeleton(answer.skeleton);
      this.#nextFrame();
    } else this.#show(answer);
  }

  #show({ people, words, seconds }) {
    const { time, canvas } = this.onTheirWay.shift();
    const now = performance.now();
    [this.latency, this.looking] = [now - time, 1000 * seconds];
    this.answered = [...this.answered.filter((then) => now - then < RATE_MS), now];
    this.seen += 1;
    this.onPeople({ canvas, people, words });
  }

  /** Waits for the camera's next picture. */
  #nextFrame() {
    const { attempt } = this;
    const look = () => {
      if (attempt !== this.attempt) return;
      this.#nextFrame();
      if (this.isEncoding || this.onTheirWay.length >= this.mayBeOnTheirWay) this.letGo += 1;
      else this.#send();
    };
    if (this.video.requestVideoFrameCallback) this.video.requestVideoFrameCallback(look);
    else requestAnimationFrame(look);
  }

  async #send() {
    const { video, attempt } = this;
    const time = performance.now();
    const canvas = this.canvases[this.sent % this.canvases.length];
    const scale = Math.min(1, LONGEST_SIDE / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    this.sent += 1;
    this.isEncoding = true;
    const jpeg = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
    if (attempt !== this.attempt) return;
    this.isEncoding = false;
    this.onTheirWay.push({ time, canvas });
    this.socket.send(new Blob([new Float64Array([time / 1000]), jpeg]));
  }
}

function release(stream) {
  for (const track of stream.getTracks()) track.stop();
}
