"""keras-hub's Qwen3: layer_norm_epsilon does not reach the norms of queries and keys."""

import keras_hub

backbone = keras_hub.models.Qwen3Backbone(
    vocabulary_size=50,
    num_layers=1,
    num_query_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    hidden_dim=32,
    intermediate_dim=48,
    layer_norm_epsilon=1e-6,
)
attention = backbone.get_layer("transformer_layer_0")._self_attention_layer
for norm in (attention._query_dense_layer_norm, attention._key_dense_layer_norm):
    print(
        f"keras-hub {keras_hub.__version__}: {norm.name} has epsilon {norm.epsilon}, expected 1e-06"
    )
