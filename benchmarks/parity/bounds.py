"""The bounds of parity: the largest error that a backend may have against the reference, by its precision."""

BOUNDS = {
    "state_h": {"float64": 1e-13, "float32": 1e-6},  # absolute
    "state_c": {"float64": 1e-13, "float32": 1e-6},  # absolute
    "probabilities": {"float64": 1e-13, "float32": 1e-6},  # absolute
    "loss": {"float64": 1e-13, "float32": 5e-7},  # relative
    "gradients": {"float64": 1e-12, "float32": 5e-6},  # relative to a tensor's largest number
    # Relative to a slot's largest number after a step. A slot is a mean of squares; squaring doubles relative errors.
    "slots": {"float64": 1e-12, "float32": 1e-5},
    "trajectory": {"float64": 1e-12, "float32": 1e-6},  # relative, for the loss of each step
    "scores": {"float64": 1e-11, "float32": 5e-4},  # absolute, of logarithms of probabilities
    "loss_sums": {"float64": 1e-12, "float32": 1e-6},  # relative, with large weights
}
# An updated weight may be off by this share of the tensor's largest update. In float32 the bound follows from the
# error of the gradient, see `comparison`.
UPDATES = 1e-10
# In float32 a backend's states and probabilities may be off by this many times the error of NumPy's own float32, and
# never by more than BOUNDS.
TIMES_FLOAT32 = 4.0
# A loss of a float32 training may be off by BOUNDS, or by this many times the largest error of NumPy's own float32
# where that is more. With 512 units correct backends were off by 7 times that error, 1.3e-6.
TIMES_FLOAT32_LOSSES = 16.0
# The mean loss of a float32 training may differ from the reference's by this many standard deviations, taken over
# NumPy's own float32 trainings with permuted hidden units. Correct backends needed up to 12 of them; mistakes of the
# optimizer need two million and more.
SPREADS = 30.0
# A decoded text may part from the reference's at a character where the reference's two highest probabilities differ
# by no more than NEAR_TIE. PARTED is the share of sentences that may do so. On the first sentences of fra-eng torch,
# Keras and Paddle part from the reference in one of 50, at 4.6e-5.
NEAR_TIE = {"float64": 0.0, "float32": 1e-4}
PARTED = {"float64": 0.0, "float32": 0.02}
# The share of a batch's positions that may be counted as right by one of the two alone, since they are near-ties.
MISCOUNTED = {"float64": 0.0, "float32": 3e-3}
