"""Measures how far apart two sides are on each stage, and bounds it."""
