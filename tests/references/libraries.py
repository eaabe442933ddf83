"""What PyTorch, optax and Keras themselves compute from a sequence of gradients, in float64.

A ``Call`` says how one of our rules is called there: the class or function, and what our hyperparameters are called.
The libraries are imported when they are used. What is done to them for the time of a call is undone after it.
"""

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import tempfile
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Call:
    """``names``: ours → theirs, or (theirs, index) where theirs is a pair. ``fixed``: theirs, what makes it that rule.

    ``ours``: values where the library's default (momentum 0) would be another rule.
    """

    target: str
    names: dict
    fixed: dict = field(default_factory=dict)
    ours: dict = field(default_factory=dict)


ADAM = {"learning_rate": "lr", "beta1": ("betas", 0), "beta2": ("betas", 1), "epsilon": "eps"}
DECAYED = {"learning_rate": "lr", "weight_decay": "weight_decay"}
SGD = DECAYED | {"momentum": "momentum"}
TORCH = {
    "sgd": Call("SGD", SGD),
    "momentum": Call("SGD", SGD, ours={"momentum": 0.9}),
    "nesterov": Call("SGD", SGD, {"nesterov": True}, {"momentum": 0.9}),
    "adagrad": Call("Adagrad", DECAYED | {"epsilon": "eps", "initial_accumulator": "initial_accumulator_value"}),
    "rmsprop": Call("RMSprop", SGD | {"rho": "alpha", "epsilon": "eps", "centered": "centered"}),
    "adadelta": Call("Adadelta", DECAYED | {"rho": "rho", "epsilon": "eps"}),
    "adam": Call("Adam", ADAM | DECAYED),
    "amsgrad": Call("Adam", ADAM | DECAYED, {"amsgrad": True}),
    "adamw": Call("AdamW", ADAM | DECAYED),
    "adamax": Call("Adamax", ADAM | DECAYED),
    "nadam": Call("NAdam", ADAM | DECAYED | {"momentum_decay": "momentum_decay"}),
    "radam": Call("RAdam", ADAM | DECAYED),
    "rprop": Call(
        "Rprop",
        {
            "learning_rate": "lr",
            "eta_minus": ("etas", 0),
            "eta_plus": ("etas", 1),
            "min_step": ("step_sizes", 0),
            "max_step": ("step_sizes", 1),
        },
    ),
}

RATE = {"learning_rate": "learning_rate"}
ADAM = RATE | {"beta1": "beta_1", "beta2": "beta_2", "epsilon": "epsilon", "weight_decay": "weight_decay"}
SGD = RATE | {"momentum": "momentum", "weight_decay": "weight_decay"}
SCALED = RATE | {"epsilon": "epsilon", "weight_decay": "weight_decay"}
KERAS = {
    "sgd": Call("SGD", SGD),
    "momentum": Call("SGD", SGD, ours={"momentum": 0.9}),
    "nesterov": Call("SGD", SGD, {"nesterov": True}, {"momentum": 0.9}),
    "adagrad": Call("Adagrad", SCALED | {"initial_accumulator": "initial_accumulator_value"}),
    "rmsprop": Call("RMSprop", SCALED | {"rho": "rho", "momentum": "momentum", "centered": "centered"}),
    "adadelta": Call("Adadelta", SCALED | {"rho": "rho"}),
    "adam": Call("Adam", ADAM),
    "amsgrad": Call("Adam", ADAM, {"amsgrad": True}),
    "adamw": Call("AdamW", ADAM),
    "adamax": Call("Adamax", ADAM),
    "nadam": Call("Nadam", ADAM),
    "lion": Call("Lion", {ours: theirs for ours, theirs in ADAM.items() if ours != "epsilon"}),
    "lamb": Call("Lamb", ADAM),
    "schedule_free_adamw": Call("ScheduleFreeAdamW", ADAM | {"warmup_steps": "warmup_steps"}),
}

