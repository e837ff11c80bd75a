"""Pure functions of training: schedules, rates, layer groups, the initial loss."""
