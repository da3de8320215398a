"""`paddle:cell`: decoding with a cell written by hand, which looks up rows of the kernel.

A step of Paddle's own layers prepares a whole LSTM for one character. Training is the lesson's.
"""

from typing import final

import paddle
import paddle.nn.functional as F
from paddle import Tensor

from backends.interface import HAND_WRITTEN
from backends.lesson_backend import DecoderStep, PaddleBackend
from common.tensors import Ids


@final
class PaddleCell(PaddleBackend):
    decoder = HAND_WRITTEN

    def _decoder_step(self) -> DecoderStep:
        decoder, dense = self.model.decoder, self.model.dense
        with paddle.no_grad():
            # The product of a one-hot row and the kernel is a row of the kernel, so rows are looked up.
            kernel = (decoder.weight_ih_l0.T + decoder.bias_ih_l0).contiguous()  # (V_dec, 4H)
            recurrent_kernel = decoder.weight_hh_l0.T.contiguous()  # (H, 4H)

        @paddle.no_grad()
        def step(sampled: Ids, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # addmm adds the product of the second and the third to the first.
            gates = paddle.addmm(F.embedding(self._tensor(sampled), kernel), state_h, recurrent_kernel)  # (N, 4H)
            i, f, g, o = gates.split(4, axis=1)  # (N, H) each: input, forget, candidate, output
            state_c = F.sigmoid(f) * state_c + F.sigmoid(i) * paddle.tanh(g)  # (N, H)
            state_h = F.sigmoid(o) * paddle.tanh(state_c)  # (N, H)
            # What `dense(state_h)` gives; for one row it takes half the time.
            return paddle.addmm(dense.bias, state_h, dense.weight), state_h, state_c

        return step
