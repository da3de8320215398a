"""Compares records of how models compute: `rosetta-diff` and `rosetta-carry`."""
