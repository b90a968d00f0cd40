"""A ring of eight Gaussians in the plane: mode collapse in plain sight.

Metz et al. 2017 (https://arxiv.org/abs/1611.02163), scaled to [-1, 1].

    python -m ganjax.main --config experiments/toy_ring.py

Expected: with this plain loss a mode is lost (seed 0: 7 of 8 after 10,000
steps) and points lie between the others; half a minute on two cores.
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
  adam = dict(name="adam", learning_rate=5e-4, b1=0.5)
  net = dict(name="mlp", hidden=(128, 128), init_range=0.1)
  plain = dict(pieces=1, input_dropout=0.0, dropout=0.0)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=10_000,
      batch_size=256,
      scaling="identity",
      system=dict(name="gan", z_dim=16),
      dataset=dict(name="toy", kind="ring", std=0.02),
      generator=net | dict(activation="relu", output="linear"),
      discriminator=net | plain | dict(activation="leaky_relu"),
      loss=dict(name="non_saturating"),
      g_opt=adam,
      d_opt=adam,
      evals=dict(classes=dict(every=1000)),
      samples=dict(every=500, num=1000),
      checkpoint=dict(every=2000, keep=2),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
