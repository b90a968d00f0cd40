"""Residual networks: published counts, plain forms, conditions, heads."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganjax import errors, nets, state
from ganjax.nets import norms, resnet

SHAPE = (8, 8, 2)
RANDOM = np.random.RandomState(0)
LABELS: Any = np.array([0, 2, 2], np.int32)
Z = RANDOM.normal(size=(3, 6)).astype(np.float32)
IMAGES = RANDOM.normal(size=(3, *SHAPE)).astype(np.float32)

close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def make(role, shape=SHAPE, num_classes=3, **fields):
  return nets.get("resnet", role, shape, num_classes, **fields)


@functools.cache
def init(role, **fields):
  net = make(role, width=1, **fields)
  x = Z if role == "generator" else IMAGES
  return net, jax.jit(net.init)(jax.random.key(0), x, LABELS)


def fill(net, *args):
  """Returns variables of a net, random ones: no parameter is 0 or 1."""
  shapes = jax.eval_shape(net.init, jax.random.key(0), *args)

  def value(path, leaf):
    if "params" in jax.tree_util.keystr(path):
      return RANDOM.normal(0, 0.3, leaf.shape).astype(np.float32)
    return np.full(leaf.shape, "var" in jax.tree_util.keystr(path), np.float32)

  return jax.tree_util.tree_map_with_path(value, shapes)


def filled(role, **fields):
  """Returns a tiny net and random variables of it."""
  net = make(role, width=1, **fields)
  return net, fill(net, Z if role == "generator" else IMAGES, LABELS)


def shapes_of(role, size, num_classes=0, **fields) -> Any:
  """Returns the shapes of the output and of all variables."""
  net = make(role, (size, size, 3), num_classes, **fields)
  shape = (2, 128) if role == "generator" else (2, size, size, 3)
  args = jnp.zeros(shape), jnp.zeros(2, jnp.int32)
  return jax.eval_shape(net.init_with_output, jax.random.key(0), *args)


def num_params(*args, **fields):
  params = shapes_of(*args, **fields)[1]["params"]
  return sum(x.size for x in jax.tree.leaves(params))


def test_published_parameter_counts():
  """SNGAN at 32 px; the others by the papers' tables."""
  assert num_params("generator", 32) == 4_276_739
  assert num_params("discriminator", 32) == 1_053_825
  # 264,192 of the dense layer, 3 x 312,192 of blocks, 256 and 3,459.
  assert num_params("generator", 32, width=32) == 1_204_483
  # Two tables in the place of a scale and a bias, at 6 norms of 256 channels.
  conditional = dict(num_classes=10, conditional=True)
  assert num_params("generator", 32, **conditional) == 4_276_739 + 27_648
  projection = dict(num_classes=10, head="projection")
  assert num_params("discriminator", 32, **projection) == 1_053_825 + 1_280
  auxiliary = dict(num_classes=10, head="auxiliary")
  assert num_params("discriminator", 32, **auxiliary) == 1_053_825 + 1_290
  # At 7 norms: 4,128 and 32 x 512 more, 512 less.
  modulated = dict(norm="self_modulated")
  assert num_params("generator", 32, **modulated) == 4_276_739 + 7 * 20_000
  for row in str(resnet.__doc__).splitlines()[9:13]:
    size, _, g, _, d = row.replace(",", "").split("|")[1:6]
    assert num_params("generator", int(size)) == int(g)
    assert num_params("discriminator", int(size)) == int(d)


def conv_size(size, ins, outs):
  return (size**2 * ins + 1) * outs


