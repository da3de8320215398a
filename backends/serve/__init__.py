"""The page of `rosetta serve`: every backend translates what a visitor types,
and shows how sure it was."""
