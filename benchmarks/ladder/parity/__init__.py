"""Rosetta's own backends on the ladder, each against the referee."""
