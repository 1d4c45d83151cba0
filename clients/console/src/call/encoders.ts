import type { EncoderFactory } from "@antiphon/client";
import type { EncoderName } from "../state/settings.js";

/** The encoder of a name; its code is loaded when the first stream begins. LINEAR16 needs none. */
export function encoderOf(name: EncoderName): EncoderFactory | undefined {
  switch (name) {
    case "flac":
      return {
        format: "FLAC",
        create: async (...given) => {
          const { flac } = await import("@antiphon/client/flac");
          return flac().create(...given); // the bundler has found its worker, and made it a file of its own
        },
      };
    case "opus":
      return {
        format: "audio/ogg;codecs=opus",
        create: async (...given) => {
          const { opus } = await import("@antiphon/client/opus");
          return opus().create(...given);
        },
      };
    default:
      return undefined;
  }
}
