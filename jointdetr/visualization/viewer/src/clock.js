// Time through the film: which frame is due, playing in a loop or standing still.

export class Clock {
  constructor() {
    this.setTimes([0]);
    this.playing = false;
  }

  /** Takes the frames' times in seconds; stays at the present time where it can. */
  setTimes(times) {
    this.times = times.length ? times : [0];
    const step = this.times.length > 1 ? this.duration / (this.times.length - 1) : 0;
    this.loopLength = this.duration + step; // the last frame is shown as long as the others
    this.seek(this.seconds ?? 0);
    this.lastTick = null;
  }

  /** Seconds from the first frame to the last one. */
  get duration() {
    return this.times[this.times.length - 1] - this.times[0];
  }

  get frame() {
    const now = this.times[0] + this.seconds + 1e-6;
    let [low, high] = [0, this.times.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.times[middle] <= now) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  seek(seconds) {
    this.seconds = Math.min(Math.max(Number(seconds) || 0, 0), this.duration);
  }

  play() {
    this.playing = this.times.length > 1;
    this.lastTick = null;
  }

  pause() {
    this.playing = false;
  }

  /** Moves on to a time of the screen in milliseconds. */
  tick(now) {
    if (!this.playing) return;
    const passed = this.lastTick === null ? 0 : (now - this.lastTick) / 1000;
    this.lastTick = now;
    this.seconds = (this.seconds + passed) % this.loopLength;
  }
}
