import { useComputed, useSignal } from "@preact/signals";
import { change, settings } from "../state/settings.js";
import { parseJson, type ToolCard } from "../state/tool_cards.js";
import { now, replay } from "../state/view.js";

const TEMPLATES = ['{"ok": true}', '{"result": ""}', '"done"', "null"];

/** A call that waits for its answer, which is written here. */
export function OpenCard({ card }: { card: ToolCard }) {
  const answer = useSignal(TEMPLATES[0]!);
  const sentence = useSignal("");
  const parsed = useComputed(() => parseJson(answer.value));
  const automatically = useSignal(false);
  const { call } = card;
  const id = card.id.replace(/\W/g, "-");

  const respond = () => {
    if (!parsed.value.ok) return;
    if (automatically.value) change({ answers: { ...settings.value.answers, [card.name]: answer.value } });
    call?.respond(parsed.value.value);
  };

  return (
    <section class="card" aria-label={`Tool call ${card.name}`}>
      <h2>
        <span class="tool">{card.name}</span>
        <Countdown card={card} />
      </h2>
      <Arguments args={card.args} />
      {call ? (
        <>
          <form
            onSubmit={(event) => {
              event.preventDefault();
              respond();
            }}
          >
            <label for={`answer-${id}`}>Result, as JSON</label>
            <textarea
              id={`answer-${id}`}
              rows={2}
              spellcheck={false}
              value={answer}
              aria-invalid={!parsed.value.ok}
              aria-describedby={`check-${id}`}
              onInput={(event) => (answer.value = event.currentTarget.value)}
              onKeyDown={(event) => {
                if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) respond();
              }}
            />
            <p id={`check-${id}`} class={parsed.value.ok ? "check" : "check wrong"}>
              {parsed.value.ok ? "Valid JSON." : parsed.value.why}
            </p>
            <div class="templates" role="group" aria-label="Templates">
              {TEMPLATES.map((template) => (
                <button key={template} type="button" class="quiet code" onClick={() => (answer.value = template)}>
                  {template}
                </button>
              ))}
            </div>
            <label class="choice">
              <input
                type="checkbox"
                checked={automatically}
                onChange={(event) => (automatically.value = event.currentTarget.checked)}
              />
              Answer every “{card.name}” like this
            </label>
            <button type="submit" class="primary" disabled={!parsed.value.ok}>
              Send result
            </button>
          </form>
          <form
            class="field"
            onSubmit={(event) => {
              event.preventDefault();
              if (sentence.value.trim()) call.fail(sentence.value.trim());
            }}
          >
            <input
              aria-label={`Why ${card.name} fails, as a sentence`}
              placeholder="Or say why it fails"
              value={sentence}
              onInput={(event) => (sentence.value = event.currentTarget.value)}
            />
            <button type="submit" disabled={!sentence.value.trim()}>
              Fail
            </button>
          </form>
        </>
      ) : (
        <p class="faint">It was answered later in this session.</p>
      )}
    </section>
  );
}

function Countdown({ card }: { card: ToolCard }) {
  // The clock ticks once a second, and may have ticked last before the call came.
  const at = Math.max(card.askedAt, replay.value ? replay.value.position.value : now.value);
  const left = Math.max(0, Math.ceil((card.dueAt - at) / 1000));
  return (
    <span class="countdown" data-short={left <= 5}>
      {left} s left
    </span>
  );
}

const ENDS: Record<ToolCard["state"], string> = {
  open: "open",
  answered: "answered",
  failed: "failed",
  cancelled: "cancelled",
  late: "too late",
};

const REASONS: Partial<Record<ToolCard["state"], string>> = {
  cancelled: "the model no longer wants it",
  late: "its time ran out, and the model was told so",
};

/** A call that is over, as a line of the conversation. */
export function EndedCard({ card }: { card: ToolCard }) {
  const took = card.endedAt === undefined ? "" : ` after ${((card.endedAt - card.askedAt) / 1000).toFixed(1)} s`;
  return (
    <article class="card ended" data-state={card.state}>
      <p>
        <span class="unseen">Tool </span>
        <span class="tool">{card.name}</span> {ENDS[card.state]}
        {took}
        {card.automatic && ", by itself"}
        {REASONS[card.state] && `: ${REASONS[card.state]}`}
      </p>
      <details>
        <summary>Arguments and result</summary>
        <Arguments args={card.args} />
        {card.state === "answered" && <pre class="code">{JSON.stringify(card.result, null, 2) ?? "null"}</pre>}
        {card.error !== undefined && <p>{card.error}</p>}
      </details>
    </article>
  );
}

function Arguments({ args }: { args: Record<string, unknown> }) {
  if (!Object.keys(args).length) return <p class="faint">Without arguments.</p>;
  return <pre class="code">{JSON.stringify(args, null, 2)}</pre>;
}
