"""Mistakes that porting to JAX makes, planted in its model file."""

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from backends.interface import Backend
from common.weights import ModelState
from tests.support.planted import ChangedFile


class SecondBiasTrained(ChangedFile):
    """Both products of a cell have a bias, as torch's have; their sum is what Keras's one is."""

    @staticmethod
    def change(file: Any) -> None:
        class Seq2Seq(file.Seq2Seq):
            def __init__(self, num_encoder_tokens, num_decoder_tokens, latent_dim):
                super().__init__(num_encoder_tokens, num_decoder_tokens, latent_dim)
                made = {"param_dtype": jnp.result_type(float), "rngs": nnx.Rngs(0)}
                self.encoder.cell.dense_i = nnx.Linear(num_encoder_tokens, 4 * latent_dim, **made)
                self.decoder.cell.dense_i = nnx.Linear(num_decoder_tokens, 4 * latent_dim, **made)

        file.Seq2Seq = Seq2Seq

    @staticmethod
    def second(model: Any) -> dict[str, Any]:
        """The second biases of a model, or what the optimizer keeps of them."""
        return {f"{name}/bias": getattr(model, name).cell.dense_i.bias for name in ("encoder", "decoder")}

    def load(self, state: ModelState) -> None:
        super().load(state)
        for bias in self.second(self.model).values():
            self.file.assign(bias, 0 * bias[...])
        for name, mean_square in self.second(self.optimizer.opt_state[0].nu).items():
            self.file.assign(mean_square, state.mean_squares[name])

    def dump(self) -> ModelState:
        state = super().dump()
        second = {name: self.file.to_array(bias) for name, bias in self.second(self.model).items()}
        summed = {name: state.weights[name] + bias for name, bias in second.items()}
        return ModelState(state.weights | summed, state.mean_squares)


class EpsilonOutsideTheRoot(ChangedFile):
    """RMSprop is optax's with epsilon where torch has it."""

    @staticmethod
    def change(file: Any) -> None:
        class RMSprop(file.RMSprop):
            def __init__(self, model, learning_rate, rho, epsilon):
                transformation = optax.rmsprop(learning_rate, decay=rho, eps=epsilon, eps_in_sqrt=False)
                nnx.Optimizer.__init__(self, model, transformation, wrt=nnx.Param)

        file.RMSprop = RMSprop


class EncoderNotTaught(ChangedFile):
    """No gradient goes through the states, so the encoder keeps its weights."""

    @staticmethod
    def change(file: Any) -> None:
        class Seq2Seq(file.Seq2Seq):
            def encode(self, *arguments):
                return jax.lax.stop_gradient(super().encode(*arguments))

        file.Seq2Seq = Seq2Seq


class WeightsOfTheFirstStep(Backend):
    """The compiled step finds the model outside of its arguments, so its first weights are constants of it."""

    def _train_step(self, batch: Any) -> tuple[Any, Any]:
        loss, counts, tree = self._gradients(batch)
        self.optimizer.update(self.model, tree)
        return loss, counts

    @cached_property
    def _gradients(self) -> Any:
        graph, state = nnx.split(self.model)
        arrays = nnx.as_pure(state)
        return jax.jit(lambda batch: self.file._gradients(nnx.merge(graph, arrays), batch))
