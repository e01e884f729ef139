"""Keras objects in plain torch loops, against what Keras itself does with them."""

from __future__ import annotations

import copy
import csv
import io
import math
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")
if keras.config.backend() != "torch":
    pytest.skip("Keras runs on another backend here", allow_module_level=True)

from neumap.callbacks import CallbackList, EarlyStopping  # noqa: E402 - after the choice above
from neumap.keras_bridge import (  # noqa: E402
    KerasCallbacks,
    KerasModule,
    copy_keras,
    is_keras_callback,
    is_keras_loss,
    is_keras_model,
    is_keras_optimizer,
    keras_optimizer_factory,
    loss_function,
    split_fit_kwargs,
    wrap_callbacks,
)

# keras imports and compares numpy's deprecated spellings in some versions
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*")

layers = keras.layers
UNIT = keras.constraints.UnitNorm()
SHAPE = (6,)


class Subclassed(keras.Model):
    """Has no get_config, a list of layers and dropout: Keras cannot copy it."""

    def __init__(self, width):
        super().__init__()
        self.blocks = [layers.Dense(width, activation="relu"), layers.Dense(width)]
        self.dropout = layers.Dropout(0.5)
        self.norm = layers.BatchNormalization()
        self.out = layers.Dense(2)

    def call(self, x, training=False):
        for block in self.blocks:
            x = block(x)
        return self.out(self.dropout(self.norm(x), training=training))


class Configured(Subclassed):
    def __init__(self, width, **kwargs):
        super().__init__(width)
        self.width = width

    def get_config(self):
        return {"width": self.width}


class GuessedWrong(Subclassed):
    """Keras guesses the config of this one: width 3 whatever was passed."""

    def __init__(self, width=3, **kwargs):
        super().__init__(width)


class BuiltLate(keras.Model):
    """Makes its layer, and so draws its seed, when it is built."""

    def build(self, input_shape):
        self.out = layers.Dense(2)
        self.out.build(input_shape)

    def call(self, x):
        return self.out(x)


def sequential():
    return keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(2)])


def built_sequential():
    return keras.Sequential(
        [keras.Input(SHAPE), layers.Dense(8), layers.Dropout(0.5), layers.Dense(2)]
    )


def functional():
    x = keras.Input(SHAPE)
    h = layers.Dense(8, activation="relu")(x)
    return keras.Model(x, layers.Dense(2)(keras.ops.relu(h + layers.Dense(8)(h))))


def compiled():
    model = built_sequential()
    model.compile("adam", "mse")
    model.fit(np.ones((8, *SHAPE)), np.ones((8, 2)), verbose=0)
    return model


MODELS = {
    "sequential": sequential,
    "built sequential": built_sequential,
    "functional": functional,
    "compiled": compiled,
    "subclassed": lambda: Subclassed(8),
    "configured": lambda: Configured(8),
    "layer": lambda: layers.Dense(2),
}
SAVABLE = [name for name in MODELS if name != "subclassed"]
CUSTOM = {"Configured": Configured, "BuiltLate": BuiltLate}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


def batch(n=32, shape=SHAPE) -> Tensor:
    return torch.randn((n, *shape), generator=torch.Generator().manual_seed(1))


