import { Component } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { useSignalEffect } from "@preact/signals";
import type { Turn } from "@antiphon/client";
import { situation, welcome } from "../state/situation.js";
import { lit, pin, pinned, pointing, session, timeOfDay } from "../state/view.js";
import { settings } from "../state/settings.js";
import { seconds } from "../state/timeline.js";
import type { ToolCard } from "../state/tool_cards.js";
import { EndedCard, OpenCard } from "./tool_card.js";

type Entry = { at: number; row: Turn } | { at: number; card: ToolCard };

export function Transcript() {
  const scroller = useScrolling();
  const { rows, cards } = session.value;
  const final = rows.value.filter((row) => row.isFinal && (row.text || row.unheard));
  const partial = rows.value.filter((row) => !row.isFinal && row.text);
  const open = cards.value.filter(({ state }) => state === "open");
  const ended = cards.value.filter(({ state }) => state !== "open");
  const empty = !final.length && !partial.length && !cards.value.length;
  return (
    <div class="transcript" ref={scroller} tabIndex={0} role="region" aria-label="Transcript">
      {empty && <Welcome />}
      <div id="log" role="log" aria-label="Conversation">
        {entries(final, ended).map((entry) =>
          "row" in entry ? (
            <TurnRow key={entry.row.id} row={entry.row} lit={lit.value.has(entry.row.id)} />
          ) : (
            <EndedCard key={entry.card.id} card={entry.card} />
          ),
        )}
      </div>
      <div id="live">
        {partial.map((row) => (
          <div key={row.id} class={`turn partial ${row.role}`} data-lit={lit.value.has(row.id)} {...pointing(row.id)}>
            <p class="who">{who(row)}</p>
            <p class="words" dir="auto">{row.text}</p>
          </div>
        ))}
        {open.map((card) => (
          <OpenCard key={card.id} card={card} />
        ))}
      </div>
    </div>
  );
}

function Welcome() {
  const [heading, hint] = welcome(situation.value.kind, settings.value.talk === "hold");
  return (
    <div class="welcome">
      <p>{heading}</p>
      <p>{hint}</p>
    </div>
  );
}

function who(row: Turn): string {
  return row.role === "user" ? "You" : "Antiphon";
}

function entries(rows: readonly Turn[], cards: readonly ToolCard[]): Entry[] {
  const all: Entry[] = rows.map((row) => ({ at: row.at, row }));
  for (const card of cards) {
    const place = all.findLastIndex(({ at }) => at <= card.askedAt);
    all.splice(place + 1, 0, { at: card.askedAt, card });
  }
  return all;
}

/** A finished turn. It is drawn again only when something of it changes: there may be hundreds. */
class TurnRow extends Component<{ row: Turn; lit: boolean }> {
  override shouldComponentUpdate(next: { row: Turn; lit: boolean }): boolean {
    const { row, lit } = this.props;
    if (lit !== next.lit) return true;
    return (Object.keys(next.row) as (keyof Turn)[]).some((name) => row[name] !== next.row[name]);
  }

  override render({ row, lit }: { row: Turn; lit: boolean }) {
    return (
      <article class={`turn ${row.role}`} data-lit={lit} {...pointing(row.id)}>
        <p class="who">{who(row)}</p>
        <p class="words" dir="auto">
          {row.text}
          {row.unheard && (
            <>
              {" "}
              <span class="unseen">Generated, but not heard: </span>
              <del>{row.unheard}</del>
            </>
          )}
        </p>
        {row.command && (
          <p class="tag">
            <span class="unseen">Command: </span>
            {row.command}
          </p>
        )}
        <p class="timing" aria-live="off">
          <button type="button" class="stamp" aria-label={`${timeOfDay(row.at)}: mark this turn`} onClick={() => pin(row.id)}>
            {timeOfDay(row.at)}
          </button>
          {timing(row).map((text) => (
            <span key={text}>{text}</span>
          ))}
        </p>
      </article>
    );
  }
}

function timing(row: Turn): string[] {
  const texts: string[] = [];
  if (row.typed) texts.push("typed");
  if (row.metrics) texts.push(`answer after ${Math.round(row.metrics.totalMs)} ms`);
  if (row.interrupted) {
    const { playedMs, droppedMs } = row;
    const cut = playedMs === undefined ? "" : ` after ${seconds(playedMs)}`;
    texts.push(`cut${cut}`);
    if (droppedMs) texts.push(`${seconds(droppedMs)} dropped`);
  }
  return texts;
}

/** Keeps the end in sight while it is, and brings the marked turn into sight. */
function useScrolling() {
  const scroller = useRef<HTMLDivElement>(null);
  const seen = useRef({ end: true, top: 0 });
  const note = () => {
    const { scrollTop, scrollHeight, clientHeight } = scroller.current!;
    seen.current = { end: scrollHeight - scrollTop - clientHeight < 80, top: scrollTop };
  };
  const keep = () => {
    const box = scroller.current!;
    if (box.scrollTop < seen.current.top) note(); // the focus has moved up, say: its scroll event is still to come
    if (!seen.current.end) return;
    box.scrollTop = box.scrollHeight;
    seen.current.top = box.scrollTop;
  };
  useLayoutEffect(() => {
    const box = scroller.current!;
    box.addEventListener("scroll", note, { passive: true });
    const resized = new ResizeObserver(keep);
    resized.observe(box);
    for (const child of box.children) resized.observe(child);
    return () => {
      box.removeEventListener("scroll", note);
      resized.disconnect();
    };
  }, []);
  useLayoutEffect(keep);
  useSignalEffect(() => {
    if (!pinned.value) return;
    const turn = scroller.current?.querySelector("[data-lit=true]");
    turn?.scrollIntoView({ block: "nearest" });
  });
  return scroller;
}
