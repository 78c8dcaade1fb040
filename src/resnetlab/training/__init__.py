"""How networks are trained: recipes, schedule, the training loop, checkpoints."""
