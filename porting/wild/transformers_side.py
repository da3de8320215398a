"""transformers' side of a pair: saves a small model with random weights as a checkpoint,
and records it.

keras-hub's own converter reads the checkpoint, so that it is the converter that is compared, too.
"""

import torch
import transformers
from torch.nn import functional as F

from wild.job import MOMENTUM, RATE, SEED, STEPS, SavedAs, job, texts

WIDTH, WORDS, LONGEST = SavedAs.width, SavedAs.words, SavedAs.longest
DECODER = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": LONGEST,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
}
ROPE = {  # of Llama 3.1, with fewer positions
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
ENCODER = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    **NO_DROPOUT,
}
# Class of the model, and its configuration as large checkpoints have it: 1e-5 is that of Llama 3.
MODELS = {
    "llama": ("LlamaForCausalLM", {**DECODER, "rms_norm_eps": 1e-5, "rope_theta": 500000.0}),
    "llama_scaled": (
        "LlamaForCausalLM",
        {**DECODER, "rms_norm_eps": 1e-6, "rope_parameters": ROPE},
    ),
    "mistral": (
        "MistralForCausalLM",
        {**DECODER, "rms_norm_eps": 1e-5, "sliding_window": None, "head_dim": 8},
    ),
    "qwen2": ("Qwen2ForCausalLM", {**DECODER, "rms_norm_eps": 1e-6, "use_sliding_window": False}),
    "qwen3": (
        "Qwen3ForCausalLM",
        {**DECODER, "rms_norm_eps": 1e-6, "head_dim": 16, "use_sliding_window": False},
    ),
    "gpt2": (
        "GPT2LMHeadModel",
        {
            "vocab_size": WORDS,
            "n_embd": WIDTH,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": LONGEST,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "bos_token_id": None,
            "eos_token_id": None,
        },
    ),
    "bert": ("BertModel", {**ENCODER, "vocab_size": WORDS, "max_position_embeddings": LONGEST}),
    "vit": (
        "ViTForImageClassification",
        {**ENCODER, "image_size": 32, "patch_size": 8, "num_labels": 5},
    ),
    "mamba2": (
        "Mamba2ForCausalLM",
        {
            "vocab_size": WORDS,
            "hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "num_heads": 4,
            "head_dim": 16,
            "state_size": 8,
            "n_groups": 1,
            "chunk_size": 4,
            "tie_word_embeddings": False,
        },
    ),
}


def loss_of(model, batch):
    """Return the loss and the outputs: of the next word,
    or of the sum of the hidden states with fixed factors."""
    given = {name: torch.from_numpy(batch[name]) for name in batch}
    if "images" in given:
        hidden = model(given["images"]).last_hidden_state
        return (hidden * given["factors"]).mean(), {"hidden": hidden}
    if "factors" in given:
        outputs = model(
            given["ids"], attention_mask=given["mask"], token_type_ids=given["segments"]
        )
        hidden = outputs.last_hidden_state
        return (hidden * given["factors"]).mean(), {
            "hidden": hidden,
            "pooled": outputs.pooler_output,
        }
    logits = model(given["ids"], attention_mask=given["mask"]).logits
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), given["ids"][:, 1:].flatten())
    return loss, {"logits": logits}


MENDS = {}


def main() -> None:
    task = job()
    name, settings = MODELS[task.model]
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.float32 if task.model == "mamba2" else torch.float64)
    kind = getattr(transformers, name)
    config = kind.config_class(**settings)
    config.dtype = torch.get_default_dtype()
    config.architectures = [name]
    model = kind(config)
    for path, weight in model.named_parameters():  # so that no gain is one and no bias is zero
        if weight.ndim == 1:
            center = 1.0 if "norm" in path.lower() or "ln_" in path else 0.0
            torch.nn.init.normal_(weight, center if path.endswith("weight") else 0.0, 0.2)
    for mend in task.mends:
        MENDS[mend](model)
    model.eval()
    model.save_pretrained(SavedAs.folder)
    model = model.vit if task.model == "vit" else model  # keras-hub's backbone has no classifier
    record = task.record()
    record.training(
        model, texts(task.model), loss_of, lambda w: torch.optim.SGD(w, RATE, MOMENTUM), STEPS
    )


if __name__ == "__main__":
    main()
