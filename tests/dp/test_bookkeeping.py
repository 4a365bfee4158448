# SPDX-License-Identifier: Apache-2.0
"""Tests of book-keeping: every layer and model against a loop of backward passes, in float64."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from consilium.dp import layer_rules
from consilium.dp.bookkeeping import booked, records_at_once
from consilium.dp.clip_kinds import Clip
from consilium.dp.clipping import PatientBatch, add_patients, clipped_sum, why_not_booked
from consilium.dp.layer_rules import Convolution, Product
from consilium.dp.norm_book import Budget, Method
from consilium.dp.per_patient import Chunk, Objective
from consilium.dp.sums import Sums
from consilium.learning.models import registry
from consilium.learning.models.standardised_convolution import StandardisedConv2d

torch.set_num_threads(1)

CLIP = 0.3
METHODS: tuple[Method | None, ...] = (None, "store", "ghost", "drop")
COUNTS = [1, 3, 1, 2]


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """A loss of each record whose gradient is neither constant nor small."""
    flat = outputs.flatten(1)
    steps = torch.arange(flat.shape[1], dtype=flat.dtype) % 3 - 1
    return (flat * steps).mean(1) * (1 + labels) + flat.square().mean(1)


class Widened(nn.Module):
    """A float64 model of float32 inputs, which are what a batch holds."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.double()

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.model(inputs.double())
        return outputs


def batch_of(counts: list[int], shape: tuple[int, ...], seed: int = 0) -> PatientBatch:
    torch.manual_seed(seed)
    patients = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    scale = torch.logspace(-1, 0.5, len(patients)).view(-1, *[1] * len(shape))
    return PatientBatch(
        inputs=torch.randn(len(patients), *shape) * scale,
        labels=torch.randint(0, 3, (len(patients),)),
        patients=patients,
    )


