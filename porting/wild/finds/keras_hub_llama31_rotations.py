"""keras-hub's converter of Llama 3: the scaling of rotary embeddings
that transformers 5 saves is not read."""

import keras_hub
from keras_hub.src.utils.transformers.convert_llama3 import convert_backbone_config

checkpoint = {
    "vocab_size": 50,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "tie_word_embeddings": False,
    "rope_parameters": {  # transformers 4 saved it as "rope_scaling"
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
backbone = keras_hub.models.Llama3Backbone(**convert_backbone_config(checkpoint))
print(
    f"keras-hub {keras_hub.__version__}: factor {backbone.rope_frequency_adjustment_factor}, "
    "expected 8.0"
)
