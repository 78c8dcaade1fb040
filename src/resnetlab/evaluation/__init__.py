"""How networks are tested: protocols and counts."""
