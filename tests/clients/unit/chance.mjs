/** Returns a source of chance that is the same for the same seed: xorshift32. */
export function chance(seed) {
  let state = (seed + 1) * 2654435761 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