def trained(module: nn.Module, n_steps=30, optimizer=None) -> list[float]:
    """Plain torch loop towards the first two columns of the rows."""
    x = batch()
    y = 3 * x[:, :2]
    optimizer = optimizer or torch.optim.Adam(module.parameters(), 1e-2)
    losses = []
    for _ in range(n_steps):
        loss = (module(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# --- what an object is ----------------------------------------------------------------------


def test_kinds_of_keras_objects():
    objects = {
        is_keras_model: [sequential(), Subclassed(3), functional(), layers.Dense(2)],
        is_keras_optimizer: [keras.optimizers.Adam(), keras.optimizers.Muon()],
        is_keras_loss: [keras.losses.MeanSquaredError(), keras.losses.mean_squared_error],
        is_keras_callback: [keras.callbacks.EarlyStopping(), keras.callbacks.History()],
    }
    others = [nn.Linear(1, 1), torch.optim.SGD([torch.ones(1)]), nn.MSELoss(), EarlyStopping(), 3]
    for question in objects:
        for kind, instances in objects.items():
            assert all(question(obj) == (kind is question) for obj in instances), question
        assert not any(question(obj) for obj in others), question


def test_asking_does_not_import_keras():
    code = (
        "import sys, neumap.keras_bridge as b; b.is_keras_model(1); b.is_keras_callback(1);"
        "b.split_fit_kwargs({'verbose': 0}); sys.exit('keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_another_backend_is_refused_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(
        RuntimeError, match=r"must be 'torch', got 'jax'.*KERAS_BACKEND=torch before"
    ):
        KerasModule(sequential(), SHAPE)
    with pytest.raises(RuntimeError, match="KERAS_BACKEND=torch"):
        keras_optimizer_factory(keras.optimizers.Adam())


def test_another_backend_is_refused_before_keras_is_imported():
    code = "from neumap.keras_bridge import loss_function; loss_function('mse')"
    environment = os.environ | {"KERAS_BACKEND": "tensorflow"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "RuntimeError: The backend of Keras must be 'torch', got" in done.stderr


# --- copies ---------------------------------------------------------------------------------


def test_copy_shares_nothing_and_computes_the_same(model):
    was_built = model.built
    new = copy_keras(model)
    assert (model.built, new.built) == (was_built, was_built)
    x = batch()
    y = new(x)
    assert model.built == was_built  # building the copy did not build the original
    before = model(x).detach().clone()
    torch.testing.assert_close(y, before, rtol=0, atol=0)  # equal seeds of the initializers, too
    assert not {id(v.value) for v in model.variables} & {id(v.value) for v in new.variables}
    for variable in new.trainable_variables:
        variable.assign(variable + 1.0)
    assert not torch.equal(new(x), before)
    assert torch.equal(model(x), before)


def test_copy_is_what_keras_copies_wrongly():
    """The reason for copying by hand. Should Keras's own copy become right, use it."""
    original = GuessedWrong(width=8)
    original(batch())
    assert copy_keras(original).count_params() == original.count_params()
    with pytest.raises(Exception):  # noqa: B017, PT011 - of many kinds, in Keras
        copy.deepcopy(original)


def test_layers_added_to_a_copy_are_tracked():
    model = keras.Sequential([layers.Dense(4)])
    new = copy_keras(model)
    new.add(layers.Dense(2))
    new(batch())
    assert len(new.trainable_variables) == 4
    assert len(model.layers) == 1


def test_copy_knows_which_variables_it_tracks():
    layer = layers.Dense(2)
    layer.build((None, *SHAPE))
    new = copy_keras(layer)
    del new.bias
    assert [len(new.weights), len(layer.weights)] == [1, 2]


def test_copy_of_a_compiled_model_predicts_with_its_own_weights():
    model = compiled()
    x = batch().numpy()
    assert model.predict(x, verbose=0).any()  # keeps a function of the original
    new = copy_keras(model)
    new.set_weights([0 * w for w in new.get_weights()])
    assert not new.predict(x, verbose=0).any()


def test_copy_of_a_built_optimizer_steps_its_own_variables():
    variable = keras.Variable(torch.ones(3))
    optimizer = keras.optimizers.SGD(0.5, momentum=0.9)
    optimizer.build([variable])
    new = copy_keras(optimizer)
    new.apply([torch.ones(3)])
    assert int(optimizer.iterations) == 0
    assert variable.numpy().tolist() == [1, 1, 1]
    assert new._trainable_variables[0].numpy().tolist() == [0.5, 0.5, 0.5]


# --- models as modules ----------------------------------------------------------------------


def test_module_computes_what_the_model_computes(model):
    module = KerasModule(model, SHAPE).eval()
    x = batch()
    torch.testing.assert_close(module(x), model(x, training=False), rtol=0, atol=0)
    assert module.output_shape == (2,)


def test_module_trains_in_a_torch_loop_and_the_model_stays(model):
    module = KerasModule(model, SHAPE)
    was_built, before = model.built, [w.copy() for w in model.get_weights()]
    losses = trained(module)
    assert losses[-1] < 0.8 * losses[0]
    assert model.built == was_built
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.fixture
def models_made_before() -> list[Any]:
    """A layer of Keras takes its seed from python's generator when it is made."""
    return [BuiltLate(), *(make() for make in MODELS.values())]


def test_wrapping_leaves_global_random_states(models_made_before, global_random_state_untouched):
    for model in models_made_before:
        module = KerasModule(model, SHAPE).eval()
        module(batch())
        copy.deepcopy(module)
        if not isinstance(model, Subclassed):
            KerasModule.from_bytes(module.to_bytes(), CUSTOM)


def test_training_flag_follows_the_module():
    module = KerasModule(keras.Sequential([layers.Dropout(0.5)]), SHAPE)
    x = torch.ones(200, *SHAPE)
    assert torch.equal(module.eval()(x), x)
    dropped = (module.train()(x) == 0).float().mean().item()
    assert abs(dropped - 0.5) < 0.1
    assert not torch.equal(module(x), module(x))


def test_batch_normalization_learns_its_averages_in_training_only():
    model = keras.Sequential([layers.BatchNormalization(momentum=0.0)])
    module = KerasModule(model, SHAPE).eval()
    x = batch() + 5
    module(x)
    assert torch.equal(module(x), module(x))
    assert module(x).mean() > 4
    module.train()(x)
    assert module.eval()(x).mean().abs() < 1e-3


def test_convolution_is_channels_last_and_trains():
    model = keras.Sequential(
        [layers.Conv2D(4, 3, strides=2, activation="relu"), layers.Flatten(), layers.Dense(2)]
    )
    module = KerasModule(model, (8, 8, 1))
    shapes = [tuple(p.shape) for p in module.parameters()]
    assert shapes[0] == (3, 3, 1, 4)
    x = batch(16, (8, 8, 1))
    y = torch.stack([x.mean((1, 2, 3)), x[:, :4].mean((1, 2, 3))], 1) * 10
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append((module(x) - y).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


def test_state_dict_holds_each_variable_once_and_loads_by_position():
    first, second = KerasModule(functional(), SHAPE), KerasModule(functional(), SHAPE)
    state = first.state_dict()
    assert len(state) == len({v.data_ptr() for v in state.values()}) == 6
    assert not torch.equal(first(batch()), second(batch()))
    second.load_state_dict(state)  # though Keras gave its layers other names
    assert torch.equal(first(batch()), second(batch()))


def test_deepcopy_of_a_trained_module(model):
    module = KerasModule(model, SHAPE)
    trained(module, 3)
    new = copy.deepcopy(module.eval())
    assert not new.training
    x = batch()
    before = module(x)
    assert torch.equal(new(x), before)
    trained(new, 3)
    assert torch.equal(module(x), before)


@pytest.mark.parametrize("name", SAVABLE)
def test_bytes_and_pickle_give_the_module_back_to_the_bit(name):
    module = KerasModule(MODELS[name](), SHAPE)
    trained(module, 3)
    again = KerasModule.from_bytes(module.to_bytes(), CUSTOM)
    unpickled = pickle.loads(pickle.dumps(module))
    assert again.input_shape == SHAPE
    for other in (again, unpickled):
        assert other.training
        assert all(
            torch.equal(a, b) for a, b in zip(module.variables, other.variables, strict=True)
        )
    losses = []
    for same in (module, again, unpickled):  # the states of random layers came along
        torch.manual_seed(0)  # Keras's dropout, like torch's, draws from the global generator
        losses.append(trained(same, 3))
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.slow  # starts Python with torch and Keras
def test_bytes_are_a_keras_file_and_load_in_a_fresh_process(tmp_path: Path):
    module = KerasModule(functional(), SHAPE)
    trained(module, 3)
    (tmp_path / "model.keras").write_bytes(module.to_bytes())
    x = batch()
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert torch.equal(loaded(x), module(x))

    np.save(tmp_path / "x.npy", x.numpy())
    code = f"""
import numpy as np, torch, pathlib
from neumap.keras_bridge import KerasModule
folder = pathlib.Path({str(tmp_path)!r})
module = KerasModule.from_bytes((folder / "model.keras").read_bytes())
np.save(folder / "y.npy", module(torch.from_numpy(np.load(folder / "x.npy"))).detach().numpy())
"""
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert np.array_equal(np.load(tmp_path / "y.npy"), module(x).detach().numpy())


def test_the_optimizer_of_a_compiled_model_is_not_saved_along():
    model = compiled()
    module = KerasModule(model, SHAPE)
    assert model.optimizer is not None
    assert len(module.to_bytes()) < len(KerasModule(built_sequential(), SHAPE).to_bytes()) + 500


@pytest.mark.parametrize("make", [Subclassed, GuessedWrong])
def test_a_model_keras_cannot_write_is_refused_when_it_is_written(make):
    module = KerasModule(make(8), SHAPE)
    with pytest.raises(ValueError, match=rf"Let get_config of your classes \({make.__name__}\)"):
        module.to_bytes()


def test_lambdas_are_not_executed_on_load():
    module = KerasModule(keras.Sequential([layers.Lambda(lambda x: x[:, :2])]), SHAPE)
    assert module(batch()).shape == (32, 2)
    with pytest.raises(ValueError, match="named functions instead of lambdas"):
        module.to_bytes()


def test_damaged_foreign_and_custom_bytes_give_clear_errors():
    data = KerasModule(Configured(4), SHAPE).to_bytes()
    with pytest.raises(ValueError, match="damaged or of another kind"):
        KerasModule.from_bytes(data[: len(data) // 2])
    foreign = io.BytesIO()
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match="damaged or of another kind"):
        KerasModule.from_bytes(foreign.getvalue())
    broken = io.BytesIO(data)
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(broken, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, content.replace(b"Configured", b"Nonexistent"))
    with pytest.raises(ValueError, match="custom_objects"):
        KerasModule.from_bytes(broken.getvalue())


def test_wrong_models_and_shapes_give_clear_errors():
    with pytest.raises(TypeError, match="model must be a Keras 3 model, got Linear"):
        KerasModule(nn.Linear(2, 2), SHAPE)
    with pytest.raises(
        ValueError, match=r"(?s)must accept rows of shape \(5,\), got an error.*dims="
    ):
        KerasModule(built_sequential(), (5,))
    x = keras.Input(SHAPE)
    with pytest.raises(ValueError, match="return one tensor, got list"):
        KerasModule(keras.Model(x, [layers.Dense(1)(x), layers.Dense(1)(x)]), SHAPE)


def test_regularizers_are_given_and_constraints_hold():
    model = keras.Sequential(
        [
            layers.Dense(
                4, kernel_regularizer=keras.regularizers.L2(0.5), kernel_constraint="unit_norm"
            )
        ]
    )
    module = KerasModule(model, SHAPE)
    expected = 0.5 * module.variables[0].square().sum()
    assert module.regularization().item() == pytest.approx(expected.item())
    assert module.is_regularized
    plain = KerasModule(sequential(), SHAPE)
    assert not plain.is_regularized
    assert plain.regularization().item() == 0.0
    x = batch().requires_grad_()  # so that the weights are kept for the backward pass
    optimizer = torch.optim.SGD(module.parameters(), 0.5)
    for _ in range(2):
        (module(x).square().mean() + module(-x).square().mean()).backward()  # two uses of it
        optimizer.step()
    assert (module.variables[0].norm(dim=0) - 1).abs().max() > 1e-3
    module(x)
    torch.testing.assert_close(module.variables[0].norm(dim=0), torch.ones(4))


# --- optimizers -----------------------------------------------------------------------------

optimizers = keras.optimizers
SCHEDULE = {"initial_learning_rate": 0.1, "decay_steps": 5}
OPTIMIZERS = {
    "adam": lambda: optimizers.Adam(1e-2),
    "epsilon, betas": lambda: optimizers.Adam(1e-2, beta_1=0.5, beta_2=0.9, epsilon=1e-2),
    "adamw": lambda: optimizers.AdamW(1e-2, weight_decay=0.1),
    "sgd": lambda: optimizers.SGD(1e-2, momentum=0.9, nesterov=True),
    "schedule": lambda: optimizers.SGD(optimizers.schedules.CosineDecay(**SCHEDULE)),
    "clipnorm": lambda: optimizers.SGD(0.1, clipnorm=0.01),
    "clipvalue": lambda: optimizers.SGD(0.1, clipvalue=0.01),
    "global_clipnorm": lambda: optimizers.RMSprop(0.1, global_clipnorm=0.1),
    "accumulation": lambda: optimizers.Adam(1e-2, gradient_accumulation_steps=2),
    "lion": lambda: optimizers.Lion(1e-3),
    "lamb": lambda: optimizers.Lamb(1e-2),
    "muon": lambda: optimizers.Muon(1e-2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_keras_optimizer_steps_as_in_keras(name):
    """Seven steps, against Keras's own fit on the same full batch."""
    x = batch()
    y = 3 * x[:, :2]
    model = two_layers()
    module = KerasModule(model, SHAPE)
    given = OPTIMIZERS[name]()
    model.compile(OPTIMIZERS[name](), "mse")
    model.fit(x.numpy(), y.numpy(), batch_size=len(x), epochs=7, shuffle=False, verbose=0)
    trained(module, 7, keras_optimizer_factory(given)(module.parameters()))
    for theirs, ours in zip(model.weights, module.variables, strict=True):
        torch.testing.assert_close(ours, theirs.value, rtol=1e-5, atol=1e-6)
    assert not given.built
    assert int(given.iterations) == 0


def two_layers():
    return keras.Sequential(
        [keras.Input(SHAPE), layers.Dense(8, activation="tanh"), layers.Dense(2)]
    )


def test_keras_optimizer_on_a_torch_module_matches_torch():
    first = nn.Linear(*SHAPE, 2)
    second = copy.deepcopy(first)
    losses = trained(
        first, 30, keras_optimizer_factory(optimizers.SGD(0.05, momentum=0.9))(first.parameters())
    )
    assert losses[-1] < 0.1 * losses[0]
    trained(second, 30, torch.optim.SGD(second.parameters(), 0.05, momentum=0.9))
    torch.testing.assert_close(first.weight, second.weight, rtol=1e-4, atol=1e-5)


def test_learning_rate_is_read_and_set_through_param_groups():
    module = nn.Linear(*SHAPE, 2)
    optimizer = keras_optimizer_factory(optimizers.SGD(0.5))(module.parameters())
    assert optimizer.param_groups[0]["lr"] == 0.5
    before = module.weight.detach().clone()
    module.weight.grad = torch.ones_like(module.weight)
    optimizer.param_groups[0]["lr"] = 0.25
    optimizer.step()
    torch.testing.assert_close(before - module.weight, torch.full_like(before, 0.25))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)  # torch's schedulers act
    optimizer.step()
    schedule.step()
    optimizer.step()
    torch.testing.assert_close(before - module.weight, torch.full_like(before, 0.525))


def test_learning_rate_of_a_keras_schedule_is_shown_and_not_settable():
    module = nn.Linear(*SHAPE, 2)
    decay = optimizers.schedules.CosineDecay(**SCHEDULE)
    optimizer = keras_optimizer_factory(optimizers.SGD(decay))(module.parameters())
    seen = []
    for _ in range(4):
        seen.append(optimizer.param_groups[0]["lr"])
        trained(module, 1, optimizer)
    assert seen == pytest.approx([0.05 * (1 + math.cos(math.pi * t / 5)) for t in range(4)])
    optimizer.param_groups[0]["lr"] = 1.0
    with pytest.raises(ValueError, match=r"schedule, .* got 1\.0\. Give .* a float"):
        trained(module, 1, optimizer)


def test_optimizer_state_continues_a_training():
    module = KerasModule(two_layers(), SHAPE)
    factory = keras_optimizer_factory(optimizers.Adam(1e-2))
    optimizer = factory(module.parameters())
    trained(module, 5, optimizer)
    other = copy.deepcopy(module)
    continued = factory(other.parameters())
    continued.load_state_dict(optimizer.state_dict())
    assert trained(other, 5, continued) == trained(module, 5, optimizer)
    with pytest.raises(ValueError, match="state must be that of SGD"):
        keras_optimizer_factory(optimizers.SGD())(other.parameters()).load_state_dict(
            optimizer.state_dict()
        )


def test_optimizer_passes_over_frozen_and_unused_parameters():
    module = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)])
    module[1].requires_grad_(False)
    optimizer = keras_optimizer_factory(optimizers.AdamW(0.1))(module.parameters())
    before = copy.deepcopy(module.state_dict())
    optimizer.step()  # no gradients at all: nothing happens, as in torch
    module[0](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    moved = [name for name, value in module.state_dict().items() if not value.equal(before[name])]
    assert moved == ["0.weight", "0.bias"]


def test_an_optimizer_built_elsewhere_serves_as_settings():
    used = optimizers.Adam(0.25)
    used.build([keras.Variable(torch.ones(3))])
    module = nn.Linear(*SHAPE, 2)
    optimizer = keras_optimizer_factory(used)(module.parameters())
    trained(module, 2, optimizer)
    assert optimizer.param_groups[0]["lr"] == 0.25
    assert int(used.iterations) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.Adam(loss_scale_factor=2.0), "loss_scale_factor"),
        (lambda: optimizers.LossScaleOptimizer(optimizers.Adam()), "inner_optimizer"),
        (lambda: optimizers.Adam(use_ema=True, ema_overwrite_frequency=3), "use_ema"),
    ],
)
def test_settings_that_cannot_act_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        keras_optimizer_factory(make())


def test_weight_decay_by_names_is_refused():
    optimizer = optimizers.AdamW()
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    with pytest.raises(ValueError, match=r"torch\.optim\.AdamW"):
        keras_optimizer_factory(optimizer)


def test_optimizer_wants_a_keras_optimizer_and_something_to_train():
    with pytest.raises(TypeError, match="must be a Keras optimizer, got type"):
        keras_optimizer_factory(torch.optim.Adam)
    with pytest.raises(ValueError, match="requires_grad=True"):
        keras_optimizer_factory(optimizers.Adam())([torch.nn.Parameter(torch.ones(1), False)])


# --- losses ---------------------------------------------------------------------------------


def test_losses_equal_torch_and_give_gradients():
    y, logits = torch.rand(5, 3), torch.randn(5, 3, requires_grad=True)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, y)
    for reduction in ("sum_over_batch_size", None):
        given = keras.losses.BinaryCrossentropy(from_logits=True, reduction=reduction)
        loss = loss_function(given)
        assert loss.from_logits
        torch.testing.assert_close(loss(y, logits), expected)
    (gradient,) = torch.autograd.grad(loss(y, logits), logits)
    torch.testing.assert_close(gradient, (logits.sigmoid() - y).detach() / 15)


