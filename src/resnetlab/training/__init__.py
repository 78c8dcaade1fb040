"""How networks are trained: recipe, schedule, the one loop, the run folder."""