def test_parameter_counts_by_the_tables_of_the_papers():
  """128 px: blocks of 1024, 512, 256, 128, 64 and of 64 to 1024, 1024."""

  def block(ins, hidden, outs, norm):
    convs = conv_size(3, ins, hidden) + conv_size(3, hidden, outs)
    shortcut = conv_size(1, ins, outs)
    return convs + shortcut + norm * 2 * (ins + hidden)

  channels = [1024, 1024, 512, 256, 128, 64]
  pairs = list(zip(channels, channels[1:], strict=False))
  expected = sum(block(i, o, o, True) for i, o in pairs)
  expected += 129 * 16 * 1024 + 2 * 64 + conv_size(3, 64, 3)
  assert num_params("generator", 128) == expected
  channels = [64, 128, 256, 512, 1024]
  pairs = list(zip(channels, channels[1:], strict=False))
  expected = sum(block(i, i, o, False) for i, o in pairs)
  expected += block(3, 64, 64, False) + 1025
  # The last block has no shortcut: its shape is that of its input.
  expected += 2 * conv_size(3, 1024, 1024)
  assert num_params("discriminator", 128) == expected


@pytest.mark.parametrize("size", [8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 128])
def test_shapes(size):
  image, _ = shapes_of("generator", size, width=2)
  (logits, _, _), _ = shapes_of("discriminator", size, width=2)
  assert image.shape == (2, size, size, 3) and image.dtype == jnp.float32
  assert logits.shape == (2,) and logits.dtype == jnp.float32


@pytest.mark.parametrize(
  "size,side", [(28, 7), (32, 8), (48, 3), (64, 2), (128, 4)]
)
def test_the_last_feature_map_has_the_size_of_the_papers(size, side):
  """6x6 pixels at the start of G at 48 px; sums of D are over `side`^2."""
  _, variables = shapes_of("generator", size, width=1)
  g_side = {28: 7, 48: 6}.get(size, 4)
  dense, block = (variables["params"][k] for k in ("Dense_0", "Block_0"))
  channels = block["Conv_0"]["kernel"].shape[2]
  assert dense["bias"].size == g_side**2 * channels
  net = make("discriminator", (size, size, 3), width=1)
  seen = []

  def spy(x, axis):
    seen.append(x.shape)
    return x.sum(axis)

  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(resnet.POOLINGS, "sum", spy)
    images = jnp.zeros((2, size, size, 3))
    jax.eval_shape(net.init, jax.random.key(0), images)
  assert seen[0][1:3] == (side, side)


BLOCKS = {
  "up": dict(features=5, resample="up"),
  "down": dict(features=5, resample="down"),
  "first": dict(features=5, resample="down", first=True),
  "wider": dict(features=5),
  "same": dict(features=3),
}


def plain_block(params, x, kind) -> Any:
  """The block as the papers draw it, of Flax's layers."""

  def conv(name, x) -> Any:
    layer = nn.Conv(params[name]["bias"].size, params[name]["kernel"].shape[:2])
    return layer.apply({"params": params[name]}, x)

  up = lambda x: x.repeat(2, 1).repeat(2, 2)
  pool = lambda x: nn.avg_pool(x, (2, 2), (2, 2))
  if kind == "up":
    y = conv("Conv_0", up(nn.relu(x)))
    y = conv("Conv_1", nn.relu(y))
    return y + conv("shortcut", up(x))
  if kind == "first":
    y = pool(conv("Conv_1", nn.relu(conv("Conv_0", x))))
    return y + conv("shortcut", pool(x))
  y = conv("Conv_1", nn.relu(conv("Conv_0", nn.relu(x))))
  if kind == "down":
    return pool(y) + pool(conv("shortcut", x))
  return y + (conv("shortcut", x) if kind == "wider" else x)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_equals_the_plain_form(kind):
  """Values, and gradients for the parameters and the input."""
  block = resnet.Block(**BLOCKS[kind])
  x = RANDOM.normal(size=(2, 4, 6, 3)).astype(np.float32)
  variables = fill(block, x)
  hidden = variables["params"]["Conv_0"]["bias"].size
  assert hidden == (5 if kind in ("up", "first") else 3)
  assert ("shortcut" in variables["params"]) == (kind != "same")

  ours = lambda params, x: block.apply({"params": params}, x)
  plain = functools.partial(plain_block, kind=kind)

  @jax.jit
  def compare(params, x):
    results = []
    for f in ours, plain:
      y, vjp = jax.vjp(f, params, x)
      weights = jnp.cos(jnp.arange(y.size)).reshape(y.shape)
      results.append((y, vjp(weights)))
    return results

  jax.tree.map(
    functools.partial(close, atol=1e-4), *compare(variables["params"], x)
  )


