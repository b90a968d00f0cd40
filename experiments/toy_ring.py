"""A ring of eight Gaussians in the plane: mode collapse in plain sight.

The data of Metz et al. 2017 (https://arxiv.org/abs/1611.02163), scaled to
[-1, 1], and the 256 dimensions of z of their code, with the plain game.

    ganjax train --config toy_ring

Expected (seeds 0, 1, 2): 7, 8 and 8 of 8 modes, KL of their shares 0.43, 0.30
and 0.01: the samples lie on an arc that stays open, or closes late.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  generator=dict(hidden=(8,)),
  discriminator=dict(hidden=(8,)),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  adam = dict(name="adam", learning_rate=1e-3, b1=0.0, b2=0.99)
  net = dict(name="mlp", hidden=(128, 128), init_range=0.1)
  plain = dict(pieces=1, input_dropout=0.0, dropout=0.0)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=8_000,
      batch_size=256,
      scaling="identity",
      system=dict(name="gan", z_dim=256),
      dataset=dict(name="toy", kind="ring", std=0.01),
      generator=net | dict(activation="relu", output="linear"),
      discriminator=net | plain | dict(activation="leaky_relu"),
      loss=dict(name="non_saturating"),
      g_opt=adam,
      d_opt=adam,
      ema=dict(decay=0.999),
      evals=dict(modes=dict(every=1000)),
      samples=dict(every=1000, num=2000),
      checkpoint=dict(every=2000, keep=2),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