ADAM = RATE | {"beta1": "b1", "beta2": "b2", "epsilon": "eps"}
SGD = RATE | {"momentum": "momentum"}
DECAY = {"weight_decay": "weight_decay"}
OPTAX = {
    "sgd": Call("sgd", SGD),
    "momentum": Call("sgd", SGD, ours={"momentum": 0.9}),
    "nesterov": Call("sgd", SGD, {"nesterov": True}, {"momentum": 0.9}),
    "adagrad": Call("adagrad", RATE | {"epsilon": "eps", "initial_accumulator": "initial_accumulator_value"}),
    "rmsprop": Call("rmsprop", SGD | {"rho": "decay", "epsilon": "eps", "centered": "centered"}),
    "adadelta": Call("adadelta", RATE | DECAY | {"rho": "rho", "epsilon": "eps"}),
    "adam": Call("adam", ADAM),
    "amsgrad": Call("amsgrad", ADAM),
    "adamw": Call("adamw", ADAM | DECAY),
    "adamax": Call("adamax", ADAM),
    "nadam": Call("nadam", ADAM),
    "radam": Call("radam", ADAM | {"threshold": "threshold"}),
    "lion": Call("lion", RATE | DECAY | {"beta1": "b1", "beta2": "b2"}),
    "rprop": Call(
        "rprop",
        RATE
        | {"eta_minus": "eta_minus", "eta_plus": "eta_plus", "min_step": "min_step_size", "max_step": "max_step_size"},
    ),
    "lamb": Call("lamb", ADAM | DECAY),
    "schedule_free_adamw": Call("contrib.schedule_free_adamw", ADAM | DECAY | {"warmup_steps": "warmup_steps"}),
}


def keywords(call, target, hyper):
    """The library's keywords for our hyperparameters."""
    given = dict(call.fixed)
    for ours, value in (call.ours | hyper).items():
        if ours not in call.names:
            raise TypeError(f"{ours}: {call.target} has no such hyperparameter, it has {', '.join(call.names)}")
        theirs = call.names[ours]
        if isinstance(theirs, tuple):
            name, index = theirs
            pair = list(given.get(name, inspect.signature(target).parameters[name].default))
            pair[index] = value
            given[name] = tuple(pair)
        else:
            given[theirs] = value
    return given


def defaults(call, target):
    """Our names → the library's own defaults; what it demands (optax's learning rates) is left out."""
    found = {}
    for ours, theirs in call.names.items():
        name, index = theirs if isinstance(theirs, tuple) else (theirs, None)
        default = inspect.signature(target).parameters[name].default
        if ours in call.ours:
            found[ours] = call.ours[ours]
        elif default is None and ours != "learning_rate":  # no decay, no momentum, no warm-up
            found[ours] = 0
        elif default is not None and default is not inspect.Parameter.empty:
            found[ours] = default if index is None else default[index]
    return found


