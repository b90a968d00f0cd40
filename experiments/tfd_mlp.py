"""The Toronto Face Database of 2014, in two stages as the authors' code has it.

Goodfellow et al. 2014 (https://arxiv.org/abs/1406.2661): 50 epochs of a G with
ReLU and sigmoid layers; then 22 of one with two more layers in front of it and
a new D. Simultaneous updates, D's loss halved, columns of weights at most
1.9365 long, momentum from .5 to .7 over 249 epochs, learning rate .05 /
1.000004^t, on the unlabelled images: an epoch is 980 batches of 100 here. The
database is not public: `ganjax/data/tfd.py` says whom to ask.

    ganjax train --config tfd_mlp --config.dataset.path=DIR
    ganjax train --config tfd_mlp:stage2 --config.dataset.path=DIR

Published: Parzen log-likelihood 2057 +- 26 over the folds. For a GPU; not run
yet, for want of the data. `smoke` draws digits.
"""

import ml_collections

EPOCH = 980
TINY = dict(hidden=(8, 8))
SMOKE = dict(num_steps=2, generator=TINY, discriminator=TINY)
STAGE_2 = dict(num_steps=22 * EPOCH, generator=dict(front=(8000, 100)))


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config of stage 1, of `stage2`, or `smoke`, a tiny stage 1."""
  rate = dict(name="exponential_decay", init_value=0.05, end_value=1e-6)
  # As in `mnist_mlp`: the rate falls by 1.000004 at each step.
  rate |= dict(decay_rate=1.000004**-250_000, transition_steps=250_000)
  momentum = dict(name="linear_staircase", init_value=0.5, end_value=0.7)
  momentum |= dict(num_stairs=249, stair_length=EPOCH)
  sgd = dict(name="classical_momentum", learning_rate=rate, momentum=momentum)
  sgd |= dict(max_column_norm=1.9365)
  g = dict(hidden=(8000, 8000), front=(), activation="relu,sigmoid")
  config = ml_collections.ConfigDict(
    dict(
      num_steps=50 * EPOCH,
      batch_size=100,
      scaling="unit",
      start_from="runs/tfd_mlp" if arg == "stage2" else "",
      system=dict(name="gan", z_dim=100, simultaneous=True),
      dataset=dict(name="tfd", path=""),
      generator=dict(name="mlp", sigmoid_bias=-2.0, output_nonzero=100) | g,
      discriminator=dict(name="mlp", hidden=(1200, 1200)),
      loss=dict(name="non_saturating", d_weight=0.5),
      g_opt=sgd,
      d_opt=sgd,
      evals=dict(parzen=dict(num_samples=10_000)),
      samples=dict(every=5 * EPOCH, num=100),
      checkpoint=dict(every=5 * EPOCH, keep=2),
    )
  )
  if arg == "smoke":
    config.dataset, config.evals = dict(name="digits"), dict(classes={})
  config.update({"": {}, "smoke": SMOKE, "stage2": STAGE_2}[arg])
  return config