@pytest.mark.parametrize(
    "given",
    ["mse", "mean_squared_error", keras.losses.mean_squared_error, keras.losses.MeanSquaredError()],
)
def test_loss_by_name_function_and_object(given):
    y, prediction = torch.rand(5, 4, 4, 1), torch.rand(5, 4, 4, 1)
    loss = loss_function(given)
    assert not loss.from_logits
    assert loss.name in ("mse", "mean_squared_error")
    torch.testing.assert_close(loss(y, prediction), nn.functional.mse_loss(prediction, y))


def test_unknown_losses_are_refused():
    with pytest.raises(ValueError, match="got 'squared'"):
        loss_function("squared")
    with pytest.raises(TypeError, match="got 3"):
        loss_function(3)


# --- callbacks ------------------------------------------------------------------------------


class Run:
    """A training that fits an encoder for some epochs; losses may be scripted."""

    def __init__(self, encoder, script: list[dict[str, float]], decoder=None, n_steps_per_epoch=2):
        self.encoder, self.decoder, self.script = encoder, decoder, script
        self.n_epochs, self.per_epoch = len(script), n_steps_per_epoch
        self.n_steps = self.n_epochs * n_steps_per_epoch
        self.epoch = self.step = 0
        self.seconds = 0.0
        self.logs: dict[str, float] = {}
        self.stop_training = False
        self.optimizer = torch.optim.SGD(encoder.parameters(), 0.5)
        self.weights_at_epoch_end: list[Tensor] = []

    def embed(self):
        return self.encoder(batch()).detach().numpy()

    def state_dict(self) -> dict[str, Any]:
        return {"encoder": self.encoder.state_dict(), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.encoder.load_state_dict(state["encoder"])

    def weight(self) -> Tensor:
        return next(self.encoder.parameters()).detach().clone()

    def train(self, *callbacks) -> Run:
        hooks = CallbackList(wrap_callbacks(list(callbacks)))
        hooks.on_fit_start(self)
        for epoch, logs in enumerate(self.script):
            self.epoch = epoch
            hooks.on_epoch_start(self)
            trained(self.encoder, self.per_epoch, torch.optim.SGD(self.encoder.parameters(), 1e-2))
            self.step += self.per_epoch
            self.weights_at_epoch_end.append(self.weight())
            self.logs = logs
            hooks.on_epoch_end(self)
            if self.stop_training:
                break
        hooks.on_fit_end(self)
        return self


def run_with(losses, key="loss", encoder=None) -> Run:
    encoder = encoder or KerasModule(built_sequential(), SHAPE)
    script = [{"loss": 1.0, "umap_loss": 0.5} | {key: loss} for loss in losses]
    return Run(encoder, script)


callbacks = keras.callbacks


@pytest.mark.parametrize("key", ["loss", "val_loss", "umap_loss"])
@pytest.mark.parametrize("encoder", [None, nn.Linear(*SHAPE, 2)], ids=["keras", "torch"])
def test_early_stopping_stops_and_restores(key, encoder):
    stopping = callbacks.EarlyStopping(key, patience=2, restore_best_weights=True)
    run = run_with([3.0, 1.0, 2.0, 2.0, 0.0], key, encoder).train(stopping)
    assert run.stop_training
    assert (run.epoch, stopping.best_epoch, stopping.best) == (3, 1, 1.0)
    assert not torch.equal(run.weights_at_epoch_end[1], run.weights_at_epoch_end[3])
    assert torch.equal(run.weight(), run.weights_at_epoch_end[1])


def test_early_stopping_can_serve_twice():
    stopping = callbacks.EarlyStopping("loss", patience=1)
    assert run_with([3.0, 3.0, 3.0]).train(stopping).epoch == 1
    assert run_with([9.0, 8.0, 7.0]).train(stopping).epoch == 2


def test_history_has_all_components_and_epochs():
    history = callbacks.History()
    run_with([3.0, 2.0], "val_loss").train(history)
    assert history.epoch == [0, 1]
    expected = {"loss": [1.0, 1.0], "umap_loss": [0.5, 0.5], "val_loss": [3.0, 2.0]}
    assert history.history == expected


def test_csv_logger_writes_the_losses(tmp_path: Path):
    run_with([3.0, 2.0]).train(callbacks.CSVLogger(tmp_path / "log.csv"))
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["loss"], row["umap_loss"]) for row in rows] == [
        ("0", "3.0", "0.5"),
        ("1", "2.0", "0.5"),
    ]


