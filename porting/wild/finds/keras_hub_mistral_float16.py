"""keras-hub's converter of Mistral: weights of float32 are rounded to float16,
whatever the model's dtype is."""

import keras_hub
import numpy as np
from keras_hub.src.utils.transformers.convert_mistral import convert_weights

backbone = keras_hub.models.MistralBackbone(
    vocabulary_size=50,
    num_layers=1,
    num_query_heads=4,
    num_key_value_heads=2,
    hidden_dim=32,
    intermediate_dim=48,
)


class Loader:
    """Gives 1e-8 and 70000 for each weight,
    as a checkpoint in float32 or bfloat16 may have them."""

    def port_weight(self, keras_variable, hf_weight_key, hook_fn=None):
        if hf_weight_key.endswith("embed_tokens.weight"):
            given = np.resize(np.array([0.1, 1e-8, 70000.0], "float32"), keras_variable.shape)
            loaded = hook_fn(given, keras_variable.shape)
            for number, number_loaded in zip(given[0, :3], loaded[0, :3], strict=True):
                print(
                    f"keras-hub {keras_hub.__version__}: {number!r} is loaded as "
                    f"{np.float32(number_loaded)!r}"
                )


convert_weights(backbone, Loader(), {})