def test_initialisation():
  """Xavier's uniform, gain sqrt(2) in the main paths; SNGAN and WGAN-GP."""
  net = make("generator", (32, 32, 3), width=8)
  init = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 128)))["params"]
  block = init["Block_0"]
  xavier = lambda i, o, gain=1.0: gain * math.sqrt(6 / (i + o))
  for layer, bound in (
    (init["Dense_0"], xavier(128, 512)),
    (block["Conv_0"], xavier(9 * 32, 9 * 32, math.sqrt(2))),
    (block["Conv_1"], xavier(9 * 32, 9 * 32, math.sqrt(2))),
    (block["shortcut"], xavier(32, 32)),
    (init["Conv_0"], xavier(9 * 32, 9 * 3)),
  ):
    largest = jnp.abs(layer["kernel"]).max()
    assert 0.98 * bound < largest <= bound
    assert not layer["bias"].any()


@pytest.mark.parametrize(
  "role,fields",
  [
    ("generator", dict(conditional=True)),
    ("discriminator", dict(head="projection")),
  ],
)
def test_statistics_move_in_training_alone(role, fields):
  net, variables = init(role, **fields)
  params = variables["params"]
  stats = {k: v for k, v in variables.items() if k != "params"}
  x = Z if role == "generator" else IMAGES
  step = jax.jit(functools.partial(state.forward, net, key=jax.random.key(0)))
  y, new = step(params, stats, x, LABELS)
  for leaf in jax.tree.leaves(y):
    assert leaf.dtype == jnp.float32 and np.isfinite(leaf).all()
  assert new.keys() == stats.keys() and len(stats) == 1
  moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), new, stats)
  assert max(jax.tree.leaves(moved)) > 0
  apply = functools.partial(net.apply, train=False, mutable=[])
  assert jax.eval_shape(apply, variables, x, LABELS)[1] == {}


@pytest.mark.parametrize(
  "role,fields",
  [
    ("generator", dict(conditional=True)),
    ("generator", dict(norm="self_modulated", conditional=True)),
    ("generator", dict(norm="none")),
    ("discriminator", dict(head="projection")),
    ("discriminator", dict(head="auxiliary")),
  ],
)
def test_arrays_made_inside_follow_the_inputs(role, fields):
  """In half precision but for the running statistics."""
  net, variables = filled(role, **fields)
  half = lambda tree: jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)
  stats = {k: v for k, v in variables.items() if k != "params"}
  x = Z if role == "generator" else IMAGES
  apply = functools.partial(net.apply, mutable=[*stats])
  y, new = jax.eval_shape(
    apply, {"params": half(variables["params"]), **stats}, half(x), LABELS
  )
  assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(y))
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(new))


def evaluate(net, variables, x, labels=LABELS) -> Any:
  return jax.jit(functools.partial(net.apply, train=False))(
    variables, x, labels
  )


def test_unconditional_nets_ignore_labels():
  for role, x in ("generator", Z), ("discriminator", IMAGES):
    net, variables = filled(role, **dict(norm="none"))
    given = evaluate(net, variables, x), evaluate(net, variables, x, None)
    jax.tree.map(np.testing.assert_array_equal, *given)


class Alone(nn.Module):
  """A norm in training."""

  make: Callable

  @nn.compact
  def __call__(self, x, condition):
    return self.make(name="norm")(x, condition, True)


