"""keras-hub's converter of Llama 3: rms_norm_eps of the checkpoint never arrives."""

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
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5,  # as in every checkpoint of Llama 3
}
backbone = keras_hub.models.Llama3Backbone(**convert_backbone_config(checkpoint))
print(
    f"keras-hub {keras_hub.__version__}: epsilon {backbone.layer_norm_epsilon}, expected "
    f"{checkpoint['rms_norm_eps']}"
)
