"""Tasks: what a network learns. The loop, the run and the reports do not depend on a specific task."""