def test_norms_by_hand():
  """Normalised x, scaled by 1 + gamma and shifted by beta of each example."""
  x = RANDOM.normal(size=(3, 2, 2, 4)).astype(np.float32)
  normal = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)

  def compare(make_norm, condition, modulation):
    net = Alone(make_norm)
    variables = fill(net, x, condition)
    apply = functools.partial(net.apply, mutable=["batch_stats"])
    y, _ = jax.jit(apply)(variables, x, condition)
    gamma, beta = (
      rows[:, None, None] for rows in modulation(variables["params"]["norm"])
    )
    close(y, normal * (1 + gamma) + beta)

  compare(
    functools.partial(norms.ConditionalBatchNorm, num_classes=3),
    LABELS,
    lambda p: [p[k]["embedding"][LABELS] for k in ("gamma", "beta")],
  )

  def perceptron(params):
    layer, linear = params["Dense_0"], params["ConditionalBatchNorm_0"]
    assert layer["kernel"].shape == (6, 32)
    hidden = np.maximum(Z @ layer["kernel"] + layer["bias"], 0)
    return [hidden @ linear[k]["kernel"] for k in ("gamma", "beta")]

  compare(norms.SelfModulatedBatchNorm, Z, perceptron)


def tables_of(params):
  """Returns the arrays `[num_classes, d]` of embeddings by their path."""
  paths = jax.tree_util.tree_leaves_with_path(params)
  named = {jax.tree_util.keystr(path): leaf for path, leaf in paths}
  return {k: v for k, v in named.items() if "embed" in k}


@pytest.mark.parametrize(
  "role,norm,fields,num_tables",
  [
    # Two for each of the two norms of the only block.
    ("generator", "batch", dict(conditional=True), 4),
    ("generator", "self_modulated", dict(conditional=True), 2),
    ("discriminator", "none", dict(head="projection"), 1),
  ],
)
def test_gradients_reach_inputs_and_the_rows_of_labels(
  role, norm, fields, num_tables
):
  net, variables = filled(role, norm=norm, **fields)
  params = variables["params"]
  rest = {k: v for k, v in variables.items() if k != "params"}
  x = Z if role == "generator" else IMAGES

  @jax.jit
  def grads(params, x):
    def loss(params, x):
      y: Any = net.apply({"params": params, **rest}, x, LABELS, train=False)
      y = y if role == "generator" else y.logits
      return (y * jnp.cos(jnp.arange(y.size)).reshape(y.shape)).sum()

    return jax.grad(loss, (0, 1))(params, x)

  by_params, by_x = grads(params, x)
  assert (jnp.abs(by_x).reshape(3, -1).max(1) > 0).all()
  tables = tables_of(by_params)
  assert len(tables) == num_tables
  for table in tables.values():
    reached = np.abs(table).max(1) > 1e-6
    if role == "generator":
      # No image of class 1 was drawn.
      np.testing.assert_array_equal(reached, [True, False, True])
    assert reached[0] and reached[2]


def test_self_modulation_by_labels_starts_without_them():
  plain, variables = filled("generator", norm="self_modulated")
  net, fresh = init("generator", norm="self_modulated", conditional=True)
  tables = {k: fresh["params"][k] for k in ("shift", "scale")}
  assert not any(x.any() for x in jax.tree.leaves(tables))
  apply = jax.jit(functools.partial(net.apply, train=False))
  with_tables = lambda t: variables | {"params": variables["params"] | t}
  y = apply(with_tables(tables), Z, LABELS)
  close(y, evaluate(plain, variables, Z))
  # What is added to z for one class moves that class, and no other.
  moved = np.zeros((3, 6), np.float32)
  moved[0] = 1.0
  y -= apply(with_tables(tables | {"shift": {"embedding": moved}}), Z, LABELS)
  np.testing.assert_array_equal(
    np.abs(y).max((1, 2, 3)) > 1e-4, [True, False, False]
  )


def make_judge(net):
  """Returns `(variables, labels) -> Judged`, of `IMAGES`."""
  apply = jax.jit(functools.partial(net.apply, mutable=["intermediates"]))

  def run(variables, labels=LABELS):
    judged, new = apply(variables, IMAGES, labels)
    assert not new  # Nothing is sown.
    return judged

  return run


