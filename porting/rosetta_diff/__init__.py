"""Records of how models compute on one ladder: `rosetta parity`, `rosetta-diff` and `rosetta-carry`."""
