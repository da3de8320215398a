"""Why a rung breaks: hypotheses that are tried on the numbers, and facts."""
