"""Pure functions on tensors, arrays and frames: no Lightning, no files, no global state."""
