"""Writes Keras's .keras archives with Keras."""

from pathlib import Path

import keras
from keras import layers

from common.config import ModelConfig, TrainConfig
from common.weights import ModelState


def write_keras(path: Path, state: ModelState, config: ModelConfig, train: TrainConfig) -> None:
    """Save the model that the example has, from one-hot tensors to probabilities, ready for `fit` to go on."""
    encoder_inputs = keras.Input((None, config.num_encoder_tokens))
    decoder_inputs = keras.Input((None, config.num_decoder_tokens))
    _, state_h, state_c = layers.LSTM(config.latent_dim, return_state=True, name="encoder")(encoder_inputs)
    decoder = layers.LSTM(config.latent_dim, return_sequences=True, name="decoder")
    decoder_outputs = decoder(decoder_inputs, initial_state=[state_h, state_c])
    probabilities = layers.Dense(config.num_decoder_tokens, activation="softmax", name="dense")(decoder_outputs)
    model = keras.Model([encoder_inputs, decoder_inputs], probabilities)
    optimizer = keras.optimizers.RMSprop(train.learning_rate, rho=train.rho, epsilon=train.epsilon)
    model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
    optimizer.build(model.trainable_variables)
    # Weights and slots both stand in the order of the layers: encoder, decoder, dense.
    for variable, weight in zip(model.trainable_variables, state.weights.values(), strict=True):
        variable.assign(weight)
    for velocity, slot in zip(optimizer.variables[2:], state.mean_squares.values(), strict=True):
        velocity.assign(slot)
    model.save(path)