def test_model_checkpoint_keeps_the_best(tmp_path: Path):
    path = tmp_path / "best.keras"
    run = run_with([3.0, 1.0, 2.0])
    run.decoder = KerasModule(keras.Sequential([layers.Dense(6)]), (2,))
    run.train(callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True))
    saved = keras.saving.load_model(path)
    assert torch.equal(saved.weights[0].value.detach(), run.weights_at_epoch_end[1])
    assert keras.saving.load_model(tmp_path / "best-decoder.keras").output_shape == (None, 6)


def test_model_checkpoint_of_weights(tmp_path: Path):
    run = run_with([1.0])
    path = tmp_path / "{epoch}.weights.h5"
    run.train(callbacks.ModelCheckpoint(path, save_weights_only=True))
    model = copy_keras(run.encoder.model)
    model.weights[0].assign(model.weights[0] * 0)
    model.load_weights(tmp_path / "1.weights.h5")
    assert torch.equal(model.weights[0].value.detach(), run.weight())


def test_model_checkpoint_of_a_torch_network_says_what_to_use(tmp_path: Path):
    checkpoint = callbacks.ModelCheckpoint(tmp_path / "x.keras")
    with pytest.raises(ValueError, match=r"neumap\.callbacks\.Checkpoint"):
        run_with([1.0], encoder=nn.Linear(*SHAPE, 2)).train(checkpoint)


