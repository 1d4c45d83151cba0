/** What a microphone gives, and the gateway hears. */
export const CAPTURE_RATE_HZ = 16_000;
