"""The scaler: collect from the agents, decide how many there should be, make it so."""
