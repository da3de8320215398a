"""What Flax has of the scripts that are run in one process after another: its precision."""

import jax


def reset(precision: str) -> None:
    jax.config.update("jax_enable_x64", precision == "float64")
