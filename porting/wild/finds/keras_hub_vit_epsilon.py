"""keras-hub's converter of ViT: layer_norm_eps of the checkpoint never arrives."""

import keras_hub
from keras_hub.src.utils.transformers.convert_vit import convert_backbone_config

checkpoint = {
    "image_size": 32,
    "patch_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "hidden_size": 32,
    "intermediate_size": 48,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "qkv_bias": True,
    "layer_norm_eps": 1e-12,  # as in google/vit-base-patch16-224
}
backbone = keras_hub.models.ViTBackbone(**convert_backbone_config(checkpoint))
epsilon, expected = backbone.layer_norm_epsilon, checkpoint["layer_norm_eps"]
print(f"keras-hub {keras_hub.__version__}: epsilon {epsilon}, expected {expected}")
