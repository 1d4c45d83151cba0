import { useSignal } from "@preact/signals";
import { copyText } from "../call/files.js";
import { socketUrl } from "../call/options.js";
import { toPython, toTypeScript } from "../state/code.js";
import { settings } from "../state/settings.js";
import { Group } from "./fields.js";

/** Programs that make the same call as this page would. */
export function Code() {
  const language = useSignal<"typescript" | "python">("typescript");
  const write = language.value === "typescript" ? toTypeScript : toPython;
  const text = write(settings.value, socketUrl());
  return (
    <Group title="The same call as code">
      <div class="actions">
        <button
          type="button"
          aria-pressed={language.value === "typescript"}
          onClick={() => (language.value = "typescript")}
        >
          TypeScript
        </button>
        <button type="button" aria-pressed={language.value === "python"} onClick={() => (language.value = "python")}>
          Python
        </button>
        <button type="button" class="primary" onClick={() => void copyText(text)}>
          Copy as code
        </button>
      </div>
      <pre class="code" tabIndex={0} aria-label="Program">
        {text}
      </pre>
    </Group>
  );
}
