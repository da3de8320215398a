"""keras-hub's BERT: the approximation of GELU by tanh,
where checkpoints say "gelu", the exact one."""

import keras_hub
from keras_hub.src.utils.transformers.convert_bert import convert_backbone_config

checkpoint = {
    "vocab_size": 50,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "hidden_size": 32,
    "intermediate_size": 48,
    "max_position_embeddings": 12,
    "hidden_act": "gelu",
}
backbone = keras_hub.models.BertBackbone(**convert_backbone_config(checkpoint))
activation = backbone.transformer_layers[0].activation
print(
    f"keras-hub {keras_hub.__version__}: {activation.__name__}(1.0) is {float(activation(1.0))}, "
    "expected 0.8413447"
)
