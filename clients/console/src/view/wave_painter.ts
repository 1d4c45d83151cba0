import type { LevelHistory } from "../state/levels.js";
import type { LinkState, Mark, Timeline } from "../state/timeline.js";

export interface Picture {
  levels: LevelHistory;
  timeline: Timeline;
  /** The moment at the right edge, and how much time there is to its left, in milliseconds. */
  end: number;
  span: number;
  lit: ReadonlySet<string>;
  /** What the scale says of a moment: how long ago it is, or when it was. */
  label(at: number): string;
  /** Meters in place of a moving wave. */
  calm: boolean;
}

const BAR = { width: 3, pitch: 5 };
const LANE_HEIGHT = 12;
const SCALE_HEIGHT = 16;
const LABEL_HEIGHT = 14;

/** Draws both voices, and under them on the same clock how the connection stood. */
export class WavePainter {
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  #colors: Record<string, string> = {};

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d")!;
    this.readColors();
  }

  /** Reads the colours of the theme; again when that changes. */
  readColors(): void {
    const style = getComputedStyle(this.#canvas);
    const names = ["you", "answer", "line", "edge", "faint", "ink", "alarm", "good", "rotation", "lit", "paper"];
    for (const name of names) this.#colors[name] = style.getPropertyValue(`--${name}`).trim();
    this.#colors["font"] = style.fontFamily;
  }

  paint(picture: Picture): void {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    if (!width || !height) return;
    const scale = window.devicePixelRatio;
    if (this.#canvas.width !== Math.round(width * scale)) this.#canvas.width = Math.round(width * scale);
    if (this.#canvas.height !== Math.round(height * scale)) this.#canvas.height = Math.round(height * scale);
    const context = this.#context;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    const wave = height - LANE_HEIGHT - SCALE_HEIGHT;
    this.#drawLit(picture, width, wave);
    if (picture.calm) this.#drawMeters(picture, width, wave);
    else this.#drawWave(picture, width, wave);
    this.#drawLane(picture, width, wave);
    this.#drawMarks(picture, width, wave);
    this.#drawScale(picture, width, height);
  }

  #drawLit({ timeline, lit, end, span }: Picture, width: number, height: number): void {
    if (!lit.size) return;
    this.#context.fillStyle = this.#colors["lit"]!;
    for (const voice of timeline.voices) {
      if (!voice.id || !lit.has(voice.id)) continue;
      const from = place(voice.from, end, span, width);
      const to = place(voice.to ?? end, end, span, width);
      if (to > 0 && from < width) this.#context.fillRect(from, 0, Math.max(2, to - from), height + LANE_HEIGHT);
    }
  }

  #drawWave({ levels, end, span }: Picture, width: number, height: number): void {
    const context = this.#context;
    const middle = height / 2;
    const binMs = (span * BAR.pitch) / width;
    const bins = new Map<number, [input: number, output: number]>();
    levels.between(end - span, end, (at, input, output) => {
      const bin = Math.floor(at / binMs);
      const [most, mostOut] = bins.get(bin) ?? [0, 0];
      bins.set(bin, [Math.max(most, input), Math.max(mostOut, output)]);
    });
    context.fillStyle = this.#colors["line"]!;
    context.fillRect(0, middle - 0.5, width, 1);
    for (const [bin, [input, output]] of bins) {
      const x = place((bin + 0.5) * binMs, end, span, width) - BAR.width / 2;
      this.#drawBar(x, middle, input, middle - LABEL_HEIGHT, this.#colors["you"]!, -1);
      this.#drawBar(x, middle, output, middle - 4, this.#colors["answer"]!, 1);
    }
  }

  /** What the microphone hears rises from the middle line, what the loudspeaker says hangs from it. */
  #drawBar(x: number, middle: number, level: number, room: number, color: string, way: 1 | -1): void {
    if (!level) return;
    const length = BAR.width + level * (room - BAR.width);
    this.#context.fillStyle = color;
    this.#context.beginPath();
    this.#context.roundRect(x, way < 0 ? middle - 1.5 - length : middle + 1.5, BAR.width, length, BAR.width / 2);
    this.#context.fill();
  }

  /** The latest levels as two meters that fill from the left. */
  #drawMeters({ levels, end }: Picture, width: number, height: number): void {
    let [input, output] = [0, 0];
    levels.between(end - 300, end, (_at, nowIn, nowOut) => {
      input = Math.max(input, nowIn);
      output = Math.max(output, nowOut);
    });
    const context = this.#context;
    for (const [row, level, color] of [
      [0, input, "you"],
      [1, output, "answer"],
    ] as const) {
      const y = LABEL_HEIGHT + 6 + (row * (height - LABEL_HEIGHT)) / 2;
      context.fillStyle = this.#colors["line"]!;
      context.fillRect(0, y, width, 6);
      context.fillStyle = this.#colors[color]!;
      context.fillRect(0, y, level * width, 6);
    }
  }

  #drawLane({ timeline, end, span }: Picture, width: number, top: number): void {
    const context = this.#context;
    context.fillStyle = this.#colors["line"]!;
    context.fillRect(0, top + LANE_HEIGHT / 2 - 0.5, width, 1);
    for (const { state, from, to } of timeline.link) {
      const left = Math.max(-4, place(from, end, span, width));
      const right = Math.min(width + 4, place(to ?? end, end, span, width));
      if (right < 0 || left > width) continue;
      this.#drawLink(state, left, Math.max(2, right - left), top + 3);
    }
  }

  #drawLink(state: LinkState, x: number, width: number, y: number): void {
    const context = this.#context;
    const height = LANE_HEIGHT - 6;
    context.fillStyle = context.strokeStyle = this.#colors[LINK_COLORS[state]]!;
    if (state === "connected") {
      context.fillRect(x, y, width, height);
      return;
    }
    // Not by colour alone: what does not stand is an outline, dashed where it is lost.
    context.lineWidth = 1.5;
    context.setLineDash(state === "reconnecting" ? [4, 3] : []);
    context.strokeRect(x + 0.75, y, Math.max(0, width - 1.5), height);
    context.setLineDash([]);
    if (state === "rotating") {
      context.globalAlpha = 0.35;
      context.fillRect(x, y, width, height);
      context.globalAlpha = 1;
    }
  }

  #drawMarks({ timeline, end, span }: Picture, width: number, height: number): void {
    const context = this.#context;
    context.font = `11px ${this.#colors["font"]}`;
    context.textBaseline = "top";
    let free = width + 200; // where the label to the right begins: none is written over another
    for (let index = timeline.marks.length - 1; index >= 0; index--) {
      const mark = timeline.marks[index]!;
      const x = place(mark.at, end, span, width);
      if (x > width) continue;
      if (x < -100) break;
      this.#drawMark(mark, x, height);
      const length = context.measureText(mark.label).width;
      const fits = x + 4 + length < Math.min(free, width);
      const left = fits ? x + 4 : x - 4 - length;
      if (left + length > free || left < -length) continue;
      context.fillStyle = this.#colors[MARK_COLORS[mark.kind]]!;
      context.fillText(mark.label, left, 1);
      free = Math.min(left, x) - 4;
    }
  }

  #drawMark({ kind }: Mark, x: number, height: number): void {
    const context = this.#context;
    context.strokeStyle = this.#colors[MARK_COLORS[kind]]!;
    context.lineWidth = kind === "barge" ? 2 : 1;
    context.setLineDash(kind === "barge" ? [] : [2, 3]);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, height + LANE_HEIGHT);
    context.stroke();
    context.setLineDash([]);
  }

  #drawScale({ end, span, label }: Picture, width: number, height: number): void {
    const context = this.#context;
    const step = span > 30_000 ? 10_000 : span > 12_000 ? 5000 : 2000;
    context.font = `11px ${this.#colors["font"]}`;
    context.textBaseline = "bottom";
    context.fillStyle = this.#colors["faint"]!;
    for (let back = step; back < span; back += step) {
      const x = place(end - back, end, span, width);
      const text = label(end - back);
      context.fillText(text, x - context.measureText(text).width / 2, height);
    }
  }
}

const LINK_COLORS: Record<LinkState, string> = {
  connecting: "edge",
  connected: "good",
  reconnecting: "alarm",
  rotating: "rotation",
};

const MARK_COLORS: Record<Mark["kind"], string> = {
  link: "faint",
  good: "good",
  bad: "alarm",
  rotation: "rotation",
  barge: "answer",
};

/** Where a moment is, in pixels from the left. */
export function place(at: number, end: number, span: number, width: number): number {
  return width * (1 - (end - at) / span);
}