def loop(model: nn.Module, batch: PatientBatch, clip: float = CLIP) -> Tensor:
    """One float64 backward pass a patient: slow, and obviously what is meant."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for patient in torch.unique(batch.patients):
        rows = batch.patients == patient
        mean = loss(model(batch.inputs[rows]), batch.labels[rows]).mean()
        parts = torch.autograd.grad(mean, parameters, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([part.flatten() for part in parts])
        total += gradient * min(1.0, clip / max(1e-300, float(gradient.norm())))
    return total


def found_by(model: nn.Module, batch: PatientBatch, budget: Budget, clip: float = CLIP) -> Tensor:
    objective = Objective(model, loss)
    sums = Sums(objective.trained())
    add_patients(objective, batch, sums, clip=Clip(clip), budget=budget)
    return sums.bounded(math.inf, torch.float64)


def chunk_of(batch: PatientBatch) -> Chunk:
    """Every record as a patient of its own."""
    weights = torch.ones(len(batch.labels), 1)
    return Chunk(batch.inputs[:, None], batch.labels[:, None], weights)


def is_booked(model: nn.Module, batch: PatientBatch, budget: Budget) -> bool:
    """Whether one microbatch was added by book-keeping alone."""
    objective = Objective(model, loss)
    sums = Sums(objective.trained())
    return booked(objective, chunk_of(batch), sums, clip=Clip(CLIP), budget=budget)


def assert_exact(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).norm() <= 1e-10 * expected.norm()


# -- Every layer, in every form -------------------------------------------------------


class Indices(nn.Module):
    """Inputs as the rows of an embedding."""

    def __init__(self, layer: nn.Embedding) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        rows = (inputs.abs() * 7).long() % self.layer.num_embeddings
        outputs: Tensor = self.layer(rows)
        return outputs


class Along(nn.Module):
    """A layer whose inputs have their features, or the axis of records, elsewhere."""

    def __init__(self, layer: nn.Module, first: int, second: int) -> None:
        super().__init__()
        self.layer = layer
        self.axes = (first, second)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs.transpose(*self.axes))
        return outputs.transpose(*self.axes)


class Gained(nn.Module):
    """A convolution whose weight and bias are made of parameters, of which one makes both."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 3, 3))
        self.gain = nn.Parameter(torch.rand(3, 1, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        return F.conv2d(inputs, self.gain * self.weight, self.gain.flatten().square())


class Thirds(nn.Module):
    """Linear layers whose weights are parts of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, 6))

    def forward(self, inputs: Tensor) -> Tensor:
        first, second, third = self.weight.chunk(3)
        return F.linear(inputs, first) * F.linear(inputs, second) + F.linear(inputs, third)


class Attention(nn.Module):
    """Attention of a sequence to itself, or to its mirror image."""

    def __init__(self, *, mirrored: bool = False, **settings: bool) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(6, 2, batch_first=True, **settings)
        self.mirrored = mirrored

    def forward(self, inputs: Tensor) -> Tensor:
        other = inputs.flip(1) if self.mirrored else inputs
        outputs: Tensor = self.layer(inputs, other, other)[0]
        return outputs


FLAT, LINE, IMAGE, VOLUME = (6,), (4, 9), (4, 7, 6), (2, 5, 4, 5)
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 5), FLAT),
    "linear without bias": (lambda: nn.Linear(6, 5, bias=False), FLAT),
    "linear over places": (lambda: nn.Linear(9, 2), LINE),
    "linear over two axes of places": (lambda: nn.Linear(6, 20), IMAGE),
    "linear over transposed places": (lambda: Along(nn.Linear(4, 3), 1, 2), LINE),
    "linear over transposed records": (lambda: Along(nn.Linear(9, 3), 0, 1), LINE),
    "conv1d": (lambda: nn.Conv1d(4, 3, 3), LINE),
    "conv1d strided, padded, dilated": (lambda: nn.Conv1d(4, 3, 3, 2, 2, 2), LINE),
    "conv2d": (lambda: nn.Conv2d(4, 5, 3), IMAGE),
    "conv2d of one pixel": (lambda: nn.Conv2d(4, 5, 1), IMAGE),
    "conv2d without bias": (lambda: nn.Conv2d(4, 5, 3, padding=1, bias=False), IMAGE),
    "conv2d strided beyond its kernel": (lambda: nn.Conv2d(4, 3, 2, stride=3), IMAGE),
    "conv2d that leaves a margin": (lambda: nn.Conv2d(4, 3, 4, stride=2), IMAGE),
    "conv2d dilated": (lambda: nn.Conv2d(4, 3, 3, dilation=2, padding=3), IMAGE),
    "conv2d in groups": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), IMAGE),
    "conv2d by channels": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), IMAGE),
    "conv2d padded to the same size": (lambda: nn.Conv2d(4, 3, 3, padding="same"), IMAGE),
    "conv2d not square": (lambda: nn.Conv2d(4, 3, (1, 4), (2, 1), (0, 2), (1, 2)), IMAGE),
    "conv2d mirrored": (lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"), IMAGE),
    "conv3d": (lambda: nn.Conv3d(2, 3, 3, (1, 2, 1), 1, groups=1), VOLUME),
    "conv3d in groups": (lambda: nn.Conv3d(2, 4, 2, dilation=2, groups=2), VOLUME),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(4, 3, 3, 2, 1, 1), LINE),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(4, 3, 2, 2), IMAGE),
    "conv_transpose2d in groups": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2),
        IMAGE,
    ),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(2, 3, 2, (2, 1, 2), 1), VOLUME),
    "embedding": (lambda: Indices(nn.Embedding(11, 5)), FLAT),
    "embedding of images, padded": (lambda: Indices(nn.Embedding(5, 3, padding_idx=0)), IMAGE),
    "embedding padded from the end": (lambda: Indices(nn.Embedding(5, 3, padding_idx=-1)), LINE),
    "a standardised convolution": (lambda: StandardisedConv2d(4, 5, 3, stride=2), IMAGE),
    "a convolution of made weights": (Gained, IMAGE),
    "a linear layer with a norm of its own": (lambda: weight_norm(nn.Linear(6, 5)), FLAT),
    "parts of one weight": (Thirds, FLAT),
    "attention": (Attention, (3, 6)),
    "attention without bias": (lambda: Attention(bias=False), (3, 6)),
    "attention to another sequence": (lambda: Attention(mirrored=True), (5, 6)),
    "a transformer": (
        lambda: nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True),
        (4, 6),
    ),
    "group norm": (lambda: nn.GroupNorm(2, 4), IMAGE),
    "group norm of volumes": (lambda: nn.GroupNorm(1, 2), VOLUME),
    "layer norm": (lambda: nn.LayerNorm(9), LINE),
    "layer norm over two axes": (lambda: nn.LayerNorm((7, 6)), IMAGE),
    "layer norm without bias": (lambda: nn.LayerNorm(6, bias=False), FLAT),
    "instance norm 1d": (lambda: nn.InstanceNorm1d(4, affine=True), LINE),
    "instance norm 2d": (lambda: nn.InstanceNorm2d(4, affine=True), IMAGE),
    "instance norm 3d": (lambda: nn.InstanceNorm3d(2, affine=True), VOLUME),
}


def layer_model(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    torch.manual_seed(1)
    build, shape = LAYERS[name]
    return Widened(nn.Sequential(build(), nn.Tanh())), shape


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_that_of_a_loop(name: str, method: Method | None) -> None:
    model, shape = layer_model(name)
    batch = batch_of(COUNTS, shape)
    budget = Budget(records=64, method=method)

    assert is_booked(model, batch, budget)
    assert_exact(found_by(model, batch, budget), loop(model, batch))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_made_two_at_a_time_are_those_of_a_loop(
    name: str, method: Method | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_rules, "_MOST_AT_ONCE", 2)
    monkeypatch.setattr(layer_rules, "_FEW_BYTES", 1)
    model, shape = layer_model(name)
    batch = batch_of([1] * 5, shape)
    budget = Budget(records=64, method=method)

    assert is_booked(model, batch, budget)
    assert_exact(found_by(model, batch, budget), loop(model, batch))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["conv2d in groups", "conv3d", "conv_transpose2d in groups"])
def test_a_layer_behind_another_gets_the_right_gradient(name: str, method: Method | None) -> None:
    build, shape = LAYERS[name]
    model = Widened(nn.Sequential(nn.GroupNorm(1, shape[0]), build(), nn.Tanh()))
    batch = batch_of(COUNTS, shape)

    found = found_by(model, batch, Budget(records=64, method=method))

    assert_exact(found, loop(model, batch))


# -- Models ---------------------------------------------------------------------------

LARGE = (
    "nf-resnet18",
    "resnet18",
    "resnet50",
    "vgg11",
    "vgg11-gn",
    "vgg16",
    "vgg16-gn",
)  # millions of weights: a loop of them is slow
SHAPES: dict[str, tuple[int, ...]] = {
    "logistic": (13,),
    "squeezenet": (3, 40, 40),
    "squeezenet-average": (3, 40, 40),
    "small-cnn": (1, 16, 16),
    **dict.fromkeys(LARGE, (1, 32, 32)),
}
LOOPED = [
    pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
    for name in registry.RECORD_NAMES
]


@pytest.mark.parametrize("name", LOOPED)
def test_a_model_of_the_registry_is_that_of_a_loop(name: str) -> None:
    shape = SHAPES.get(name, (1, 28, 28))
    model = Widened(registry.build(name, shape=shape, classes=3, seed=0))
    batch = batch_of(COUNTS, shape)

    assert_exact(found_by(model, batch, Budget()), loop(model, batch))


@pytest.mark.parametrize("name", registry.RECORD_NAMES)
def test_a_model_of_the_registry_is_booked(name: str) -> None:
    shape = SHAPES.get(name, (1, 28, 28))
    model = registry.build(name, shape=shape, classes=3, seed=0)

    assert why_not_booked(model, loss, batch_of([1], shape)) is None


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    """Convolutions of any kind, normalised or not, then a linear layer over places."""
    torch.manual_seed(draw(st.integers(0, 99)))
    layers: list[nn.Module] = []
    channels = 2
    for _ in range(draw(st.integers(1, 3))):
        wider = draw(st.sampled_from([2, 4, 6]))
        kind = draw(st.sampled_from([nn.Conv2d, nn.ConvTranspose2d]))
        kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        groups = draw(st.sampled_from([1, 2]))
        layers.append(
            kind(channels, wider, kernel, stride, kernel // 2, groups=groups, bias=stride == 1)
        )
        if draw(st.booleans()):
            layers.append(nn.GroupNorm(2, wider))
        layers.append(nn.ReLU(inplace=draw(st.booleans())))
        channels = wider
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(2), nn.Linear(4, 3)]
    return Widened(nn.Sequential(*layers))


@settings(max_examples=60, deadline=None)
@given(networks(), st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from(METHODS))
def test_a_random_network_is_that_of_a_loop(
    model: nn.Module, counts: list[int], method: Method | None
) -> None:
    batch = batch_of(counts, (2, 8, 9))

    found = found_by(model, batch, Budget(records=7, method=method))

    assert_exact(found, loop(model, batch))


def convolutional() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Flatten(),
        nn.Linear(96, 3),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("records", range(1, 13))
def test_a_microbatch_of_any_size_gives_the_same_sum(records: int, method: Method | None) -> None:
    model = Widened(convolutional())
    batch = batch_of([1, 1, 2, 5, 3], (1, 9, 9))

    found = found_by(model, batch, Budget(records=records, method=method))

    assert_exact(found, loop(model, batch))


def test_gradients_that_may_not_be_held_give_the_same_sum() -> None:
    model = Widened(convolutional())
    batch = batch_of([1, 1, 2, 5, 3], (1, 9, 9))

    assert_exact(found_by(model, batch, Budget(gradient_bytes=0)), loop(model, batch))


def test_frozen_parameters_take_no_part() -> None:
    model = Widened(convolutional())
    for name in ("model.0.weight", "model.1.weight", "model.3.bias", "model.5.weight"):
        model.get_parameter(name).requires_grad = False
    batch = batch_of(COUNTS, (1, 9, 9))

    found = found_by(model, batch, Budget())

    assert found.shape == (4 + 4 + 216 + 3,)
    assert_exact(found, loop(model, batch))


def test_gradients_of_frozen_parameters_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Widened(convolutional())
    frozen = ("model.0.weight", "model.3.weight", "model.5.weight")
    for name in frozen:
        model.get_parameter(name).requires_grad = False
    batch = batch_of(COUNTS, (1, 9, 9))
    expected = loop(model, batch)

    def never(*_: object) -> Tensor:
        raise AssertionError("a frozen weight's gradient")

    for rule in (Convolution, Product):
        for form in ("gradients", "squares", "weighted"):
            monkeypatch.setattr(rule, form, never)

    assert_exact(found_by(model, batch, Budget()), expected)


class Twice(nn.Module):
    """Uses its weights twice, once by way of another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 6)
        self.outer = nn.Linear(6, 6)
        self.outer.weight = self.inner.weight

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.outer(torch.tanh(self.inner(torch.tanh(self.inner(inputs)))))
        return outputs


@pytest.mark.parametrize("method", METHODS)
def test_a_parameter_may_be_used_several_times(method: Method | None) -> None:
    model = Widened(Twice())
    batch = batch_of(COUNTS, (6,))
    budget = Budget(method=method)

    assert is_booked(model, batch, budget)
    assert_exact(found_by(model, batch, budget), loop(model, batch))


class Idle(nn.Module):
    """Has a layer that the output does not depend on, and one that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.ignored, self.idle = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        self.ignored(inputs)
        outputs: Tensor = self.used(inputs)
        return outputs


def test_layers_without_effect_have_gradient_zero() -> None:
    model = Widened(Idle())
    batch = batch_of(COUNTS, (6,))

    assert_exact(found_by(model, batch, Budget()), loop(model, batch))


# -- Formats --------------------------------------------------------------------------


def test_channels_last_gives_the_same_sum() -> None:
    model = Widened(convolutional())
    batch = batch_of(COUNTS, (1, 9, 9))
    expected = loop(model, batch)

    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it

    assert_exact(found_by(model, batch, Budget(records=4)), expected)


def test_autocast_to_half_precision_keeps_the_bound_and_the_direction() -> None:
    model, batch = convolutional(), batch_of([1] * 6, (1, 9, 9))
    exact = clipped_sum(model, loss, batch, l2_clip_norm=CLIP)

    with torch.autocast("cpu", torch.bfloat16):
        half = clipped_sum(model, loss, batch, l2_clip_norm=CLIP)
        alone = clipped_sum(model, loss, batch_of([1], (1, 9, 9)), l2_clip_norm=1e-3)

    assert alone.norm() <= 1e-3
    assert F.cosine_similarity(half, exact, dim=0) > 0.99


def test_threads_with_models_of_their_own_do_not_meet() -> None:
    models = [convolutional() for _ in range(4)]
    batches = [batch_of([1, 2, 1], (1, 9, 9), seed) for seed in range(4)]
    alone = list(map(float32_sum, models, batches))

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(float32_sum, models, batches))

    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def float32_sum(model: nn.Module, batch: PatientBatch) -> Tensor:
    return clipped_sum(model, loss, batch, l2_clip_norm=CLIP)


# -- The bound ------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [1e10, 1e18, 1e30, math.inf, -math.inf, math.nan])
def test_a_planted_patient_cannot_move_the_sum_beyond_the_clip_norm(
    value: float, method: Method | None
) -> None:
    model, both = convolutional(), batch_of([1, 1, 1, 1], (1, 9, 9))
    both.inputs[3] = value
    without = PatientBatch(
        inputs=both.inputs[:3], labels=both.labels[:3], patients=both.patients[:3]
    )
    budget = Budget(method=method)

    moved = clipped_sum(model, loss, both, l2_clip_norm=CLIP, budget=budget) - clipped_sum(
        model, loss, without, l2_clip_norm=CLIP, budget=budget
    )

    assert moved.isfinite().all()
    assert moved.double().norm() <= CLIP


class Cancelling(nn.Module):
    """A convolution of two places whose gradients are huge, opposite, and all but equal."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(8, 8, 1, bias=False)
        nn.init.zeros_(self.layer.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)
        return (outputs * torch.tensor([1.0, -1.0])).sum(2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1.0, 1e3, 1e6, 1e12])
