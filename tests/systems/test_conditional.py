"""Labels in mlp's and dcgan's networks, and in the systems made of them."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import largest_difference
from verbs import Verb

from ganjax import data, errors, nets
from ganjax.nets.judged import Judged
from ganjax.objectives import losses, optimizers
from ganjax.runs import configs, report
from ganjax.runs import run as runs
from ganjax.systems.autoencoder import Autoencoder
from ganjax.systems.bigan import BiGAN
from ganjax.systems.gan import GAN
from ganjax.systems.vae import VAE
from ganjax.training import program, train

sample = Verb("sample")


SHAPE = (8, 8, 2)
RANDOM = np.random.RandomState(0)
LABELS: Any = np.array([0, 2, 2], np.int32)
OTHERS: Any = np.array([0, 1, 2], np.int32)
Z = RANDOM.normal(size=(3, 6)).astype(np.float32)
IMAGES = RANDOM.normal(size=(3, *SHAPE)).astype(np.float32)
SMALL = {"mlp": dict(hidden=()), "dcgan": dict(width=2)}
# Every net that labels go into, by concatenation or as they say.
NETS = [
  *((name, role, {}) for name in SMALL for role in ("generator", "encoder")),
  *((name, "discriminator", {}) for name in SMALL),
  ("dcgan", "generator", dict(conditioning="batch_norm")),
  ("dcgan", "discriminator", dict(conditional=False, head="projection")),
]

close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def make(name, role, shape=SHAPE, **fields) -> Any:
  if name == "dcgan" and role != "generator":
    fields = dict(norm="none") | fields
  fields = dict(num_classes=3, conditional=True) | SMALL[name] | fields
  return nets.get(name, role, shape, **fields)


def inputs(role) -> Any:
  return Z if role == "generator" else IMAGES


def fill(net, x, labels=LABELS) -> Any:
  """Returns variables of a net, random ones: no parameter is 0 or 1."""
  shapes = jax.eval_shape(net.init, jax.random.key(0), x, labels)

  def value(path, leaf):
    if "params" in jax.tree_util.keystr(path):
      return RANDOM.normal(0, 0.3, leaf.shape).astype(np.float32)
    return np.full(leaf.shape, "var" in jax.tree_util.keystr(path), np.float32)

  return jax.tree_util.tree_map_with_path(value, shapes)


def output_of(found) -> Any:
  """Returns images, codes, or of what a discriminator returns its logits."""
  return found.logits if isinstance(found, Judged) else found


def apply(net, variables, x, labels=LABELS) -> Any:
  run = jax.jit(functools.partial(net.apply, train=False))
  return output_of(run(variables, x, labels))


def num_params(name, role, shape, z_dim=0, num_classes=10, **fields):
  net = make(name, role, shape, num_classes=num_classes, **fields)
  x = jnp.zeros((2, z_dim) if role == "generator" else (2, *shape))
  args = x, jnp.zeros(2, jnp.int32)
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
  params = jax.eval_shape(net.init, keys, *args)["params"]
  return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("role", ["generator", "discriminator", "encoder"])
def test_a_label_of_one_layer_is_its_bias(role):
  """Of mlp: a row of the kernel, those of the classes after all others."""
  fields = {"generator": dict(output="linear"), "encoder": dict(outputs=4)}
  net = make("mlp", role, **fields.get(role, {}))
  x = inputs(role)
  variables = fill(net, x)
  layer, flat = variables["params"]["output"], x.reshape(3, -1)
  kernel, rows = np.split(layer["kernel"], [flat.shape[1]])
  assert len(rows) == 3
  expected = flat @ kernel + layer["bias"] + rows[LABELS]
  y = apply(net, variables, x)
  close(y.reshape(3, -1), expected)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("role", ["generator", "discriminator", "encoder"])
def test_a_label_is_a_wider_input(name, role):
  """Of one-hot vectors, or of channels that are constant."""
  x, one_hot = inputs(role), np.eye(3, dtype=np.float32)[LABELS]
  net = make(name, role)
  variables = fill(net, x)
  y = apply(net, variables, x)
  if role != "generator" and name == "mlp":
    x = x.reshape(3, -1)
  channels = one_hot.reshape(3, *(1,) * (x.ndim - 2), 3)
  channels = np.broadcast_to(channels, (*x.shape[:-1], 3))
  wide = np.concatenate([x, channels], -1)
  plain = make(name, role, conditional=False)
  close(apply(plain, variables, wide), y)


@pytest.mark.parametrize("name,role,fields", NETS)
def test_another_label_is_another_output(name, role, fields):
  """Of the example that has it, and of no other in evaluation mode."""
  net, x = make(name, role, **fields), inputs(role)
  variables = fill(net, x)
  moved = apply(net, variables, x) - apply(net, variables, x, OTHERS)
  moved = np.abs(moved).reshape(3, -1).max(1)
  assert moved[1] > 1e-3 and moved[0] == moved[2] == 0


@pytest.mark.parametrize("name,role", [(n, r) for n, r, f in NETS if not f])
def test_unconditional_nets_ignore_labels(name, role):
  net, x = make(name, role, conditional=False), inputs(role)
  variables = fill(net, x)
  same = jax.eval_shape(net.init, jax.random.key(0), x, None)
  assert jax.tree.map(np.shape, same) == jax.tree.map(np.shape, variables)
  np.testing.assert_array_equal(
    apply(net, variables, x), apply(net, variables, x, None)
  )


def test_parameter_counts():
  """Ten inputs more; two tables for a scale and a bias."""
  mnist: Any = (28, 28, 1)
  hidden: Any = dict(hidden=(1200, 1200))
  # 2,503,984 and 1,231,441 are those of 2014.
  count = functools.partial(num_params, "mlp", shape=mnist)
  assert count("generator", z_dim=100, **hidden) == 2_503_984 + 10 * 1200
  hidden = dict(hidden=(240, 240))
  assert count("discriminator", **hidden) == 1_231_441 + 10 * 1200
  # 3,806,080 and 2,765,568 are those of arch 0, its 4x4 pixels of 512
  # channels, and 4x4 kernels to 64 channels.
  cat: Any = (64, 64, 3)
  g: Any = dict(z_dim=128, width=64)
  count = functools.partial(num_params, "dcgan", shape=cat)
  assert count("generator", **g) == 3_806_080 + 10 * 16 * 512
  # Twice 512 + 256 + 128 + 64 numbers of norm, now for each class.
  by_norm = count("generator", conditioning="batch_norm", **g)
  assert by_norm == 3_806_080 + 9 * 2 * 960
  d: Any = dict(width=64, norm="batch")
  assert count("discriminator", **d) == 2_765_568 + 10 * 16 * 64
  d |= dict(conditional=False)
  projected = count("discriminator", head="projection", **d)
  assert projected == 2_765_568 + 10 * 8192
  assert count("discriminator", head="auxiliary", **d) == projected


@pytest.mark.parametrize("pack", [1, 3])
@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_projection_by_hand(pack, norm):
  """Where a class's vector is c times the kernel the logit grows by c."""
  fields: Any = dict(conditional=False, pack=pack, norm=norm)
  plain, x = make("dcgan", "discriminator", **fields), IMAGES
  net = make("dcgan", "discriminator", head="projection", **fields)
  rest = {} if norm == "none" else dict(spectral_skip=("head",))
  plain, net = plain.clone(**rest), net.clone(**rest)
  variables = fill(net, x)
  params = variables["params"]
  head = params["Dense_0"]
  factors = RANDOM.normal(size=(pack, 3)).astype(np.float32)
  rows = factors.reshape(-1, 1) * head["kernel"].T
  assert params["embed"]["kernel"].shape == rows.shape
  params = params | {"embed": {"kernel": rows}}
  logits = apply(net, variables | {"params": params}, x)
  before = apply(plain, variables, x)
  assert logits.shape == (3 // pack,)
  # Image i of a pack has the i-th row of factors.
  places = np.arange(3) % pack
  total = factors[places, LABELS].reshape(-1, pack).sum(1)
  close(logits - head["bias"], (1 + total) * (before - head["bias"]))


def test_class_logits_of_the_auxiliary_head():
  fields: Any = dict(conditional=False)
  net = make("dcgan", "discriminator", head="auxiliary", **fields)
  variables = fill(net, IMAGES)
  run = jax.jit(functools.partial(net.apply, train=False))
  judged = run(variables, IMAGES, None)
  plain = make("dcgan", "discriminator", **fields)
  close(judged.logits, apply(plain, variables, IMAGES))
  head, classes = (variables["params"][k] for k in ("Dense_0", "classes"))
  twice = {"kernel": 2 * head["kernel"].repeat(3, 1), "bias": classes["bias"]}
  params = variables["params"] | {"classes": twice}
  got = run({"params": params}, IMAGES, None).class_logits
  expected = 2 * (judged.logits - head["bias"])[:, None].repeat(3, 1)
  close(got, expected + np.broadcast_to(twice["bias"], (3, 3)))


def test_conditional_batch_norm_starts_without_labels():
  net = make("dcgan", "generator", (16, 16, 1), conditioning="batch_norm")
  variables = jax.jit(net.init)(jax.random.key(0), Z, LABELS)
  np.testing.assert_array_equal(
    apply(net, variables, Z), apply(net, variables, Z, OTHERS)
  )
  params = variables["params"]
  tables = [k for k in params if k.startswith("ConditionalBatchNorm")]
  assert len(tables) == 2
  for table in tables:  # A class's shift moves that class alone, each norm's.
    shift = np.zeros((3, params[table]["beta"]["embedding"].shape[1]))
    shift[0] = 1.0
    moved = params[table] | {"beta": {"embedding": np.float32(shift)}}
    y = apply(net, variables | {"params": params | {table: moved}}, Z)
    y = np.abs(y - apply(net, variables, Z)).max((1, 2, 3))
    np.testing.assert_array_equal(y > 1e-6, [True, False, False])


def test_labels_are_not_dropped():
  net = make("mlp", "discriminator", input_dropout=0.999999)
  variables = fill(net, IMAGES)
  layer = variables["params"]["output"]
  keys = {"dropout": jax.random.key(0)}
  logits = net.apply(variables, IMAGES, LABELS, rngs=keys).logits
  close(logits, layer["kernel"][-3:][LABELS][:, 0] + layer["bias"])


@pytest.mark.parametrize("name,role,fields", NETS)
def test_labels_follow_the_precision_of_the_inputs(name, role, fields):
  net, x = make(name, role, **fields), inputs(role)
  half = lambda tree: jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)
  variables = fill(net, x)
  variables = variables | {"params": half(variables["params"])}
  run = functools.partial(net.apply, train=False)
  output = output_of(jax.eval_shape(run, variables, half(x), LABELS))
  assert output.dtype == jnp.bfloat16


