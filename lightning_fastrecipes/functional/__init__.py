"""Pure functions on tensors, arrays and frames: no Lightning, no input or output, no global state."""