@pytest.mark.parametrize("seed", range(5))
def test_what_rounding_hides_is_clipped_too(size: float, seed: int, method: Method | None) -> None:
    torch.manual_seed(seed)
    place = torch.randn(1, 8, 1) * size
    nudge = torch.randn(1, 8, 1) * size * 2.0 ** -float(20 + seed)
    batch = PatientBatch(
        inputs=torch.cat([place, place + nudge], dim=2),
        labels=torch.zeros(1, dtype=torch.int64),
        patients=torch.zeros(1, dtype=torch.int64),
    )

    found = clipped_sum(
        Cancelling(), loss, batch, l2_clip_norm=CLIP, budget=Budget(records=4, method=method)
    )

    assert found.double().norm() <= CLIP


@pytest.mark.parametrize("method", METHODS)
def test_no_patient_of_any_scale_exceeds_the_clip_norm(method: Method | None) -> None:
    model = convolutional()
    batch = batch_of([1] * 8, (1, 9, 9))
    batch.inputs.mul_(torch.logspace(-3, 9, 8)[:, None, None, None])

    for row in range(8):
        rows = slice(row, row + 1)
        alone = PatientBatch(
            inputs=batch.inputs[rows], labels=batch.labels[rows], patients=batch.patients[rows]
        )
        found = clipped_sum(model, loss, alone, l2_clip_norm=CLIP, budget=Budget(method=method))
        assert found.double().norm() <= CLIP


