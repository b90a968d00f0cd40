"""DCGAN on CIFAR-10.

Radford et al. 2016 (https://arxiv.org/abs/1511.06434), layers as "arch 0" of
Jolicoeur-Martineau 2018 (https://arxiv.org/abs/1807.00734) at 32x32.

    pip install -e '.[tfds]' && ganjax train --config cifar_dcgan

Expected: colours and blobs after 400 steps (three minutes on two cores). The
whole run is for a GPU and was not made yet: see results/README.md.
"""

import ml_collections

SMOKE = dict(
  num_steps=2,
  batch_size=8,
  generator=dict(width=4),
  discriminator=dict(width=4),
  samples=dict(num=8),
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
  """Returns the config; `smoke` is two steps of a tiny one."""
  adam = dict(name="adam", learning_rate=2e-4, b1=0.5)
  config = ml_collections.ConfigDict(
    dict(
      num_steps=100_000,
      batch_size=64,
      system=dict(name="gan", z_dim=128),
      dataset=dict(name="tfds", builder="cifar10"),
      generator=dict(name="dcgan", width=128),
      discriminator=dict(name="dcgan", width=64),
      loss=dict(name="non_saturating"),
      g_opt=adam,
      d_opt=adam,
      ema=dict(decay=0.999),
      evals=dict(
        classes=dict(every=10_000, num_samples=10_000),
        frechet=dict(every=10_000, num_samples=10_000),
      ),
      samples=dict(every=1000, num=100),
      checkpoint=dict(every=5000, keep=3, best="frechet"),
    )
  )
  config.update({"": {}, "smoke": SMOKE}[arg])
  return config
