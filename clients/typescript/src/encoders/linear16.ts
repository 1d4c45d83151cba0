import type { EncoderFactory } from "./encoder.js";

/** Samples as they are: 16 bit, little-endian. */
export function linear16(): EncoderFactory {
  return {
    format: "LINEAR16",
    async create(rateHz, onData) {
      return {
        encode(samples) {
          const bytes = new Uint8Array(2 * samples.length);
          const view = new DataView(bytes.buffer);
          samples.forEach((sample, index) => view.setInt16(2 * index, sample, true));
          onData(bytes, (1000 * samples.length) / rateHz);
        },
        async end() {},
        close() {},
      };
    },
  };
}