# -- What has no rule -----------------------------------------------------------------


class Hidden(torch.autograd.Function):
    """Multiplies, out of sight of the functions of torch."""

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor) -> Tensor:
        return inputs * weight

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        del output
        ctx.save_for_backward(*inputs)  # type: ignore[attr-defined]  # autograd's own class

    @staticmethod
    def backward(ctx: object, outputs: Tensor) -> tuple[Tensor, Tensor]:
        inputs, weight = ctx.saved_tensors  # type: ignore[attr-defined]  # autograd's own class
        return outputs * weight, (outputs * inputs).sum(tuple(range(inputs.dim() - 1)))

    generate_vmap_rule = True


class Obscure(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(6))

    def forward(self, inputs: Tensor) -> Tensor:
        apply: Callable[[Tensor, Tensor], Tensor] = Hidden.apply
        return apply(inputs, self.scale)


FALLING_BACK: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "a slope": (nn.PReLU, FLAT, "'model.0.weight' is used by prelu"),
    "a function of its own": (Obscure, FLAT, "'model.0.scale' is used by custom_function"),
    "attention with keys of its own": (
        lambda: Attention(add_bias_kv=True),
        (3, 6),
        "an attention with bias_k, bias_v",
    ),
    "batch norm of public statistics": (
        lambda: nn.BatchNorm2d(4).eval(),
        IMAGE,
        "'model.0.weight' is used by batch_norm",
    ),
    "one-sided padding": (lambda: nn.Conv2d(4, 3, 2, padding="same"), IMAGE, "one side more"),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", FALLING_BACK)
