"""Training in a group of workers: the engines of the frameworks, and how each of them joins."""
