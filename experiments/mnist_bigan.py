"""BiGAN on MNIST, 28x28 as it comes.

Donahue et al. 2017 (https://arxiv.org/abs/1605.09782), section 4.1: 50 uniform
latents, and D sees pixels and z as one vector. Theirs is fully connected, with
batch norm and 400 epochs; here G and E are convolutional and 6 epochs will do.

    pip install -e '.[tfds]' && ganjax train --config mnist_bigan

Expected (3 seeds): 10 of 10 classes, a Fréchet distance of 22 in the features
of their classifier (held-out digits .66), reconstructions of 13.5 dB, in ten
minutes on one core.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  generator=dict(width=4),
  encoder=dict(width=4),
  discriminator=dict(hidden=(8,)),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  adam = dict(name="adam", b1=0.5)
  scored = dict(every=2000)
  drop = dict(input_dropout=0.0, dropout=0.3)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=6000,
      batch_size=64,
      system=dict(name="bigan", z_dim=50),
      dataset=dict(name="tfds", builder="mnist"),
      generator=dict(name="dcgan", width=32, output_bias=True),
      encoder=dict(name="dcgan", width=32, norm="none"),
      discriminator=drop | dict(name="mlp", hidden=(256, 256), init_range=0.05),
      loss=dict(name="non_saturating"),
      g_opt=adam | dict(learning_rate=5e-4),
      d_opt=adam | dict(learning_rate=1e-4),
      ema=dict(decay=0.999),
      evals=dict(frechet=scored, classes=scored, reconstruction=scored),
      samples=dict(every=1000, num=100),
      checkpoint=dict(every=2000, keep=2, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
