"""keras-hub's side of a pair: its converter loads the checkpoint that transformers saved."""

from types import SimpleNamespace

import keras
import keras_hub
import numpy as np
from keras import ops
from keras_hub.src.utils.transformers import convert_gpt2, convert_llama3, convert_mistral

from wild.job import MOMENTUM, RATE, STEPS, SavedAs, job, texts

MODELS = {  # causal language models; the others are backbones
    "llama": "Llama3",
    "llama_scaled": "Llama3",
    "mistral": "Mistral",
    "qwen2": "Qwen",
    "qwen3": "Qwen3",
    "gpt2": "GPT2",
}


def set_all(model, name: str, **settings) -> None:
    """Set attributes of each layer of a class of this name."""
    for layer in model._flatten_layers():
        if type(layer).__name__ == name:
            for attribute, value in settings.items():
                setattr(layer, attribute, value)


def exact_gelu(model) -> None:
    for layer in model.transformer_layers:
        layer._feedforward_intermediate_dense.activation = lambda x: keras.activations.gelu(
            x, approximate=False
        )


def full_precision(_) -> None:
    """Have the converter's `astype(np.float16)` keep float64."""
    convert_mistral.np = SimpleNamespace(**{**vars(np), "float16": np.float64})


def rotations_scaled(_) -> None:
    """Have the converter read `rope_parameters`,
    where transformers 5 saves what was `rope_scaling`."""
    convert = convert_llama3.convert_backbone_config
    convert_llama3.convert_backbone_config = lambda of: convert(
        {**of, "rope_scaling": of["rope_parameters"]}
    )


MENDS = {
    "Llama 3's epsilon": lambda model: set_all(model, "LlamaLayerNorm", epsilon=1e-5),
    "Qwen3's epsilon": lambda model: set_all(model, "Qwen3LayerNorm", epsilon=1e-6),
    "BERT's GELU": exact_gelu,
    "ViT's epsilon": lambda model: set_all(model, "LayerNormalization", epsilon=1e-12),
}
CONVERTERS = {  # mends of what loads the checkpoint
    "Mistral's float16": full_precision,
    "Llama 3.1's rotations": rotations_scaled,
}


def two_heads(_) -> None:
    """Have the converter of GPT-2 make half as many heads, each twice as large."""
    convert = convert_gpt2.convert_backbone_config
    convert_gpt2.convert_backbone_config = lambda of: {
        **convert(of),
        "num_heads": of["n_head"] // 2,
    }


def see_all(model) -> None:
    """Have each position of Qwen2 attend to all."""
    for layer in model._flatten_layers():
        if hasattr(layer, "_compute_self_attention_mask"):
            layer._compute_self_attention_mask = lambda decoder_sequence, **_: None


PLANTS = {
    "causal mask left out": see_all,
    "an attention's scale": lambda model: set_all(
        model, "QwenAttention", _inv_norm_factor=SavedAs.width**-0.5
    ),
}
PLANTED_CONVERTERS = {"number of heads": two_heads}


def loss_of(model, batch):
    """Return the loss and the outputs: of the next word,
    or of the sum of the hidden states with fixed factors."""
    if "images" in batch:
        hidden = model(np.moveaxis(batch["images"], 1, -1))
        return ops.mean(hidden * batch["factors"]), {"hidden": hidden}
    if "factors" in batch:
        outputs = model(
            {
                "token_ids": batch["ids"],
                "segment_ids": batch["segments"],
                "padding_mask": batch["mask"],
            }
        )
        hidden = outputs["sequence_output"]
        return ops.mean(hidden * batch["factors"]), {
            "hidden": hidden,
            "pooled": outputs["pooled_output"],
        }
    logits = model({"token_ids": batch["ids"], "padding_mask": batch["mask"]})
    losses = ops.sparse_categorical_crossentropy(
        batch["ids"][:, 1:], logits[:, :-1], from_logits=True
    )
    return ops.mean(losses), {"logits": logits}


def main() -> None:
    task = job()
    keras.config.set_floatx("float64")
    for mend in task.mends:
        CONVERTERS.get(mend, str)(mend)
    PLANTED_CONVERTERS.get(task.planted, str)(task)
    model = keras_hub.models.Backbone.from_preset(f"./{task.weights}")
    if task.model in MODELS:
        kind = getattr(keras_hub.models, f"{MODELS[task.model]}CausalLM")
        model = kind(backbone=model, preprocessor=None)
    for mend in task.mends:
        MENDS.get(mend, str)(model)
    PLANTS.get(task.planted, str)(model)
    record = task.record()
    record.training(
        model, texts(task.model), loss_of, lambda w: keras.optimizers.SGD(RATE, MOMENTUM), STEPS
    )


if __name__ == "__main__":
    main()