def part(name, role, **fields):
  return make(name, role, (8, 8, 1), **fields)


def arrays(n=24) -> Any:
  rng = np.random.RandomState(1)
  images = rng.randint(0, 256, (n, 8, 8, 1)).astype(np.uint8)
  return data.Arrays(images, np.arange(n, dtype=np.int32) % 3, 3)


def to_network(arrays):
  return arrays.replace(images=arrays.images / jnp.float32(255))


@pytest.mark.slow
def test_devices_do_not_change_a_conditional_update():
  """Labels go with their images, whichever device has them."""
  sgd = optimizers.get("sgd", learning_rate=0.1)
  states, rows = [], []
  for num_devices in 1, 4:
    devices = jax.devices()[:num_devices]
    system = GAN(
      generator=part("dcgan", "generator", conditioning="batch_norm"),
      discriminator=part(
        "dcgan", "discriminator", norm="batch", head="projection"
      ),
      loss=losses.get("non_saturating"),
      g_opt=sgd,
      d_opt=sgd,
      z_dim=4,
    )
    assert system.conditional
    first = jax.jit(system.init)(jax.random.key(0), to_network(arrays()))
    state, real = program.replicate((first, arrays()), devices)
    step = program.map_step(system.train_step, to_network, devices)
    for i in range(2):
      indices = data.batch_indices(0, i * 8, 8, 24).reshape(1, 8)
      indices = program.shard(indices, num_devices)
      state, metrics = step(state, real, indices, jax.random.key(1), i)
    states.append(jax.device_get(program.local(state)))
    rows.append(jax.device_get(metrics))
    moved = functools.partial(largest_difference, first.generator.params)
    assert moved(states[-1].generator.params) > 1e-4
  assert largest_difference(*states) < 1e-5
  assert largest_difference(*rows) < 1e-4


