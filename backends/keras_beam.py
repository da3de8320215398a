"""Beam search in TensorFlow as one graph, all sentences and their beams at once."""

import math
from collections.abc import Callable

import tensorflow as tf

from common.config import ModelConfig


def beam_search(
    step: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]],
    states: tuple[tf.Tensor, tf.Tensor],
    config: ModelConfig,
    max_length: tf.Tensor,
    beam: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """From the encoder's states (N, H) to ids (N, beam, L) and scores (N, beam), as Backend.beam_search gives them.

    `step` is a step of the decoder, from characters and states to logits and the next states. It is given
    R = N * beam rows: all beams of the first sentence, then those of the second, and so on.
    """
    num_rows, dtype, tokens = tf.shape(states[0])[0], states[0].dtype, config.num_decoder_tokens
    state_h, state_c = (tf.repeat(state, beam, axis=0) for state in states)  # (R, H) each
    # All beams of a sentence begin alike, so in the first step only one of them may be continued.
    scores = tf.tile(tf.constant([[0.0] + [-math.inf] * (beam - 1)], dtype), [num_rows, 1])  # (N, beam)
    # A beam that has ended goes on with the stop token, which costs it nothing.
    only_stop = tf.math.log(tf.one_hot(config.stop_token, tokens, dtype=dtype))  # (V_dec,)
    first_rows = tf.range(num_rows)[:, None] * beam  # (N, 1), row of a sentence's first beam
    sampled = tf.fill([num_rows * beam], config.start_token)  # (R,)
    ended = tf.zeros([num_rows * beam], tf.bool)  # (R,)
    ids = tf.zeros([num_rows * beam, 0], tf.int32)  # (R, L)

    def condition(ids, sampled, ended, *_):
        return (tf.shape(ids)[1] < max_length) & ~tf.reduce_all(ended)

    def body(ids, sampled, ended, scores, state_h, state_c):
        logits, state_h, state_c = step(sampled, state_h, state_c)  # (R, V_dec), (R, H), (R, H)
        log_probabilities = tf.where(ended[:, None], only_stop, tf.nn.log_softmax(logits))  # (R, V_dec)
        # The score of each continuation. Those of a sentence's beams stand in one row, from which the best are taken.
        sums = tf.reshape(scores, [-1, 1]) + log_probabilities  # (R, V_dec)
        scores, best = tf.math.top_k(tf.reshape(sums, [num_rows, beam * tokens]), beam)  # (N, beam) each
        rows = tf.reshape(first_rows + best // tokens, [-1])  # (R,), the rows that are continued
        sampled = tf.reshape(best % tokens, [-1])  # (R,)
        state_h, state_c = tf.gather(state_h, rows), tf.gather(state_c, rows)  # (R, H) each
        ids = tf.concat([tf.gather(ids, rows), sampled[:, None]], axis=1)  # (R, L)
        ended = tf.gather(ended, rows) | (sampled == config.stop_token)
        return ids, sampled, ended, scores, state_h, state_c

    first = ids, sampled, ended, scores, state_h, state_c
    state = [None, config.latent_dim]
    shapes = tuple(map(tf.TensorShape, ([None, None], [None], [None], [None, beam], state, state)))  # of `first`
    ids, _, _, scores, _, _ = tf.while_loop(condition, body, first, shape_invariants=shapes)
    return tf.reshape(ids, [num_rows, beam, -1]), scores
