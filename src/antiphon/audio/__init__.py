"""Sound: what clients send and are sent, decoded, resampled and encoded."""
