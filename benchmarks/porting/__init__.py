"""Compares two records of one model, made by `rosetta_record` in any frameworks; no framework is imported here."""
