import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { change, settings, type Settings } from "../state/settings.js";

export function Group({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <fieldset>
      <legend>{title}</legend>
      {children}
    </fieldset>
  );
}

interface FieldProps {
  label: string;
  hint?: string;
  /** Makes the field; these attributes tie its label and its hint to it. */
  children(ties: { id: string; "aria-describedby": string | undefined }): ComponentChildren;
}

export function Field({ label, hint, children }: FieldProps) {
  const id = useId();
  const hintId = `${id}-hint`;
  return (
    <div class="row">
      <label for={id}>{label}</label>
      {children({ id, "aria-describedby": hint && hintId })}
      {hint && <small id={hintId}>{hint}</small>}
    </div>
  );
}

interface SelectProps<T extends string | number> {
  label: string;
  value: T;
  options: readonly [value: T, label: string][];
  hint?: string;
  disabled?: boolean;
  onChoose(value: string): void;
}

export function Select<T extends string | number>({ label, value, options, hint, disabled, onChoose }: SelectProps<T>) {
  return (
    <Field label={label} hint={hint}>
      {(ties) => (
        <select {...ties} value={value} disabled={disabled} onChange={(event) => onChoose(event.currentTarget.value)}>
          {options.map(([option, text]) => (
            <option key={option} value={option}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

type Switch = { [K in keyof Settings]: Settings[K] extends boolean ? K : never }[keyof Settings];

export function Toggle({ name, label, hint, onChange }: { name: Switch; label: string; hint?: string; onChange?(): void }) {
  const hintId = `${name}-hint`;
  return (
    <div>
      <label class="choice">
        <input
          type="checkbox"
          checked={settings.value[name]}
          aria-describedby={hint && hintId}
          onChange={(event) => {
            change({ [name]: event.currentTarget.checked });
            onChange?.();
          }}
        />
        {label}
      </label>
      {hint && (
        <small id={hintId} class="choice-hint">
          {hint}
        </small>
      )}
    </div>
  );
}
