"""The one table of bounds: how far apart two sides may be at each stage."""

# A bound is so many times the left side's own noise, where that was measured: in float64 on request
# alone. 942 random correct pairs in float32, float16 and bfloat16 were off by up to 2.3 times the
# noise in outputs, 1.9 times in the loss, and in gradients, which are sums of more, 5.4 times.
NOISES, NOISES_OF_GRADIENTS = 4.0, 8.0
# The same where ONNX Runtime computes one side. In 40 random batches of the bundled run's encoder,
# an LSTM of 256 units, its states were off by up to 5.7 times the noise, and by 1.3 times in the
# middle; PyTorch's own were as far from those of float64.
NOISES_OF_EXPORTED = 16.0
# In float64 and float32 that holds for what a model computes, and in float32 for all noise that is
# above the table, as of gradients in a stack of 60 layers, where rounding makes 2e-2. What becomes
# of an optimizer's constants, which some frameworks keep in float32, and of gradients that are
# almost zero, of which Adam makes whole steps, is no noise of the left side. In coarser precisions
# it holds for all else; but updates have the bound of the weights' precision at least.
MEASURED = ("outputs", "loss", "gradients")
# The noise of a loss in units in its last place at least;
# correct pairs differed by 5.4 units at most.
UNITS_OF_LOSS = 4
# The same of gradients in float16 and bfloat16, where a single control may show less; correct pairs
# differed by 6.1 units of the type at most where a control showed 1.3.
UNITS_OF_GRADIENTS = 2
# The same for `rosetta-diff`, which compares two frameworks, neither with a reference, and layers
# of any kind. A comment has the scale, and the largest error of 51 correct pairs in float64 and in
# float32: 17 random small models of recurrent layers, attention, norms and convolutions in torch,
# Paddle and Keras, with ten steps of SGD, Adam or AdamW. In float64 nearly all of it comes of the ε
# that Paddle rounds to float32; other rounding makes 1e-15. Of the mistakes that people make the
# smallest is a constant in float32, which is off by up to 3e-8.
# Float16 has 8 times the digits of bfloat16.
TOLERANCES_OF_ANY_MODEL = {
    # To the tensor's largest value; 5.6e-11, 4.3e-7.
    "outputs": {"float64": 1e-9, "float32": 2e-5, "float16": 1e-2, "bfloat16": 5e-2},
    # Relative; 8.8e-13, 1.7e-7.
    "loss": {"float64": 1e-9, "float32": 5e-6, "float16": 2e-3, "bfloat16": 1e-2},
    # To the largest value; 3.6e-10, 1.4e-6.
    "gradients": {"float64": 1e-8, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1},
    # Weights after a step, to how far the tensor moved at most, beyond what becomes of the
    # gradients' errors; 0, 0. A learning rate that is rounded to float32 makes up to 6e-8.
    "updates": {"float64": 1e-9, "float32": 1e-3, "float16": 1e-1, "bfloat16": 5e-1},
    # Running means and variances after a step, likewise. Paddle rounds the momentum to float32,
    # which makes 2.4e-7 of 0.9; of another one the bound is twice what it makes, where that is
    # more.
    "moving": {"float64": 5e-7, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1},
    # Relative, each loss; 1.1e-12, 2.6e-7.
    "trajectory": {"float64": 1e-8, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2},
}
# How much wider these bounds are in float64 where a framework computes with a constant of float32,
# which is off by 3e-8 at most. Layers with such a constant were off by up to 7e-9 of their largest
# output.
COARSER = 30.0
WIDENED = ("outputs", "loss", "gradients", "moving", "trajectory")
# How far weights may differ at the start where one side's are rounded to the precision of the
# other's, relative to the tensor's largest value. Two records of one precision have the same
# numbers.
ROUNDED_WEIGHTS = {"float64": 0.0, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
# A tensor whose gradient is zero in theory, such as the bias of an attention's key, has a gradient
# of rounding alone. It is measured against this share of the largest gradient of the model. In
# float32 so has a bias before a batch normalization, whose gradient is a sum of many that cancel
# out: 3.6e-6 of the largest. Where noise is measured, the share is that of float32.
SMALLEST_SCALE = {"float64": 1e-2, "float32": 1e-1, "float16": 1e-1, "bfloat16": 1e-1}
# In float32 a control tells which gradients are no rounding: one unit in the weights moves them by
# this share of their own largest number at most. They are measured against a smaller share of the
# model's largest, by which the bound is about a unit in its last place.
DETERMINED = 1e-2
SMALLEST_DETERMINED = 1e-3
# Units in the last place of a tensor's largest number that rounding may make of any other one. So
# numbers far below the largest have a scale of their own where the type has digits for both.
ROUNDINGS = 16
