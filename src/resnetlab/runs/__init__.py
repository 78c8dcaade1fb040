"""Runs: a run is Task x Architecture x Dataset x Recipe x seed and has its own folder."""
