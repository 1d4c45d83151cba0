/** What the global scope of an AudioWorklet has, and TypeScript's own library does not know. */
export interface WorkletScope {
  /** The frame with which the block that is rendered now begins. */
  readonly currentFrame: number;
  readonly sampleRate: number;
  readonly AudioWorkletProcessor: new (options?: unknown) => { readonly port: MessagePort };
  registerProcessor(name: string, processor: new (options: never) => Processor): void;
}

export interface Processor {
  process(inputs: Float32Array[][], outputs: Float32Array[][]): boolean;
}

export const scope = globalThis as unknown as WorkletScope;