def test_learning_rate_callbacks_reach_the_optimizer():
    run = run_with([1.0, 1.0, 1.0])
    run.train(
        callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1), history := callbacks.History()
    )
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)
    assert history.history["learning_rate"] == pytest.approx([0.5, 0.5, 0.05])

    run = run_with([1.0, 1.0])
    run.train(callbacks.LearningRateScheduler(lambda epoch, lr: lr / 2))
    assert run.optimizer.param_groups[0]["lr"] == 0.125

    del run.optimizer
    with pytest.raises(RuntimeError, match="schedule instead"):
        run.train(callbacks.LearningRateScheduler(lambda epoch, lr: lr))


def test_terminate_on_nan(capsys):
    run = run_with([1.0, float("nan"), 1.0]).train(callbacks.TerminateOnNaN())
    assert run.epoch == 1


def test_lambda_and_custom_callbacks_see_epochs_params_and_model():
    seen: list[Any] = []

    class Custom(callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append((self.params["epochs"], self.params["steps"]))

        def on_epoch_end(self, epoch, logs=None):
            seen.append(
                (epoch, logs["loss"], self.model.predict(batch(3).numpy(), verbose=0).shape)
            )
            self.model.stop_training = epoch == 1

    ends = callbacks.LambdaCallback(on_train_end=lambda logs: seen.append(logs["loss"]))
    run_with([3.0, 2.0, 1.0]).train([Custom(), [ends]])
    assert seen == [(3, 2), (0, 3.0, (3, 2)), (1, 2.0, (3, 2)), 2.0]


def test_validation_hooks_come_before_the_end_of_the_epoch():
    seen: list[Any] = []

    class Recorder(callbacks.Callback):
        def on_test_begin(self, logs=None):
            seen.append("test")

        def on_test_end(self, logs=None):
            seen.append(logs)

        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["val_loss"])

    run_with([3.0], "val_loss").train(Recorder())
    assert seen == ["test", {"loss": 3.0}, 3.0]


