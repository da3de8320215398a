"""How far apart two sides are on each rung, and how far they may be."""
