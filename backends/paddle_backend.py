"""The model in PaddlePaddle."""

from collections.abc import Callable

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn

from common.interface import Backend, BeamSearch, Forward, Metrics, Report, timed_steps
from common.tensors import Array, Batch, Batches, BatchTensors, Ids, one_hot
from common.weights import Arrays, ModelState, check_state


class Seq2Seq(nn.Layer):
    """The encoder's states start the decoder; the dense layer gives logits."""

    def __init__(self, num_encoder_tokens: int, num_decoder_tokens: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(num_encoder_tokens, latent_dim)
        self.decoder = nn.LSTM(num_decoder_tokens, latent_dim)
        self.dense = nn.Linear(latent_dim, num_decoder_tokens)

    def encode(self, encoder_input_data: Tensor, encoder_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """The states (N, H) after the last step, or after each row's own length."""
        _, (state_h, state_c) = self.encoder(encoder_input_data, sequence_length=encoder_lengths)  # (1, N, H) each
        return state_h[0], state_c[0]

    def forward(
        self, encoder_input_data: Tensor, decoder_input_data: Tensor, encoder_lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        state_h, state_c = self.encode(encoder_input_data, encoder_lengths)  # (N, H) each
        decoder_outputs, _ = self.decoder(decoder_input_data, (state_h[None], state_c[None]))  # (N, T_dec, H)
        logits = self.dense(decoder_outputs)  # (N, T_dec, V_dec)
        return logits, state_h, state_c


class PaddleBackend(Backend):
    framework = "paddle"
    profiled_by = "backends.profiling.paddle:PaddleProfiling"
    writer = "backends.native.paddle:write_paddle"
    reader = "backends.native.paddle:read_paddle"

    def sees_gpu(self) -> bool:
        return paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count() > 0

    def build(self) -> None:
        config = self.config
        paddle.set_device(self.device)
        paddle.set_default_dtype(config.dtype)
        self.model = Seq2Seq(config.num_encoder_tokens, config.num_decoder_tokens, config.latent_dim)
        encoder, decoder, dense = self.model.encoder, self.model.decoder, self.model.dense
        # Keras's LSTM has one bias. The second one stays zero: with both trained, their sum would step twice as far.
        # So the optimizer is not given it. An LSTM without it crashes Paddle 3.3 in the forward pass, and where it is
        # frozen, the backward pass fails (upstream 58158, 70231).
        for lstm in (encoder, decoder):
            nn.initializer.Constant(0.0)(lstm.bias_hh_l0)
        self.parameters = {
            "encoder/kernel": encoder.weight_ih_l0,
            "encoder/recurrent_kernel": encoder.weight_hh_l0,
            "encoder/bias": encoder.bias_ih_l0,
            "decoder/kernel": decoder.weight_ih_l0,
            "decoder/recurrent_kernel": decoder.weight_hh_l0,
            "decoder/bias": decoder.bias_ih_l0,
            "dense/kernel": dense.weight,
            "dense/bias": dense.bias,
        }
        train = self.train_config
        trained = list(self.parameters.values())
        self.optimizer = paddle.optimizer.RMSProp(train.learning_rate, train.rho, train.epsilon, parameters=trained)

    @property
    def slots(self) -> dict[str, Tensor]:
        """RMSprop's mean square of each parameter, once a state is loaded."""
        state = self.optimizer.state_dict()
        return {name: state[f"{parameter.name}_mean_square_0"] for name, parameter in self.parameters.items()}

    def load(self, state: ModelState) -> None:
        check_state(state, self.config)
        optimizer_state = {}
        for name, parameter in self.parameters.items():
            parameter.set_value(self._tensor(layout(name, state.weights[name])))
            slot = self._tensor(layout(name, state.mean_squares[name]))
            optimizer_state[f"{parameter.name}_mean_square_0"] = slot
            # RMSProp wants two more for each, which have no effect without momentum and centering.
            for unused in ("momentum", "mean_grad"):
                optimizer_state[f"{parameter.name}_{unused}_0"] = paddle.zeros_like(parameter)
        self.optimizer.set_state_dict(optimizer_state)

    def dump(self) -> ModelState:
        weights = {name: layout(name, self._array(parameter)) for name, parameter in self.parameters.items()}
        mean_squares = {name: layout(name, self._array(slot)) for name, slot in self.slots.items()}
        return ModelState(weights, mean_squares)

    @paddle.no_grad()
    def forward(self, batch: Batch) -> Forward:
        self.model.eval()  # as training=False in Keras
        logits, state_h, state_c = self._run(self._tensors(batch))
        return Forward(self._array(F.softmax(logits, -1)), self._array(state_h), self._array(state_c))

    def _run(self, batch: BatchTensors) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, T_dec, V_dec) and the encoder's states (N, H)."""
        lengths = self._lengths(batch.encoder_lengths)
        return self.model(batch.encoder_input_data, batch.decoder_input_data, lengths)

    def gradients(self, batch: Batch) -> tuple[float, Arrays]:
        self.model.train()  # as training=True in Keras
        loss, _, gradients = self._gradients(self._tensors(batch))
        named = zip(self.parameters, gradients, strict=True)
        return float(loss), {name: layout(name, self._array(gradient)) for name, gradient in named}

    def _gradients(self, batch: BatchTensors) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What `_loss` gives, and the loss's gradients by the parameters."""
        loss, counts = self._loss(batch)
        self.model.clear_gradients()  # and not the optimizer's alone, which does not know the second biases
        loss.backward()
        return loss, counts, [parameter.grad for parameter in self.parameters.values()]

    def _loss(self, batch: BatchTensors) -> tuple[Tensor, Tensor]:
        """The batch's loss, and (3,) for Metrics.of: summed loss, correct positions, correct real positions."""
        logits, _, _ = self._run(batch)
        # Written out, since Keras's own cross-entropy may clip small probabilities, and Paddle's clips far logits.
        # Paddle's log_softmax clips as well, and its logsumexp takes three times as long as these two lines.
        logits_below = logits - logits.detach().max(-1, keepdim=True)  # (N, T_dec, V_dec)
        log_probabilities = logits_below - logits_below.exp().sum(-1, keepdim=True).log()  # (N, T_dec, V_dec)
        cross_entropy = -paddle.sum(batch.decoder_target_data * log_probabilities, -1)  # (N, T_dec)
        loss_sum = paddle.sum(batch.target_weights * cross_entropy)
        right = paddle.argmax(logits, -1) == batch.decoder_target_ids  # (N, T_dec)
        correct = paddle.cast(right, self.config.dtype) * batch.target_weights  # (N, T_dec)
        counts = paddle.stack([loss_sum, paddle.sum(correct), paddle.sum(correct * batch.real_positions)])
        return loss_sum / batch.loss_positions, counts.detach()  # counts get no gradient

    def train(self, batches: Batches, report: Report) -> Metrics:
        self.model.train()
        return timed_steps(lambda batch: self._train_step(self._tensors(batch)), batches, self._stacked, report)

    def _train_step(self, batch: BatchTensors) -> tuple[Tensor, Tensor]:
        loss, counts, _ = self._gradients(batch)
        self.optimizer.step()
        return loss, counts

    @paddle.no_grad()
    def evaluate(self, batches: Batches) -> Metrics:
        self.model.eval()
        return timed_steps(lambda batch: self._loss(self._tensors(batch)), batches, self._stacked)

    @paddle.no_grad()
    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        self.model.eval()
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        return self._decode(state_h, state_c, max_length)

    @paddle.no_grad()
    def beam_search(self, encoder_ids: Ids, encoder_lengths: Ids, search: BeamSearch) -> None:
        self.model.eval()
        state_h, state_c = self._encode(encoder_ids, encoder_lengths)
        step = self._decoder_step()
        while not search.ended:
            rows, sampled = self._ids(search.rows), self._ids(search.sampled)  # (R,) each
            logits, state_h, state_c = step(sampled, state_h[rows], state_c[rows])  # (R, V_dec), (R, H), (R, H)
            search.extend(self._array(logits))

    def _encode(self, encoder_ids: Ids, encoder_lengths: Ids) -> tuple[Tensor, Tensor]:
        """The encoder's states (N, H)."""
        encoder_input_data = self._tensor(one_hot(encoder_ids, self.config.num_encoder_tokens, self.config.dtype))
        return self.model.encode(encoder_input_data, self._lengths(self._ids(encoder_lengths)))

    def _decoder_step(self) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """A function from the last characters (N,) and the states (N, H) to logits (N, V_dec) and the next states."""
        dense, (kernel, recurrent_kernel) = self.model.dense, self._kernels()

        def step(sampled: Tensor, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # addmm adds the product of the second and the third to the first.
            gates = paddle.addmm(F.embedding(sampled, kernel), state_h, recurrent_kernel)  # (N, 4H)
            i, f, g, o = gates.split(4, axis=1)  # (N, H) each: input, forget, candidate, output
            state_c = F.sigmoid(f) * state_c + F.sigmoid(i) * paddle.tanh(g)  # (N, H)
            state_h = F.sigmoid(o) * paddle.tanh(state_c)  # (N, H)
            # What `dense(state_h)` gives; for one row it takes half the time.
            return paddle.addmm(dense.bias, state_h, dense.weight), state_h, state_c

        return step

    def _kernels(self) -> tuple[Tensor, Tensor]:
        """The decoder's kernel (V_dec, 4H), with the bias added to its rows, and its recurrent kernel (H, 4H).

        The product of a one-hot row and the kernel is a row of the kernel, so decoding looks rows up.
        """
        decoder = self.model.decoder
        return (decoder.weight_ih_l0.T + decoder.bias_ih_l0).contiguous(), decoder.weight_hh_l0.T.contiguous()

    def _decode(self, state_h: Tensor, state_c: Tensor, max_length: int) -> Ids:
        """Greedy decoding from states (N, H): ids (N, L). A row that has ended is left out of the further steps."""
        step, num_rows, stop_token = self._decoder_step(), len(state_h), self.config.stop_token
        ids, length = np.full((num_rows, max_length), stop_token), 0
        rows = np.arange(num_rows)  # those that have not ended, n of N
        sampled = self._ids(np.full(num_rows, self.config.start_token))  # (n,)
        while length < max_length and len(rows):
            logits, state_h, state_c = step(sampled, state_h, state_c)  # (n, V_dec), (n, H), (n, H)
            sampled = logits.argmax(-1)  # (n,)
            ids[rows, length] = characters = sampled.numpy()  # (n,)
            length += 1
            goes_on = characters != stop_token  # (n,)
            if np.count_nonzero(goes_on) < len(rows):
                rows, kept = rows[goes_on], self._ids(np.flatnonzero(goes_on))
                sampled, state_h, state_c = (tensor.index_select(kept) for tensor in (sampled, state_h, state_c))
        return ids[:, :length]

    def _tensors(self, batch: Batch) -> BatchTensors:
        return batch.tensors(self._tensor, self._ids)

    def _tensor(self, array: Array) -> Tensor:
        return paddle.to_tensor(array)

    def _ids(self, ids: Ids) -> Tensor:
        return paddle.to_tensor(ids.astype(np.int64))

    def _array(self, tensor: Tensor) -> Array:
        return np.array(tensor.numpy())

    def _stacked(self, counts: list[Tensor]) -> Array:
        return self._array(paddle.stack(counts))


def layout(name: str, array: Array) -> Array:
    """A weight in Paddle's layout, given in the canonical one, which is Keras's, or the other way round."""
    return array if name == "dense/kernel" else np.ascontiguousarray(array.T)