def test_what_has_no_rule_falls_back_and_is_named(name: str) -> None:
    build, shape, reason = FALLING_BACK[name]
    torch.manual_seed(0)
    model, batch = Widened(nn.Sequential(build(), nn.Tanh())), batch_of(COUNTS, shape)

    assert reason in str(why_not_booked(model, loss, batch))
    assert_exact(found_by(model, batch, Budget()), loop(model, batch))


def test_a_network_that_looks_across_records_cannot_mix_patients() -> None:
    class Centred(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs - inputs.mean(dim=0, keepdim=True)

    model = Widened(nn.Sequential(nn.Linear(6, 4), Centred(), nn.Linear(4, 3)))
    batch = batch_of([1] * 5, (6,))

    assert_exact(found_by(model, batch, Budget()), loop(model, batch))


# -- How many at once -----------------------------------------------------------------


def test_a_microbatch_is_as_large_as_its_largest_map_allows() -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 1), nn.Flatten(), nn.Linear(8 * 16 * 16, 2))

    found = records_at_once(
        Objective(model, loss), torch.zeros(9, 1, 16, 16), Budget(map_bytes=5 * 8 * 16 * 16 * 4)
    )

    assert found == 5


def test_a_network_that_needs_values_gets_a_fixed_microbatch() -> None:
    class Asking(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs if float(inputs.sum()) > 0 else -inputs

    assert records_at_once(Objective(Asking(), loss), torch.zeros(9, 4), Budget()) == 8