def test_stop_training_goes_both_ways():
    seen = []
    watch = callbacks.LambdaCallback(
        on_epoch_end=lambda e, logs: seen.append(watch.model.stop_training)
    )
    run_with([1.0, 1.0, 1.0]).train(EarlyStopping(patience=1), watch)
    assert seen == [False, True]


def test_set_weights_checks_their_number():
    got = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: got.model.set_weights([]))
    with pytest.raises(ValueError, match="must be 5 arrays, as get_weights returns, got 0"):
        run_with([1.0]).train(got)


def test_custom_batch_hooks_warn_that_they_run_once_per_report():
    class PerBatch(callbacks.Callback):
        batches: list[Any] = []  # noqa: RUF012 - one instance

        def on_train_batch_end(self, batch, logs=None):
            self.batches.append((batch, logs["loss"]))

    with pytest.warns(UserWarning, match=r"PerBatch\.on_train_batch_end runs once per report"):
        run_with([3.0, 2.0]).train(PerBatch())
    assert PerBatch.batches == [(1, 3.0), (1, 2.0)]


def test_a_torch_encoder_has_no_keras_methods():
    asks = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: asks.model.predict(1))
    with pytest.raises(AttributeError, match="Pass a Keras model as encoder"):
        run_with([1.0], encoder=nn.Linear(*SHAPE, 2)).train(asks)