def test_heads_by_hand():
  """Logits are linear in the features; nothing is stored by `init`."""
  net, variables = filled("discriminator", norm="none")
  params = variables["params"]
  plain = make_judge(net)(variables)
  features = np.asarray(plain.features)
  assert features.shape == (3, 2) and plain.class_logits is None
  head = params["Dense_0"]
  close(plain.logits, features @ head["kernel"][:, 0] + head["bias"])

  net, made = filled("discriminator", norm="none", head="projection")
  assert made.keys() == {"params"}
  rows = np.array([[1.0, -2.0], [0.5, 3.0], [0.25, 4.0]])
  with_rows = {"params": params | {"embed": {"kernel": rows}}}
  projected = make_judge(net)(with_rows)
  inner = (rows[LABELS] * features).sum(-1)
  close(projected.logits, plain.logits + inner)
  close(projected.features, features)
  assert projected.class_logits is None

  net, made = filled("discriminator", norm="none", head="auxiliary")
  assert made.keys() == {"params"}
  classes = made["params"]["classes"]
  assert classes["kernel"].shape == (2, 3)
  # Labels are for the loss: the net needs none.
  with_classes = {"params": params | {"classes": classes}}
  same = make_judge(net)(with_classes, None)
  close(same.logits, plain.logits)
  close(same.features, features)
  expected = features @ classes["kernel"] + classes["bias"]
  close(same.class_logits, expected)

  net = make("discriminator", width=1, norm="none", pooling="mean")
  # The last feature map has 2x2 pixels.
  close(4 * make_judge(net)(variables).features, features)


def test_every_kernel_of_the_discriminator_is_normalised():
  """Also the table of the classes, by its norm as a matrix."""
  net, variables = init("discriminator", head="projection")
  run = make_judge(net)
  is_kernel = lambda path: "kernel" in jax.tree_util.keystr(path)
  scale = lambda path, x: 5.0 * x if is_kernel(path) else x
  params = jax.tree_util.tree_map_with_path(scale, variables["params"])
  judged = run(variables)
  close(run({**variables, "params": params}).logits, judged.logits)
  others = np.array([1, 1, 0], np.int32)
  table = np.asarray(variables["params"]["embed"]["kernel"])
  table = table / np.linalg.svd(table, compute_uv=False)[0]
  difference = table[LABELS] - table[others]
  expected = (difference * judged.features).sum(-1)
  close(judged.logits - run(variables, others).logits, expected, rtol=1e-3)
  # Eight convolutions, two shortcuts; the head and the table.
  for skip, num_normalised in ((), 12), (("head",), 10):
    _, shapes = shapes_of(
      "discriminator", 8, 3, head="projection", spectral_skip=skip
    )
    assert len(jax.tree.leaves(shapes["spectral"])) == 3 * num_normalised


def test_mistakes_are_named():
  def fails(match, role, shape=SHAPE, labels=LABELS, num_classes=3, **fields):
    net = make(role, shape, num_classes, **fields)
    x = jnp.zeros((3, 6) if role == "generator" else (3, *shape))
    with pytest.raises(errors.UserError, match=match):
      jax.eval_shape(net.init, jax.random.key(0), x, labels)

  for role in "generator", "discriminator":
    for shape in (18, 18, 1), (32, 28, 3), (4, 4, 1), (256, 256, 3), (2,):
      fails("square images", role, shape)
  missing: list[dict[str, Any]] = [dict(labels=None), dict(num_classes=0)]
  for bad in missing:
    fails("conditional=True needs", "generator", conditional=True, **bad)
    fails("head='projection' needs", "discriminator", head="projection", **bad)
  fails(
    "head='auxiliary' needs", "discriminator", head="auxiliary", num_classes=0
  )
  fails("norm='batch'", "generator", norm="none", conditional=True)
  fails("did you mean 'batch'", "generator", norm="bach")
  fails("did you mean 'spectral'", "discriminator", norm="spectrl")
  fails("unknown norm 'batch'", "discriminator", norm="batch")
  fails("did you mean 'projection'", "discriminator", head="projecton")
  fails("did you mean 'mean'", "discriminator", pooling="men")
  fails("did you mean 'head'", "discriminator", spectral_skip=("haed",))
