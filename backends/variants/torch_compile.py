"""`torch:compile`: the decoding of one sentence as one compiled loop, and of several with a cell written by hand.

A compiled product of one row takes half the time of torch's own, and between two steps nothing goes back to Python.
A batch gains nothing from compiling, since its time goes into its products. Training gains nothing, since
torch.compile leaves `nn.LSTM` as it is.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from backends.interface import HAND_WRITTEN
from backends.lesson_backend import DecoderStep, TorchBackend
from common.errors import refusing
from common.files import cache_folder
from common.tensors import Ids


@final
class TorchCompile(TorchBackend):
    decoder = HAND_WRITTEN

    def build(self) -> None:
        super().build()
        self.greedy_loop = compiled_greedy_loop()

    @torch.inference_mode()
    def translate(self, encoder_ids: Ids, encoder_lengths: Ids, max_length: int) -> Ids:
        if len(encoder_ids) > 1:
            return super().translate(encoder_ids, encoder_lengths, max_length)
        config, decoder, dense = self.config, self.model.decoder, self.model.dense
        weights = decoder.weight_ih_l0, decoder.weight_hh_l0, decoder.bias_ih_l0
        states = self._start(encoder_ids, encoder_lengths)
        length, ids = self.greedy_loop(
            *states, weights, (dense.weight, dense.bias), config.start_token, config.stop_token, max_length
        )
        return self.lesson.to_array(ids)[None, :length]

    def _decoder_step(self) -> DecoderStep:
        decoder, dense = self.model.decoder, self.model.dense
        # The product of a one-hot row and the kernel is a row of the kernel, so rows are looked up.
        kernel = (decoder.weight_ih_l0.T + decoder.bias_ih_l0).contiguous()  # (V_dec, 4H)
        recurrent_kernel = decoder.weight_hh_l0.T.contiguous()  # (H, 4H)

        @torch.inference_mode()
        def step(sampled: Ids, state_h: Tensor, state_c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            # addmm adds the product of the second and the third to the first.
            gates = torch.addmm(kernel.index_select(0, self._tensor(sampled)), state_h, recurrent_kernel)  # (N, 4H)
            i, f, g, o = gates.chunk(4, dim=1)  # (N, H) each: input, forget, candidate, output
            # addcmul does so element by element; sigmoid_ and tanh_ write in place.
            state_c = torch.addcmul(f.sigmoid_() * state_c, i.sigmoid_(), g.tanh_())  # (N, H)
            state_h = o.sigmoid_() * state_c.tanh()  # (N, H)
            return dense(state_h), state_h, state_c

        return step


def compiled_greedy_loop() -> Callable[..., tuple[Tensor, Tensor]]:
    """`greedy_loop`, compiled when it is first called, in ten seconds, or in three if it was compiled before.

    Raises CannotBeginError where the folder for compiled code cannot be written.
    """
    # Beside the downloads. By default torch writes to the temporary folder, which is removed with this process.
    cache = Path(os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "torchinductor")))
    remedy = "; name another folder in TORCHINDUCTOR_CACHE_DIR"
    with refusing(f"{cache}, where torch keeps what it compiles, cannot be written", remedy):
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    options = {
        "cpp_wrapper": True,  # by default Python code runs the loop, which takes a third of the time
        "cpp_cache_precompile_headers": False,  # four seconds in each process; so small a source gains less
    }
    return torch.compile(greedy_loop, fullgraph=True, options=options)


def greedy_loop(
    state_h: Tensor,
    state_c: Tensor,
    decoder: Sequence[Tensor],
    dense: Sequence[Tensor],
    start_token: int,
    stop_token: int,
    max_length: int,
) -> tuple[Tensor, Tensor]:
    """Decode one sentence from states (1, H): the number of characters, the last one included, and ids (max_length,).

    `decoder` holds the two kernels and the first bias of an `nn.LSTM`, `dense` kernel and bias of an `nn.Linear`.
    """
    kernel, recurrent_kernel, bias = decoder
    dense_kernel, dense_bias = dense
    positions = torch.arange(max_length, device=state_h.device)

    def going_on(length, sampled, state_h, state_c, ids):
        return (length < max_length) & (sampled[0] != stop_token)

    def step(length, sampled, state_h, state_c, ids):
        # Products of one row are written as sums. So each core always has the same part of the kernel, which stays in
        # its cache. kernel.T[sampled] is the product with a one-hot row.
        gates = kernel.T[sampled] + bias + (recurrent_kernel * state_h).sum(1)
        i, f, g, o = gates.chunk(4, dim=1)
        state_c = f.sigmoid() * state_c + i.sigmoid() * g.tanh()
        state_h = o.sigmoid() * state_c.tanh()
        sampled = ((dense_kernel * state_h).sum(1) + dense_bias).argmax(keepdim=True)
        ids = torch.where(positions == length, sampled, ids)
        return length + 1, sampled, state_h, state_c, ids

    length = torch.zeros((), dtype=torch.int64, device=state_h.device)
    sampled, ids = length.new_full((1,), start_token), torch.full_like(positions, stop_token)
    length, _, _, _, ids = torch.while_loop(going_on, step, (length, sampled, state_h, state_c, ids))
    return length, ids
