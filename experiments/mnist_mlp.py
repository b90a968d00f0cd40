"""The MNIST experiment of 2014, as the authors' code has it.

Goodfellow et al. 2014 (https://arxiv.org/abs/1406.2661): maxout D with
dropout, ReLU G with uniform noise, both moved at once from the same images,
noise and masks, D's loss halved, classical momentum .5 -> .7 over 249 epochs,
learning rate .1 / 1.000004^t. Their paper's alternating updates with fresh
noise are `--config.system.simultaneous=False`. Of both some seeds fail in
their first epochs, see results/parzen.md; `:averaged` keeps a mean of G's.
The paper gives no end: 100 epochs of 500 steps here. TFDS holds MNIST
shuffled, so the 50,000 training images are not the file's first 50,000.

    pip install -e '.[tfds]' && ganjax train --config mnist_mlp
"""

import ml_collections

EPOCH = 500

# Nothing else changes in training: the mean of all of G's from epoch 30 on.
AVERAGED = dict(ema=dict(decay=dict(name="running_mean", start=30 * EPOCH)))
SMOKE = dict(
  num_steps=2,
  batch_size=10,
  generator=dict(hidden=(8, 8)),
  discriminator=dict(hidden=(8, 8)),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config, `averaged`, or `smoke`: two steps of a tiny one."""
  rate = dict(name="exponential_decay", init_value=0.1, end_value=1e-6)
  # .1 / 1.000004^t; the power of so many steps at once is exact in float32.
  rate |= dict(decay_rate=1.000004**-250_000, transition_steps=250_000)
  momentum = dict(name="linear_staircase", init_value=0.5, end_value=0.7)
  momentum |= dict(num_stairs=249, stair_length=EPOCH)
  sgd = dict(name="classical_momentum", learning_rate=rate, momentum=momentum)
  splits = dict(train_split="train[:50000]", validation_split="train[50000:]")
  scored = dict(every=10 * EPOCH)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=100 * EPOCH,
      batch_size=100,
      scaling="unit",
      system=dict(name="gan", z_dim=100, latent="uniform", simultaneous=True),
      dataset=dict(name="tfds", builder="mnist", **splits),
      generator=dict(name="mlp"),
      discriminator=dict(name="mlp"),
      loss=dict(name="non_saturating", d_weight=0.5),
      g_opt=sgd,
      d_opt=sgd,
      evals=dict(classes={}, frechet=scored, parzen=scored),
      samples=dict(every=5 * EPOCH, num=100),
      checkpoint=dict(every=5 * EPOCH, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "averaged": AVERAGED, "smoke": SMOKE}[arg])
  return config