@contextlib.contextmanager
def torch_in_float64():
    """NAdam keeps its product of momenta in the default type: in float32, it would be wrong by 3e-11 a step."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield torch
    finally:
        torch.set_default_dtype(before)


def torch_target(call):
    return getattr(importlib.import_module("torch").optim, call.target)


def torch_points(rule, start, grads, rates, hyper):
    call = TORCH[rule]
    with torch_in_float64() as torch:
        parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
        target = torch_target(call)
        if rates is not None:  # Rprop reads its rate once, in the first step
            hyper = hyper | {"learning_rate": float(rates[0])}
        optimizer = target([parameter], foreach=False, **keywords(call, target, hyper))
        for t, g in enumerate(grads):
            if rates is not None:
                optimizer.param_groups[0]["lr"] = float(rates[t])
            parameter.grad = torch.tensor(g, dtype=torch.float64)
            optimizer.step()
            yield parameter.detach().numpy().copy()


def optax_target(call):
    target = importlib.import_module("optax")
    for name in call.target.split("."):
        target = getattr(target, name)
    return target


def optax_points(rule, start, grads, rates, hyper, *, evaluated=False):
    """One ``lax.scan`` over the gradients: the parameters that ``apply_updates`` gives, or those to be evaluated."""
    import jax
    import jax.numpy as jnp
    import optax

    call = OPTAX[rule]
    with jax.enable_x64(True):
        hyper = dict(hyper)
        # No warm-up is no argument: for optax, 0 steps of it are rate 0 for ever.
        warm = hyper.pop("warmup_steps", 0) if "warmup_steps" in call.names else 0
        if rates is not None:
            if rule == "rprop" or warm:
                raise TypeError("rates: optax.rprop has an initial step, and Schedule-Free's warm-up is its schedule")
            table = jnp.asarray(rates, dtype=jnp.float64)
            # Schedule-Free asks for the rate of step t + 1 in step t (its count starts at 1): the last one stays.
            hyper["learning_rate"] = lambda count: table[jnp.minimum(count, len(rates) - 1)]
        elif warm:
            # What the argument makes of itself, but in float64: optax divides int32 by int32, which JAX makes float32.
            peak = hyper.get("learning_rate", defaults(call, optax_target(call))["learning_rate"])
            hyper["learning_rate"] = lambda count: peak * jnp.minimum(1.0, count.astype(jnp.float64) / warm)
        coupled = 0.0 if "weight_decay" in call.names else hyper.pop("weight_decay", 0.0)
        target = optax_target(call)
        transform = target(**keywords(call, target, hyper))
        if coupled:
            transform = optax.chain(optax.add_decayed_weights(coupled), transform)

        def step(carry, g):
            x, state = carry
            updates, state = transform.update(g, state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), optax.contrib.schedule_free_eval_params(state, x) if evaluated else x

        x = jnp.asarray(start, dtype=jnp.float64)
        points = jax.lax.scan(step, (x, transform.init(x)), jnp.asarray(grads, dtype=jnp.float64))[1]
        return np.asarray(points, dtype=np.float64)


def imported_keras():
    """Keras; on JAX if there is one, and with no file left in the home folder, if nobody imported it before."""
    if "keras" not in sys.modules:
        backend = "jax" if importlib.util.find_spec("jax") else "torch"
        before = {name: os.environ.get(name) for name in ("KERAS_BACKEND", "KERAS_HOME")}
        with tempfile.TemporaryDirectory() as home:
            os.environ |= {"KERAS_BACKEND": backend, "KERAS_HOME": home}
            try:
                importlib.import_module("keras")
            finally:
                for name, value in before.items():
                    os.environ.pop(name)
                    if value is not None:
                        os.environ[name] = value
    return sys.modules["keras"]


@contextlib.contextmanager
def keras_in_float64():
    """Variables of float64 are not enough: Keras turns a hyperparameter into its floatx before it casts it to them.

    On its NumPy backend nearly every operation on float64 gives float32, whatever floatx is, and so does ``maximum``
    on PyTorch (no optimizer that we ask uses it there). On JAX everything is float64 while x64 is enabled.
    """
    keras = imported_keras()
    before, backend = keras.config.floatx(), keras.backend.backend()
    if backend not in ("jax", "torch"):
        raise RuntimeError(f"Keras was imported with the backend {backend}, on which it does not compute in float64")
    keras.config.set_floatx("float64")
    try:
        with importlib.import_module("jax").enable_x64(True) if backend == "jax" else contextlib.nullcontext():
            yield keras
    finally:
        keras.config.set_floatx(before)


def keras_target(call):
    return getattr(imported_keras().optimizers, call.target)


def keras_points(rule, start, grads, rates, hyper):
    call = KERAS[rule]
    with keras_in_float64() as keras:
        backend = keras.backend.backend()
        if rule == "schedule_free_adamw" and backend == "torch":
            raise RuntimeError("Keras's ScheduleFreeAdamW overwrites z before it reads it on the torch backend")
        target = keras_target(call)
        optimizer = target(**keywords(call, target, hyper))
        variable = keras.Variable(start, dtype="float64")
        optimizer.build([variable])
        if backend == "jax" and len(grads) > 100:
            return compiled_points(optimizer, variable.value, grads, rates)
        points = []
        for t, g in enumerate(grads):
            if rates is not None:
                optimizer.learning_rate = float(rates[t])
            optimizer.apply([keras.ops.convert_to_tensor(g, dtype="float64")], [variable])
            value = variable.value  # not its numpy(): on PyTorch, that warns under NumPy 2
            points.append(np.array(value.detach().numpy() if backend == "torch" else value))
        return points


def compiled_points(optimizer, x, grads, rates):
    """What many calls of ``apply`` give, in a tenth of the time: Keras's own way to be compiled by JAX."""
    jax = importlib.import_module("jax")
    (place,) = (i for i, each in enumerate(optimizer.variables) if each.name == "learning_rate")

    def step(carry, given):
        x, state = carry
        g, rate = given
        if rates is not None:
            state = [*state[:place], rate, *state[place + 1 :]]
        (x,), state = optimizer.stateless_apply(state, [g], [x])
        return (x, list(state)), x

    state = [each.value for each in optimizer.variables]
    every = jax.numpy.asarray(np.zeros(len(grads)) if rates is None else rates, dtype=state[place].dtype)
    return np.asarray(jax.lax.scan(step, (x, state), (jax.numpy.asarray(grads), every))[1])


class Library(NamedTuple):
    module: str
    rules: dict
    target: object
    points: object


LIBRARIES = {
    "torch": Library("torch", TORCH, torch_target, torch_points),
    "optax": Library("optax", OPTAX, optax_target, optax_points),
    "keras": Library("keras", KERAS, keras_target, keras_points),
}
