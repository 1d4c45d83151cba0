import { useEffect, useRef } from "preact/hooks";
import { change, settings } from "../state/settings.js";

const STEP = 0.02;
const LEAST = 0.25;
const MOST = 0.7;

/** The bar between the two panes: dragged, or moved by the arrow keys. */
export function Split() {
  const bar = useRef<HTMLDivElement>(null);
  const { split } = settings.value;
  useEffect(() => {
    bar.current!.parentElement!.style.setProperty("--split", `${100 * split}%`);
  }, [split]);
  const move = (to: number) => change({ split: Math.max(LEAST, Math.min(MOST, to)) });
  return (
    <div
      ref={bar}
      class="split-bar"
      role="separator"
      tabIndex={0}
      aria-label="How much room the conversation has"
      aria-orientation="vertical"
      aria-valuemin={100 * LEAST}
      aria-valuemax={100 * MOST}
      aria-valuenow={Math.round(100 * split)}
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
      onPointerMove={(event) => {
        if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
        const box = event.currentTarget.parentElement!.getBoundingClientRect();
        const stacked = getComputedStyle(event.currentTarget).cursor === "row-resize";
        move(stacked ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width);
      }}
      onDblClick={() => move(0.45)}
      onKeyDown={(event) => {
        const steps: Record<string, number> = { ArrowLeft: -STEP, ArrowUp: -STEP, ArrowRight: STEP, ArrowDown: STEP };
        const step = steps[event.key];
        if (step === undefined) return;
        event.preventDefault();
        move(split + step);
      }}
    />
  );
}
