import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { copyText, saveFile, stampedName } from "../call/files.js";
import { filtered, NO_FILTER, toJsonLines, typeCounts, type LogEntry, type LogFilter } from "../state/log.js";
import { lit, pin, pinned, pointing, replay, session, timeOfDay } from "../state/view.js";

const ROW_HEIGHT = 32;
const REFRESH_MS = 200;

/** The messages of the wire as they went, audio told of by its size. */
export function Messages() {
  const filter = useSignal<LogFilter>(NO_FILTER);
  const paused = useSignal(false);
  const entries = useSnapshot(paused);
  const shown = filtered(entries.value, filter.value);
  const change = (changes: Partial<LogFilter>) => (filter.value = { ...filter.value, ...changes });
  const { log } = session.value;
  const gone = log.count - log.entries.length;
  return (
    <>
      <div class="toolbar">
        <input
          type="search"
          aria-label="Only messages with this text"
          placeholder="Filter"
          value={filter.value.text}
          onInput={(event) => change({ text: event.currentTarget.value })}
        />
        <select
          aria-label="Direction"
          value={filter.value.direction}
          onChange={(event) => change({ direction: event.currentTarget.value as LogFilter["direction"] })}
        >
          <option value="">Both ways</option>
          <option value="sent">Sent</option>
          <option value="received">Received</option>
        </select>
        <select
          aria-label="Type"
          value={filter.value.type}
          onChange={(event) => change({ type: event.currentTarget.value })}
        >
          <option value="">All types</option>
          {typeCounts(entries.value).map(([type, count]) => (
            <option key={type} value={type}>
              {type} ({count})
            </option>
          ))}
        </select>
        <label class="choice">
          <input
            type="checkbox"
            checked={!filter.value.quiet}
            onChange={(event) => change({ quiet: !event.currentTarget.checked })}
          />
          Audio and pings
        </label>
        <span class="actions">
          <button type="button" aria-pressed={paused.value} onClick={() => (paused.value = !paused.value)}>
            {paused.value ? "Go on" : "Pause"}
          </button>
          <button
            type="button"
            onClick={() => {
              log.clear();
              session.value.logVersion.value++;
              paused.value = false;
            }}
          >
            Clear
          </button>
          <button type="button" onClick={() => void copyText(toJsonLines(shown, timeOrigin()))}>
            Copy all
          </button>
          <button
            type="button"
            onClick={() => saveFile(stampedName("messages", "jsonl"), toJsonLines(shown, timeOrigin()))}
          >
            Export
          </button>
        </span>
      </div>
      <p class="faint count">
        {shown.length.toLocaleString("en")} of {entries.value.length.toLocaleString("en")} messages
        {gone > 0 && `, ${gone.toLocaleString("en")} older ones are gone`}
        {paused.value && ", paused"}
      </p>
      <List entries={shown} />
    </>
  );
}

function timeOrigin(): number {
  return replay.value?.recording.header.timeOrigin ?? performance.timeOrigin;
}

/** The log's entries, taken a few times a second and not at each of its messages. */
function useSnapshot(paused: { value: boolean }) {
  const entries = useSignal<readonly LogEntry[]>(session.peek().log.entries.slice());
  const due = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useSignalEffect(() => {
    const { log, logVersion } = session.value;
    void logVersion.value;
    if (paused.value || due.current !== undefined) return;
    due.current = setTimeout(() => {
      due.current = undefined;
      entries.value = log.entries.slice();
    }, REFRESH_MS);
  });
  useEffect(() => () => clearTimeout(due.current), []);
  return entries;
}

