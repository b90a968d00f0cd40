"""BiGAN on MNIST, 28x28 as it comes.

Donahue et al. 2017 (https://arxiv.org/abs/1605.09782), section 4.1: fully
connected networks, 50 uniform latents, and D sees pixels and z as one vector.
Theirs have 1024 units, batch norm and 400 epochs, these have 10.

    pip install -e '.[tfds]' && python -m ganjax.main \
        --config experiments/mnist_bigan.py

Not yet run to its end: with these rates D saturates within 1,000 steps.
"""

import ml_collections

from ganjax import configs

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  generator=dict(hidden=(8,)),
  encoder=dict(hidden=(8,)),
  discriminator=dict(hidden=(8,)),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  config = configs.load("digits_bigan")
  config.update(
    num_steps=6000,
    system=dict(z_dim=50),
    generator=dict(hidden=(512, 512)),
    encoder=dict(hidden=(512, 512)),
    discriminator=dict(hidden=(256, 256)),
    samples=dict(every=2000, num=100),
    checkpoint=dict(every=3000),
  )
  config.dataset = dict(name="tfds", builder="mnist")
  for spec in config.evals.values():
    spec.every = 3000
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