def systems():
  sgd = optimizers.get("sgd", learning_rate=0.1)
  encoder, decoder = part("mlp", "encoder"), part("mlp", "decoder")
  linear = decoder.clone(output="linear")
  return {
    "vae": lambda: VAE(encoder=encoder, decoder=linear, opt=sgd, z_dim=2),
    "autoencoder": lambda: Autoencoder(
      encoder=encoder, decoder=linear, opt=sgd, z_dim=2
    ),
    "bigan": lambda: BiGAN(
      generator=decoder,
      encoder=encoder,
      discriminator=part("mlp", "discriminator"),
      loss=losses.get("non_saturating"),
      g_opt=sgd,
      d_opt=sgd,
      z_dim=2,
    ),
  }


@pytest.mark.parametrize("name", systems())
def test_codes_and_reconstructions_by_label(name):
  """What conditional encoders and decoders are given reaches both."""
  system: Any = systems()[name]()
  real = to_network(arrays(8))
  assert system.conditional and system.num_classes == 3
  state = jax.jit(system.init)(jax.random.key(0), real)
  batch = jax.tree.map(lambda x: x[None], real)
  state, metrics = jax.jit(system.train_step)(state, batch, jax.random.key(1))
  assert all(np.isfinite(value) for value in metrics.values())
  labels, others = real.labels, np.int32(real.labels == 0)

  @jax.jit
  def outputs(labels):
    key, images = jax.random.key(2), real.images
    sampled = system.sample(state, key, 8, labels)
    rebuilt = system.reconstruct(state, images, labels)
    codes = system.encode(state, images, labels)
    decoded = system.decode(state, codes, labels)
    scores = system.score(state, images, labels)
    return [sampled, rebuilt, codes, scores, decoded]

  _, rebuilt, _, _, decoded = outputs(labels)
  close(rebuilt, decoded)
  for y, moved in zip(outputs(labels), outputs(others), strict=True):
    rows = np.abs(y - moved).reshape(8, -1).max(1)
    np.testing.assert_array_equal(rows > 0, labels != others)