def test_the_run_is_let_go_and_callbacks_can_be_pickled():
    stopping = callbacks.EarlyStopping("loss")
    wrapped = KerasCallbacks([stopping])
    run_with([1.0, 2.0]).train(wrapped)
    assert pickle.loads(pickle.dumps(wrapped)).callbacks[0].best == 1.0
    copy.deepcopy(stopping)
    with pytest.raises(RuntimeError, match="got a training that has ended"):
        _ = stopping.model.stop_training


def test_callbacks_that_cannot_act_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"BackupAndRestore.*neumap\.callbacks\.Checkpoint"):
        KerasCallbacks([callbacks.BackupAndRestore(tmp_path)])
    with pytest.raises(TypeError, match="callbacks must be Keras callbacks"):
        KerasCallbacks([EarlyStopping()])


# --- keras_fit_kwargs -----------------------------------------------------------------------


def test_fit_kwargs_are_taken_apart():
    own, theirs = EarlyStopping(), callbacks.History()
    options = split_fit_kwargs({"callbacks": [theirs, own], "verbose": 2})
    assert options.verbose is True
    assert options.callbacks[0].callbacks == (theirs,)
    assert options.callbacks[1] is own
    assert split_fit_kwargs(None).callbacks == ()
    assert split_fit_kwargs({}).verbose is None
    assert split_fit_kwargs({"verbose": 0}).verbose is False


@pytest.mark.parametrize(
    ("key", "instead"),
    [
        ("epochs", "n_training_epochs"),
        ("validation_data", "reconstruction_validation"),
        ("steps_per_epoch", "loss_report_frequency"),
        ("workers", "not an argument"),
    ],
)
def test_fit_kwargs_that_cannot_act_are_refused(key, instead):
    with pytest.raises(ValueError, match=f"got '{key}'.*{instead}"):
        split_fit_kwargs({key: 1})


def test_fit_kwargs_want_callbacks():
    with pytest.raises(TypeError, match="of type int"):
        split_fit_kwargs({"callbacks": [3]})
