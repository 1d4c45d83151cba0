import { useRef } from "preact/hooks";
import { live } from "../call/live.js";
import { msOf, PARTS, partsOf, percentile, scaleEnd, type MeasuredTurn } from "../state/metrics.js";
import { lit, narrow, pin, pointing, replay, session } from "../state/view.js";
import { LinkEvents } from "./wave.js";

/** Where the time of each turn went. */
export function Latency() {
  const turns = session.value.turns.value;
  const base = !replay.value && live.active.value && live.begunWith.value?.base;
  return (
    <>
      <Clock />
      {turns.length ? (
        <>
          <Plot turns={turns} />
          <Legend />
          <Waterfall turns={turns} />
        </>
      ) : (
        <p class="empty">
          {base && "A base session tells too little to take its turns apart: switch “Base messages only” off under Setup. "}
          After the first answer each turn is taken apart here: from the end of your speech to the first sample at the
          loudspeaker, in bars that sum to what was measured.
        </p>
      )}
      <Usage />
      {narrow.value && (
        <>
          <h2>Connection</h2>
          <LinkEvents />
        </>
      )}
    </>
  );
}

function Clock() {
  const totals = session.value.turns.value.map(({ metrics }) => metrics.totalMs);
  const measured = replay.value ? replay.value.recording.header.clock : live.clock.value;
  const clock = measured?.rttMs ? measured : undefined;
  const median = percentile(totals, 0.5);
  const high = percentile(totals, 0.95);
  return (
    <dl class="figures">
      <Figure name="Median" value={median === undefined ? "–" : `${Math.round(median)} ms`} />
      <Figure name="95th percentile" value={high === undefined ? "–" : `${Math.round(high)} ms`} />
      <Figure name="Turns" value={String(totals.length)} />
      <Figure name="Round trip" value={clock ? `${clock.rttMs.toFixed(1)} ms` : "–"} />
      <Figure
        name="Gateway’s clock"
        value={clock ? `${signed(clock.offsetMs)} ± ${(clock.rttMs / 2).toFixed(1)} ms` : "–"}
      />
    </dl>
  );
}

