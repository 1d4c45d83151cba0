import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { live } from "../call/live.js";
import { change, settings } from "../state/settings.js";
import { calm, lit, narrow, pin, pinned, pointed, replay, session, systemIsDark, timeOfDay } from "../state/view.js";
import { WavePainter, type Picture } from "./wave_painter.js";

const PAINT_EVERY_MS = 30;
/** Where motion is not wanted, and where nothing happens. */
const CALM_EVERY_MS = 250;

/** The waveform stands where a marked turn is, and does not follow the clock. */
const standing = signal(false);

/** The waveform of both sides with the connection's lane, and what happened to that in words. */
export function Wave() {
  return (
    <section class="wave" aria-label="Waveform and connection">
      <WaveCanvas />
      {!narrow.value && (
        <>
          <div class="wave-legend">
            <span class="key you">You</span>
            <span class="key answer">Antiphon</span>
            <span class="key good">Connected</span>
            <span class="key rotation">Rotating</span>
            <span class="key alarm">Lost</span>
            {standing.value && (
              <button type="button" class="quiet small" onClick={() => (pinned.value = undefined)}>
                Back to now
              </button>
            )}
            <label class="window">
              Shows{" "}
              <select
                value={settings.value.windowSeconds}
                onChange={(event) => change({ windowSeconds: Number(event.currentTarget.value) })}
              >
                {[10, 20, 60].map((length) => (
                  <option key={length} value={length}>
                    {length} s
                  </option>
                ))}
              </select>
            </label>
          </div>
          <LinkEvents />
        </>
      )}
    </section>
  );
}

/** Everything that happened to the connection and the answers, the latest first. */
export function LinkEvents() {
  const { marks } = session.value.timeline.value;
  return (
    <div class="link-events" tabIndex={0} role="region" aria-label="What happened to the connection">
      {marks.length ? (
        <ol>
          {marks
            .slice(-100)
            .reverse()
            .map((mark) => (
              <li key={`${mark.at} ${mark.text}`} data-kind={mark.kind}>
                <time>{timeOfDay(mark.at)}</time> {mark.text}
              </li>
            ))}
        </ol>
      ) : (
        <p class="faint">Here stands when the connection was made, lost, resumed or rotated, and when an answer was cut.</p>
      )}
    </div>
  );
}

function WaveCanvas() {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const painter = new WavePainter(canvas.current!);
    let frame = 0;
    let paintedAt = 0;
    let colors = "";
    const step = (now: number) => {
      frame = requestAnimationFrame(step);
      const still = calm.peek() || !(live.active.peek() || replay.peek() || pointed.peek());
      if (now - paintedAt < (still ? CALM_EVERY_MS : PAINT_EVERY_MS)) return;
      const theme = `${settings.peek().theme} ${systemIsDark.peek()}`;
      if (theme !== colors) painter.readColors();
      colors = theme;
      painter.paint(picture());
      paintedAt = now;
    };
    frame = requestAnimationFrame(step);
    return () => cancelAnimationFrame(frame);
  }, []);
  const length = settings.value.windowSeconds;
  return (
    <canvas
      ref={canvas}
      role="img"
      aria-label={`Loudness of both sides over ${length} seconds`}
      onPointerMove={(event) => {
        pointed.value = turnAt(event);
      }}
      onPointerLeave={() => {
        pointed.value = undefined;
      }}
      onClick={(event) => {
        const id = turnAt(event);
        if (id) pin(id);
      }}
    />
  );
}

function picture(): Picture {
  const shown = session.peek();
  const span = settings.peek().windowSeconds * 1000;
  const now = present();
  const end = edge(span, now);
  standing.value = end !== now;
  return {
    levels: shown.levels,
    timeline: shown.timeline.peek(),
    end,
    span,
    label: (at) => (end !== now || replay.peek() ? timeOfDay(at) : `−${Math.round((end - at) / 1000)} s`),
    lit: lit.peek(),
    calm: calm.peek(),
  };
}

let stoodAt = 0;

/** Where the clock is: now, or where the replay is, or where the last call ended. */
function present(): number {
  if (live.active.peek() || !stoodAt) stoodAt = performance.now();
  return replay.peek()?.position.peek() ?? stoodAt;
}

/** The moment at the right edge: the present, or later than a marked turn that could not be seen else. */
function edge(span: number, now: number): number {
  const marked = pinned.peek();
  const voices = marked ? session.peek().timeline.peek().voices.filter(({ id }) => id && lit.peek().has(id)) : [];
  const from = Math.min(...voices.map((voice) => voice.from));
  if (!voices.length || from > now - span) return now;
  return Math.min(now, from + span * 0.9);
}

/** The utterance or response that is drawn where the pointer is. */
function turnAt(event: PointerEvent | MouseEvent): string | undefined {
  const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
  const span = settings.peek().windowSeconds * 1000;
  const at = edge(span, present()) - span * (1 - (event.clientX - box.left) / box.width);
  const { voices } = session.peek().timeline.peek();
  return voices.findLast((voice) => voice.id && voice.from <= at && at <= (voice.to ?? Infinity))?.id;
}
