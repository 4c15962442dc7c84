"""Programs: networks and properties as linear constraints with choices, and their solvers."""