function Figure({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function signed(ms: number): string {
  return `${ms < 0 ? "−" : "+"}${Math.abs(ms).toFixed(1)}`;
}

const PLOT = { height: 120, left: 44, right: 8, top: 8, bottom: 8 };

/** The last turns as columns, with their median and 95th percentile. */
function Plot({ turns }: { turns: readonly MeasuredTurn[] }) {
  const totals = turns.map(({ metrics }) => metrics.totalMs);
  const end = scaleEnd(Math.max(...totals));
  const { height, left, right, top, bottom } = PLOT;
  const width = narrow.value ? 330 : 600; // about the pixels that it gets, so that its letters stay legible
  const y = (ms: number) => top + (1 - ms / end) * (height - top - bottom);
  const pitch = (width - left - right) / 50;
  const median = percentile(totals, 0.5)!;
  const high = percentile(totals, 0.95)!;
  return (
    <figure class="plot">
      <svg
        viewBox={`0 0 ${width} ${height}`}
        role="img"
        aria-label={`The last ${turns.length} turns: median ${Math.round(median)} ms, 95th percentile ${Math.round(high)} ms`}
      >
        {[0, end / 2, end].map((ms) => (
          <g key={ms}>
            <line class="grid" x1={left} x2={width - right} y1={y(ms)} y2={y(ms)} />
            <text x={left - 6} y={y(ms)} dy="0.32em" text-anchor="end">
              {ms}
            </text>
          </g>
        ))}
        {turns.map((turn, index) => (
          <g
            key={turn.id}
            class="column"
            data-lit={lit.value.has(turn.id)}
            onClick={() => pin(turn.id)}
            {...pointing(turn.id)}
          >
            <rect class="touch" x={left + index * pitch} width={pitch} y={top} height={height - top - bottom} />
            {stacked(turn).map(({ name, from, to }) => (
              <rect
                key={name}
                class={`part ${name}`}
                x={left + index * pitch + 1}
                width={pitch - 2}
                y={y(to)}
                height={Math.max(0, y(from) - y(to))}
              />
            ))}
          </g>
        ))}
        <line class="median" x1={left} x2={width - right} y1={y(median)} y2={y(median)} />
        <line class="high" x1={left} x2={width - right} y1={y(high)} y2={y(high)} />
      </svg>
      <figcaption>
        Total of the last fifty turns, in ms: <span class="key median">median</span>{" "}
        <span class="key high">95th percentile</span>
      </figcaption>
    </figure>
  );
}

function stacked({ metrics }: MeasuredTurn): { name: string; from: number; to: number }[] {
  let at = 0;
  return partsOf(metrics).map(({ name, ms }) => ({ name, from: at, to: (at += ms) }));
}

function Legend() {
  return (
    <ul class="legend">
      {PARTS.map(({ name, label, meaning }) => (
        <li key={name} class={`key part ${name}`} title={meaning}>
          {label} <span class="unseen">{meaning}</span>
        </li>
      ))}
    </ul>
  );
}

const MOST_SHOWN = 50;

/** One row a turn, the latest first. */
function Waterfall({ turns }: { turns: readonly MeasuredTurn[] }) {
  const end = Math.max(...turns.map(({ metrics }) => metrics.totalMs), 1);
  return (
    <div class="scroll-x" tabIndex={0} role="region" aria-label="Waterfall of the turns">
      <table class="waterfall">
        <caption class="unseen">Where the time of each turn went, in milliseconds, the latest first</caption>
        <thead>
          <tr>
            <th scope="col">Turn</th>
            <th scope="col" class="bar-head">
              Waterfall
            </th>
            {PARTS.map(({ name, label, meaning }) => (
              <th key={name} scope="col" class="number part-number" title={meaning}>
                {label}
              </th>
            ))}
            <th scope="col" class="number">
              Total
            </th>
          </tr>
        </thead>
        <tbody>
          {turns
            .slice(-MOST_SHOWN)
            .reverse()
            .map((turn) => (
              <TurnLine key={turn.id} turn={turn} end={end} />
            ))}
        </tbody>
      </table>
    </div>
  );
}

const ORIGINS = { speech: "spoken", pushToTalk: "push to talk", typed: "typed" };

function TurnLine({ turn, end }: { turn: MeasuredTurn; end: number }) {
  const { metrics, id, number } = turn;
  const row = session.value.rows.value.find((turn) => turn.id === id);
  return (
    <tr data-lit={lit.value.has(id)} {...pointing(id)}>
      <th scope="row">
        <button type="button" class="stamp" aria-label={`t${number}, ${ORIGINS[metrics.origin]}: mark this turn`} onClick={() => pin(id)}>
          t{number}
        </button>
      </th>
      <td class="bar-cell">
        <Bar turn={turn} end={end} />
        <span class="parts-in-words">
          {partsOf(metrics)
            .filter(({ ms }) => Math.round(ms) > 0)
            .map(({ name, ms }) => `${PARTS.find((part) => part.name === name)!.label.toLowerCase()} ${Math.round(ms)}`)
            .join(" · ")}
        </span>
        {row?.interrupted && (
          <span class="cut">
            cut: {Math.round(row.playedMs ?? 0)} ms played, {Math.round(row.droppedMs ?? 0)} ms dropped
          </span>
        )}
        {metrics.clockUncertaintyMs >= 10 && (
          <span class="faint">clock known to ± {Math.round(metrics.clockUncertaintyMs)} ms</span>
        )}
      </td>
      {PARTS.map(({ name }) => {
        const ms = msOf(metrics, name);
        return (
          <td key={name} class="number part-number">
            {ms === undefined ? "–" : Math.round(ms)}
          </td>
        );
      })}
      <td class="number total">{Math.round(metrics.totalMs)}</td>
    </tr>
  );
}

/** Its pieces are as wide as they are long: set from here, as the page's policy allows no style attribute. */
function Bar({ turn, end }: { turn: MeasuredTurn; end: number }) {
  const bar = useRef<HTMLDivElement>(null);
  return (
    <div class="bar" ref={bar} aria-hidden="true">
      {partsOf(turn.metrics).map(({ name, ms }) => (
        <i
          key={name}
          class={`part ${name}`}
          ref={(piece) => {
            if (piece) piece.style.width = `${(100 * ms) / end}%`;
          }}
        />
      ))}
    </div>
  );
}

function Usage() {
  const usage = session.value.usage.value;
  if (!usage) return null;
  return (
    <p class="faint">
      Used so far: {(usage.audioInMs / 1000).toFixed(1)} s of audio to the model, {(usage.audioOutMs / 1000).toFixed(1)} s
      from it, {usage.totalTokens.toLocaleString("en")} tokens.
    </p>
  );
}