SMOKE = "digits_cgan:smoke"


def train_smoke(workdir, num_steps):
  """Trains `digits_cgan`, neither scored nor drawn."""
  config = configs.load(SMOKE)
  config.update_from_flattened_dict(
    {"num_steps": num_steps, "evals": {}, "checkpoint.best": ""}
  )
  config.evals = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(report, "snapshot", lambda *_: None)
    return train.train(config, workdir, jax.devices()[:1], report=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A conditional run of three steps, with a stop after two."""
  workdir = tmp_path_factory.mktemp("run")
  train_smoke(workdir, 2)
  return train_smoke(workdir, 3)


@pytest.mark.slow
def test_a_resumed_run_is_the_unbroken_one(run, tmp_path):
  whole = train_smoke(tmp_path, 3)
  assert largest_difference(whole.state, run.state) == 0
  np.testing.assert_array_equal(whole.sample(9, 4), run.sample(9, 4))


def test_samples_by_label(run, tmp_path, capsys):
  loaded = runs.load(run.workdir)
  assert loaded.protocol()["labels"] == "balanced"
  drawn = loaded.sample(20)
  np.testing.assert_array_equal(drawn, loaded.sample(20, np.arange(20) % 10))
  sevens = loaded.sample(20, 7)
  same = (drawn == sevens).all((1, 2, 3))
  np.testing.assert_array_equal(same, np.arange(20) % 10 == 7)
  for wrong in 10, -1:
    with pytest.raises(errors.UserError, match=f"from 0 to 9, not {wrong}"):
      loaded.sample(2, wrong)
  out = tmp_path / "grid.png"
  call = [str(run.workdir), "--num", "4", "--out", str(out)]
  assert sample.main([*call, "--labels", "3"]) == 0 and out.exists()
  capsys.readouterr()
  assert sample.main([*call, "--labels", "3,12"]) == 2
  text = capsys.readouterr().err
  assert "classes from 0 to 9, not 12" in text and "Traceback" not in text


@pytest.mark.parametrize("name,role,fields", NETS)
@pytest.mark.parametrize("bad", [dict(num_classes=0), {}])
def test_labels_that_are_missing_are_named(name, role, fields, bad):
  net = make(name, role, **fields, **bad)
  labels = LABELS if bad else None
  match = "needs labels: give them, (choose|take) a dataset that has some"
  with pytest.raises(errors.UserError, match=match) as error:
    jax.eval_shape(net.init, jax.random.key(0), inputs(role), labels)
  assert "\n" not in str(error.value)
  assert "config.discriminator.head" in str(error.value) or name in str(
    error.value
  )


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_a_dataset_without_labels_is_named_before_training(
  player, tmp_path, monkeypatch
):
  config = configs.load(SMOKE)
  for other in {"generator", "discriminator"} - {player}:
    config[other].conditional = False
  monkeypatch.setattr(
    configs,
    "load_data",
    lambda *_: arrays().replace(labels=None, num_classes=0),
  )
  with pytest.raises(errors.UserError, match="'dcgan' with conditional=True"):
    train.train(config, tmp_path / "run", jax.devices()[:1])
  assert not (tmp_path / "run").exists()


def test_mistakes_are_named():
  def fails(match, role, **fields):
    net = make("dcgan", role, **fields)
    with pytest.raises(errors.UserError, match=match):
      jax.eval_shape(net.init, jax.random.key(0), inputs(role), LABELS)

  fails("did you mean 'batch_norm'", "generator", conditioning="batchnorm")
  fails("did you mean 'projection'", "discriminator", head="projecton")
  none = dict(num_classes=0, conditional=False)
  fails("head='auxiliary' needs", "discriminator", head="auxiliary", **none)
