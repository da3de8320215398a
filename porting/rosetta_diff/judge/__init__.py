"""Measures how far apart two sides are on each rung, and bounds it."""
