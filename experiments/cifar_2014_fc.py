"""The fully connected CIFAR-10 experiment of 2014, as the authors' code has it.

Goodfellow et al. 2014 (https://arxiv.org/abs/1406.2661), figure 2c: ReLU and
sigmoid layers of 8000 in a linear G, maxout D with dropout, images without
their mean and contrast. Both players move at once from the same images, noise
and masks, D's loss halved, classical momentum .5 -> .7 over 249 epochs,
learning rate .025 / 1.000004^t. The paper gives no end: 100 epochs of 400
steps here. TFDS holds CIFAR-10 in an order of its own, so the 40,000 training
images are not the authors'.

    pip install -e '.[tfds]' && ganjax train --config cifar_2014_fc

The paper has samples and no score; samples are shown at full contrast, so a
distance to the images as they are would say little. Not run to its end yet,
see results/README.md; for a GPU.
"""

import ml_collections

EPOCH = 400

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  generator=dict(hidden=(8, 8)),
  discriminator=dict(hidden=(8, 8)),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  rate = dict(name="exponential_decay", init_value=0.025, end_value=1e-6)
  # As in `mnist_mlp`: the rate falls by 1.000004 at each step.
  rate |= dict(decay_rate=1.000004**-250_000, transition_steps=250_000)
  momentum = dict(name="linear_staircase", init_value=0.5, end_value=0.7)
  momentum |= dict(num_stairs=249, stair_length=EPOCH)
  sgd = dict(name="classical_momentum", learning_rate=rate, momentum=momentum)
  splits = dict(train_split="train[:40000]", test_split="train[40000:]")
  wide = dict(hidden=(8000, 8000), activation="relu,sigmoid")
  linear = dict(output="linear", output_range=0.5)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=100 * EPOCH,
      batch_size=100,
      scaling="contrast",
      system=dict(name="gan", z_dim=100, simultaneous=True),
      dataset=dict(name="tfds", builder="cifar10", **splits),
      generator=dict(name="mlp") | wide | linear,
      discriminator=dict(name="mlp", hidden=(1600, 1600)),
      loss=dict(name="non_saturating", d_weight=0.5),
      g_opt=sgd,
      d_opt=sgd,
      samples=dict(every=5 * EPOCH, num=100),
      checkpoint=dict(every=5 * EPOCH, keep=2),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
