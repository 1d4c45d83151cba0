import { SPEEDS, type ReplayPlayer } from "../replay/player.js";
import { replay, timeOfDay } from "../state/view.js";

/** Says that this is a replay, and lets one go through it. */
export function ReplayBar({ player }: { player: ReplayPlayer }) {
  const { recording, name, position, playing, speed } = player;
  const { from, to, header } = recording;
  return (
    <section class="replay" aria-label="Replay">
      <p>
        <strong>Replay</strong> of “{name}”, saved {new Date(header.savedAt).toLocaleString()}
        {header.forgotten > 0 && `; its first ${header.forgotten} events were not kept`}. It has no sound.
      </p>
      <div class="toolbar">
        <button type="button" onClick={() => (playing.value ? player.pause() : player.play())}>
          {playing.value ? "Pause" : "Play"}
        </button>
        <input
          type="range"
          aria-label="Where it is"
          aria-valuetext={timeOfDay(position.value)}
          min={from}
          max={to}
          step={100}
          value={position.value}
          onInput={(event) => player.seek(Number(event.currentTarget.value))}
        />
        <time>{timeOfDay(position.value)}</time>
        <label>
          <span class="unseen">Speed</span>
          <select value={speed.value} onChange={(event) => (speed.value = Number(event.currentTarget.value))}>
            {SPEEDS.map((times) => (
              <option key={times} value={times}>
                {times}×
              </option>
            ))}
          </select>
        </label>
        <button type="button" class="whole" onClick={() => player.seek(to)}>
          Show all
        </button>
        <button
          type="button"
          class="primary"
          onClick={() => {
            player.pause();
            replay.value = undefined;
          }}
        >
          Close replay
        </button>
      </div>
    </section>
  );
}
