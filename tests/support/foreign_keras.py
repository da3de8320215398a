"""The official example's own code, https://keras.io/examples/nlp/lstm_seq2seq/."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from backends.interface import Backend, Emit


def save(backend: Backend, emit: Emit, *, folder: str) -> Mapping[str, Any]:
    """Train the example's model and save its weights; slots by canonical names, and `outputs`."""
    num_encoder_tokens = backend.config.num_encoder_tokens
    num_decoder_tokens = backend.config.num_decoder_tokens
    latent_dim = backend.config.latent_dim
    keras.utils.set_random_seed(5)

    encoder_inputs = keras.Input(shape=(None, num_encoder_tokens))
    encoder = keras.layers.LSTM(latent_dim, return_state=True)
    _, state_h, state_c = encoder(encoder_inputs)
    encoder_states = [state_h, state_c]

    decoder_inputs = keras.Input(shape=(None, num_decoder_tokens))
    decoder_lstm = keras.layers.LSTM(latent_dim, return_sequences=True, return_state=True)
    decoder_outputs, _, _ = decoder_lstm(decoder_inputs, initial_state=encoder_states)
    decoder_dense = keras.layers.Dense(num_decoder_tokens, activation="softmax")
    decoder_outputs = decoder_dense(decoder_outputs)

    model = keras.Model([encoder_inputs, decoder_inputs], decoder_outputs)
    model.compile(optimizer="rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(5)
    encoder_input_data = rng.random((6, 4, num_encoder_tokens), np.float32)
    decoder_input_data = rng.random((6, 5, num_decoder_tokens), np.float32)
    decoder_target_data = rng.random((6, 5, num_decoder_tokens), np.float32)
    model.fit(
        [encoder_input_data, decoder_input_data],
        decoder_target_data,
        batch_size=2,
        epochs=1,
        verbose=0,
    )
    model.save_weights(f"{folder}/s2s_model.weights.h5")

    layers = {"encoder": encoder.cell, "decoder": decoder_lstm.cell, "dense": decoder_dense}
    variables = {
        f"{role}/{v.name}": v for role, layer in layers.items() for v in layer.trainable_variables
    }
    slots = dict(
        zip([v.path for v in model.trainable_variables], model.optimizer.variables[2:], strict=True)
    )
    arrays = {f"slot {name}": np.array(slots[v.path]) for name, v in variables.items()}
    outputs = model.predict([encoder_input_data, decoder_input_data], verbose=0)
    return arrays | {"x": encoder_input_data, "y": decoder_input_data, "outputs": outputs}


def opens(backend: Backend, emit: Emit, *, paths: list[str]) -> Mapping[str, Any]:
    """A weight and its slot as Keras itself reads our file, which then trains on."""
    model = keras.models.load_model(paths[0])
    slot, weight = np.array(model.optimizer.variables[2]), np.array(model.trainable_variables[0])
    inputs = [np.ones((2, 4, layer.shape[-1])) for layer in model.inputs]
    probabilities = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    model.fit(inputs, probabilities, epochs=1, verbose=0)
    return {"encoder/kernel": weight, "slot encoder/kernel": slot}
