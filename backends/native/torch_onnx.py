"""Writes a model of PyTorch as two graphs of ONNX, the encoder and one step of the decoder."""

import logging
from pathlib import Path
from typing import Any

import torch
from rosetta_diff.diff import compare_records
from rosetta_diff.read.side import Side
from rosetta_diff.report import lines
from rosetta_record import Record, RecordError
from torch import Tensor, nn

from common.errors import RosettaError

ROWS, LENGTH = 3, 7  # of the batch of which the graphs are made; both may be others


class Encoder(nn.Module):
    """From one-hot characters (N, T, V_enc), all of which are read, to the states (N, H)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, encoder_input_data: Tensor) -> Any:
        return self.model.encode(encoder_input_data)


class Decoder(nn.Module):
    """From the last characters (N, V_dec) and the states (N, H)
    to logits (N, V_dec) and the next states."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, decoder_input_data: Tensor, state_h: Tensor, state_c: Tensor) -> Any:
        logits, state_h, state_c = self.model.decode(decoder_input_data[:, None], state_h, state_c)
        return logits[:, 0], state_h, state_c


def write_onnx(backend: Any, folder: Path, records: Path) -> list[str]:
    """Write encoder.onnx and decoder.onnx into `folder`. Record what torch computes, and what ONNX
    Runtime does, into NAME and NAME-onnx of `records`; with a second batch of other rows and
    another length. Raises RosettaError where ONNX Runtime fails, or does not compute what PyTorch
    computes."""
    # It tells of torchvision, which is not needed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.manual_seed(0)
    backend.model.eval()
    encoder_tokens = backend.config.num_encoder_tokens
    decoder_tokens = backend.config.num_decoder_tokens
    characters = (
        torch.randint(encoder_tokens, (ROWS, LENGTH)),
        torch.randint(decoder_tokens, (ROWS,)),
    )
    encoded, decoded = (
        torch.eye(size)[ids]
        for size, ids in zip((encoder_tokens, decoder_tokens), characters, strict=True)
    )
    state_h, state_c = torch.randn(2, ROWS, backend.config.latent_dim)
    axes = {0: torch.export.Dim("rows")}
    graphs = {
        "encoder": (
            Encoder(backend.model),
            {"encoder_input_data": encoded},
            ["state_h", "state_c"],
        ),
        "decoder": (
            Decoder(backend.model),
            {"decoder_input_data": decoded, "state_h": state_h, "state_c": state_c},
            ["logits", "next_state_h", "next_state_c"],
        ),
    }
    for name, (module, batch, outputs) in graphs.items():
        of_input = axes if name == "decoder" else {**axes, 1: torch.export.Dim("length")}
        file = folder / f"{name}.onnx"
        torch.onnx.export(
            module,
            kwargs=batch,
            f=file,
            input_names=[*batch],
            output_names=outputs,
            dynamic_shapes=dict.fromkeys(batch, of_input),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        shorter = {
            each: tensor[1:, 2:] if name == "encoder" else tensor[1:]
            for each, tensor in batch.items()
        }
        Record(records / name).inference(module, [batch, shorter], outputs)
        try:
            Record(records / f"{name}-onnx").inference(file, [batch, shorter], outputs)
        except RecordError as error:
            raise RosettaError(str(error)) from error
        diff = compare_records(Side(records / name), Side(records / f"{name}-onnx"))
        if not diff.passed:
            raise RosettaError(
                f"{name}.onnx does not compute what PyTorch computes: {' '.join(lines(diff))}"
            )
    return [f"{name}.onnx" for name in graphs]
