"""Training in a group of workers: how each framework joins it."""