/** Only the rows in sight are there, whatever the number of messages. */
function List({ entries }: { entries: readonly LogEntry[] }) {
  const box = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const height = useSignal(400);
  const chosen = useSignal<number | undefined>(undefined);
  const atEnd = useRef(true);

  useEffect(() => {
    const element = box.current!;
    const observer = new ResizeObserver(() => (height.value = element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  useEffect(() => {
    if (atEnd.current && chosen.value === undefined) box.current!.scrollTop = entries.length * ROW_HEIGHT;
  }, [entries]);
  useSignalEffect(() => {
    const marked = pinned.value && lit.value;
    const index = marked ? entries.findIndex(({ about }) => about && marked.has(about)) : -1;
    if (index >= 0) box.current!.scrollTop = Math.max(0, (index - 2) * ROW_HEIGHT);
  });

  const first = Math.max(0, Math.floor(top.value / ROW_HEIGHT) - 5);
  const last = Math.min(entries.length, Math.ceil((top.value + height.value) / ROW_HEIGHT) + 5);
  const index = entries.findIndex(({ id }) => id === chosen.value);
  const choose = (next: number) => {
    const entry = entries[Math.max(0, Math.min(entries.length - 1, next))];
    if (!entry) return;
    chosen.value = entry.id;
  };
  useEffect(() => {
    if (index < 0) return;
    const at = index * ROW_HEIGHT;
    const element = box.current!;
    if (at < element.scrollTop) element.scrollTop = at;
    else if (at + ROW_HEIGHT > element.scrollTop + element.clientHeight) {
      element.scrollTop = at + ROW_HEIGHT - element.clientHeight;
    }
  }, [chosen.value, height.value]); // there is less room for the list once the message is shown below it
  return (
    <div class="log-panes">
      <div
        class="log-list"
        ref={box}
        role="listbox"
        aria-label="Messages"
        tabIndex={0}
        aria-activedescendant={index >= first && index < last ? `message-${chosen.value}` : undefined}
        onScroll={(event) => {
          const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
          top.value = scrollTop;
          atEnd.current = scrollHeight - scrollTop - clientHeight < 2 * ROW_HEIGHT;
        }}
        onKeyDown={(event) => {
          const page = Math.max(1, Math.floor(height.value / ROW_HEIGHT) - 1);
          const steps: Record<string, number> = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
          const step = steps[event.key];
          if (step !== undefined) choose(index < 0 ? entries.length - 1 : index + step);
          else if (event.key === "Home") choose(0);
          else if (event.key === "End") choose(entries.length - 1);
          else if (event.key === "Escape") chosen.value = undefined;
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      >
        <Spacer rows={first} />
        {entries.slice(first, last).map((entry, offset) => (
          <Line
            key={entry.id}
            entry={entry}
            place={first + offset + 1}
            count={entries.length}
            chosen={entry.id === chosen.value}
            onChoose={() => (chosen.value = entry.id === chosen.value ? undefined : entry.id)}
          />
        ))}
        <Spacer rows={entries.length - last} />
      </div>
      {index >= 0 && <Detail entry={entries[index]!} onClose={() => (chosen.value = undefined)} />}
    </div>
  );
}

function Spacer({ rows }: { rows: number }) {
  return (
    <div
      role="presentation"
      ref={(element) => {
        if (element) element.style.height = `${rows * ROW_HEIGHT}px`;
      }}
    />
  );
}

interface LineProps {
  entry: LogEntry;
  place: number;
  count: number;
  chosen: boolean;
  onChoose(): void;
}

function Line({ entry, place, count, chosen, onChoose }: LineProps) {
  const { id, at, direction, type, bytes, text, about } = entry;
  return (
    <div
      id={`message-${id}`}
      class="log-line"
      role="option"
      aria-selected={chosen}
      aria-posinset={place}
      aria-setsize={count}
      data-direction={direction}
      data-lit={Boolean(about && lit.value.has(about))}
      onClick={onChoose}
      {...pointing(about)}
    >
      <time>{preciseTime(at)}</time>
      <span class="arrow">
        <span aria-hidden="true">{direction === "sent" ? "↑" : "↓"}</span>
        <span class="unseen">{direction}</span>
      </span>
      <span class="type">{type}</span>
      <span class="gist">{gist(text)}</span>
      <span class="size">{bytes.toLocaleString("en")} B</span>
    </div>
  );
}

/** The message without what its columns say. */
function gist(text: string): string {
  return text.replace(/^\{"type":"[^"]*",?/, "").replace(/"timestamp":[\d.]+,?/, "").slice(0, 300).replace(/\}$/, "");
}

function preciseTime(at: number): string {
  const time = new Date(timeOrigin() + at);
  return `${timeOfDay(at)}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}

function Detail({ entry, onClose }: { entry: LogEntry; onClose(): void }) {
  const pretty = JSON.stringify(JSON.parse(entry.text), null, 2);
  return (
    <section class="log-detail" aria-label={`Message ${entry.type}`}>
      <div class="toolbar">
        <h2>
          {entry.type} <span class="faint">{entry.binary ? "binary" : "text"}, {entry.direction}</span>
        </h2>
        <span class="actions">
          {entry.about && (
            <button type="button" onClick={() => pin(entry.about!)}>
              Mark its turn
            </button>
          )}
          <button type="button" onClick={() => void copyText(pretty)}>
            Copy
          </button>
          <button type="button" onClick={onClose}>
            Close
          </button>
        </span>
      </div>
      <pre class="code" tabIndex={0}>
        {pretty}
      </pre>
    </section>
  );
}
