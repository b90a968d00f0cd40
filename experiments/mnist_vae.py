"""Variational autoencoder on MNIST, 28x28 as it comes.

Kingma & Welling 2014 (https://arxiv.org/abs/1312.6114): two hidden layers of
500 in each network and a Bernoulli likelihood of pixels that are drawn as 0 or
1 anew at every step, and once for the test images. The authors' code takes
them as they are: `--config.system.binarize=False`.

    pip install -e '.[tfds]' && ganjax train --config mnist_vae

Expected (3 seeds): test ELBO -95.0 nats (standard deviation .1), with 50 draws
-92.4, digits of all 10 classes; within 11 minutes on one core.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  encoder=dict(hidden=(8,)),
  decoder=dict(hidden=(8,)),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  scored = dict(every=4000)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=12_000,
      batch_size=100,
      scaling="unit",
      system=dict(name="vae", z_dim=20, binarize=True),
      dataset=dict(name="tfds", builder="mnist"),
      encoder=dict(name="mlp", hidden=(500, 500)),
      decoder=dict(name="mlp", hidden=(500, 500), output="linear"),
      opt=dict(name="adam", learning_rate=1e-3),
      ema=dict(decay=0.999),
      evals=dict(
        classes=scored,
        frechet=scored,
        log_likelihood=scored,
        reconstruction=scored,
      ),
      samples=dict(every=1000, num=100),
      checkpoint=dict(every=4000, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
