"""Pairs weights and layers of two records."""
