"""Why a stage breaks: hypotheses that are tried on the numbers, and facts."""
