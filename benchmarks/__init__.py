"""Measurements beside named peers, each a script that prints ratios."""
