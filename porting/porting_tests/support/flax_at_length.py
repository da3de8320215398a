"""The worked ports in Flax and JAX against their partners, and twelve mistakes planted in them,
each of which JAX compiles anew, so that it takes some minutes. `python -m
porting_tests.support.flax_at_length` prints the results."""

import shutil
import sys
import tempfile
from pathlib import Path

from safetensors.numpy import save_file

from porting_tests.support import PORTING
from porting_tests.support.side import Side, script
from rosetta_diff.carry import carry_weights
from rosetta_diff.diff import Diff, compare_records
from rosetta_diff.pair.pairing import pair_sides
from rosetta_diff.read.side import Side as Recorded
from rosetta_diff.report import lines

PARTNERS = {"tagger": "keras", "encoder": "torch", "translator": "torch"}
# What is planted in which port: the right words and the wrong ones,
# and the stage and the beginning of the place.
MISTAKES = {
    "the approximated GELU": ("encoder", "approximate=False", "approximate=True", "forward",
        "layers.layers.0.linear2"),
    "another epsilon": ("encoder", "LayerNorm(8, epsilon=1e-5", "LayerNorm(8", "forward",
        "layers.layers.0.norm1"),
    "no scale": ("encoder", " / q.shape[-1] ** 0.5", "", "forward",
        "layers.layers.0.self_attn:output"),
    "no mask": ("encoder", "jnp.where(mask, scores, -jnp.inf)", "scores", "forward",
        "layers.layers.0.self_attn:output"),
    "no skip": ("encoder", "self.norm2(x + ", "self.norm2(", "forward", "layers.layers.0.norm2"),
    "padding counted": ("encoder", '.mean(where=batch["ids"] != 0)', ".mean()", "loss", "loss"),
    "decay as installed": ("encoder", "EPSILON, weight_decay=DECAY", "EPSILON", "step", ""),
    "a state of zeros": ("translator", ", initial_carry=state", "", "forward", "decoder"),
    "no second bias": ("translator", "self.dense_h = nnx.Linear(units, 3 * units, **own)", "pass",
        "weights",
        "encoder"),
    "padding trained": ("translator", "jnp.where((ids != 0)[..., None], self.words(ids), 0)",
        "self.words(ids)",
        "gradients", "words"),
    "directions exchanged": ("tagger", "(width, 8, **own)) for _ in range(2))",
        "(width, 8, **own)) for _ in range(2)), merge_fn=lambda a, b: jnp.concatenate([b, a], -1)",
        "forward",
        "tagger/lower"),
    "epsilon elsewhere": ("tagger", "as_keras(optax.adam)",
        "optax.adam(RATE, MOMENTUM, BETA_2, EPSILON)", "step",
        ""),
}  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, sides = Path(name), {name: Side(name) for name in ("keras", "torch", "flax")}
        shutil.copytree(PORTING / "ports", folder, dirs_exist_ok=True)

        def record(side: str, *arguments: str) -> None:
            sides[side].do(script, folder=folder, arguments=[*arguments], steps=2)

        def compared(left: str, right: str) -> Diff:
            return compare_records(Recorded(folder / left), Recorded(folder / right))

        for port, partner in PARTNERS.items():
            for optimizer in ("adam", "adamw"):
                record(partner, f"{port}_{partner}.py", f"{port}-{optimizer}", optimizer)
            record("flax", f"{port}_flax.py", f"{port}-start")
            arrays = carry_weights(
                pair_sides(Recorded(folder / f"{port}-adam"), Recorded(folder / f"{port}-start"))
            )
            save_file(arrays, folder / f"{port}_flax.safetensors")
            record("flax", f"{port}_flax.py", f"{port}-flax")
        record("torch", "transformer_torch.py", "transformer-adam")
        record("flax", "transformer_jax.py", "transformer-flax", "transformer-adam")
        as_expected = True
        for port in (*PARTNERS, "transformer"):
            found = compared(f"{port}-adam", f"{port}-flax")
            as_expected &= found.passed
            print(f"{port}: {'equal' if found.passed else 'WRONG'}", *lines(found), sep="\n  ")
        for words, (port, right, wrong, stage, place) in MISTAKES.items():
            program = (folder / f"{port}_flax.py").read_text("utf-8")
            assert right in program, words
            (folder / "planted.py").write_text(program.replace(right, wrong), "utf-8")
            optimizer = "adamw" if "decay" in words else "adam"
            record("flax", "planted.py", "planted", optimizer)
            found = compared(f"{port}-{optimizer}", "planted")
            named = found.broken == stage and found.explanation[1].startswith(place)
            as_expected &= named
            print(f"{words}: {'found' if named else 'MISSED'}", *lines(found), sep="\n  ")
    sys.exit(not as_expected)


if __name__ == "__main__":
    main()
