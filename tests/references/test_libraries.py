"""What each library computes, as formulas: written from its source, and held against it to 1e-12 at every step.

This is the table behind our conventions. Each step below gives the change of x; ``s`` holds the state. Every rule
runs with odd hyperparameters (an ε of 0.001 is seen wherever it is put), a rate that changes, and weight decay.
"""

import numpy as np
import pytest

from tests.references import oracles


def mean(s, name, value, beta):
    s[name] = beta * s.get(name, 0.0) + (1 - beta) * value
    return s[name]


def rate_outside(s, x, g, lr, t, *, momentum, nesterov=False):
    s["b"] = momentum * s.get("b", 0.0) + g
    return -lr * (g + momentum * s["b"] if nesterov else s["b"])


def rate_inside(s, x, g, lr, t, *, momentum, nesterov=False):
    s["b"] = momentum * s.get("b", 0.0) - lr * g
    return momentum * s["b"] - lr * g if nesterov else s["b"]


def plain(s, x, g, lr, t):
    return -lr * g


def adagrad(s, x, g, lr, t, *, epsilon, initial_accumulator, inside):
    s["a"] = s.get("a", initial_accumulator) + g * g
    return -lr * g / (np.sqrt(s["a"] + epsilon) if inside else np.sqrt(s["a"]) + epsilon)


def rmsprop(s, x, g, lr, t, *, rho, epsilon, inside, buffer, momentum=0.0, centered=False):
    n, m = mean(s, "n", g * g, rho), mean(s, "m", g, rho)
    variance = n - m * m if centered else n
    direction = g / (np.sqrt(variance + epsilon) if inside else np.sqrt(variance) + epsilon)
    return buffer(s, x, direction, lr, t, momentum=momentum)


def adadelta(s, x, g, lr, t, *, rho, epsilon):
    before = s.get("d", 0.0)
    delta = np.sqrt(before + epsilon) / np.sqrt(mean(s, "a", g * g, rho) + epsilon) * g
    mean(s, "d", delta * delta, rho)
    return -lr * delta


def moments(s, g, beta1, beta2):
    return mean(s, "m", g, beta1), mean(s, "v", g * g, beta2)


def adam(s, x, g, lr, t, *, beta1, beta2, epsilon):
    m, v = moments(s, g, beta1, beta2)
    return -lr * m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)


def adam_hat(s, x, g, lr, t, *, beta1, beta2, epsilon):
    m, v = moments(s, g, beta1, beta2)
    return -lr * np.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (np.sqrt(v) + epsilon)


def amsgrad_torch(s, x, g, lr, t, *, beta1, beta2, epsilon):
    """The largest v, then the correction."""
    m, v = moments(s, g, beta1, beta2)
    s["u"] = np.maximum(s.get("u", 0.0), v)
    return -lr * m / (1 - beta1**t) / (np.sqrt(s["u"] / (1 - beta2**t)) + epsilon)


def amsgrad_optax(s, x, g, lr, t, *, beta1, beta2, epsilon):
    """The largest corrected v."""
    m, v = moments(s, g, beta1, beta2)
    s["u"] = np.maximum(s.get("u", 0.0), v / (1 - beta2**t))
    return -lr * m / (1 - beta1**t) / (np.sqrt(s["u"]) + epsilon)


def amsgrad_keras(s, x, g, lr, t, *, beta1, beta2, epsilon):
    m, v = moments(s, g, beta1, beta2)
    s["u"] = np.maximum(s.get("u", 0.0), v)
    return -lr * np.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (np.sqrt(s["u"]) + epsilon)


def adamax(s, x, g, lr, t, *, beta1, beta2, epsilon, denominator):
    m = mean(s, "m", g, beta1)
    if denominator:
        s["u"] = np.maximum(beta2 * s.get("u", 0.0), np.abs(g))
        return -lr / (1 - beta1**t) * m / (s["u"] + epsilon)
    s["u"] = np.maximum(beta2 * s.get("u", 0.0), np.abs(g) + epsilon)
    return -lr / (1 - beta1**t) * m / s["u"]


def nadam(s, x, g, lr, t, *, beta1, beta2, epsilon, momentum_decay):
    """μ_t = β₁(1 − ½·0.96^(decay·t)) in the mix; the average keeps β₁."""
    m, v = moments(s, g, beta1, beta2)
    mu, after = (beta1 * (1 - 0.5 * 0.96 ** (momentum_decay * each)) for each in (t, t + 1))
    s["product"] = s.get("product", 1.0) * mu
    mixed = after * m / (1 - s["product"] * after) + (1 - mu) * g / (1 - s["product"])
    return -lr * mixed / (np.sqrt(v / (1 - beta2**t)) + epsilon)


def nadam_optax(s, x, g, lr, t, *, beta1, beta2, epsilon):
    """No schedule of the momentum."""
    m, v = moments(s, g, beta1, beta2)
    mixed = beta1 * m / (1 - beta1 ** (t + 1)) + (1 - beta1) * g / (1 - beta1**t)
    return -lr * mixed / (np.sqrt(v / (1 - beta2**t)) + epsilon)


def radam(s, x, g, lr, t, *, beta1, beta2, epsilon, hat):
    """Rectified from ρ_t > 5 on (optax: ≥ 5)."""
    m, v = moments(s, g, beta1, beta2)
    m_hat, correction = m / (1 - beta1**t), 1 - beta2**t
    end = 2 / (1 - beta2) - 1
    rho = end - 2 * t * beta2**t / correction
    if rho <= 5:
        return -lr * m_hat
    r = np.sqrt((rho - 4) * (rho - 2) * end / ((end - 4) * (end - 2) * rho))
    denominator = (np.sqrt(v) + epsilon) / np.sqrt(correction) if hat else np.sqrt(v / correction) + epsilon
    return -lr * r * m_hat / denominator


def lion(s, x, g, lr, t, *, beta1, beta2):
    before = s.get("m", 0.0)
    mean(s, "m", g, beta2)
    return -lr * np.sign(beta1 * before + (1 - beta1) * g)


def rprop(s, x, g, lr, t, *, learning_rate, eta_minus, eta_plus, min_step, max_step):
    """The step is clipped at every turn, also where the product of the gradients is 0."""
    product = g * s.get("g", 0.0)
    factor = np.select([product > 0, product < 0], [eta_plus, eta_minus], 1.0)
    s["step"] = np.clip(s.get("step", np.full_like(x, learning_rate)) * factor, min_step, max_step)
    s["g"] = np.where(product < 0, 0.0, g)
    return -s["step"] * np.sign(s["g"])


def rprop_optax(s, x, g, lr, t, *, learning_rate, eta_minus, eta_plus, min_step, max_step):
    """One step late: what is applied is the update of the step before, or 0 where g has turned against it."""
    before = s.get("update", np.zeros_like(x))
    product = g * before
    step = s.get("step", np.full_like(x, learning_rate))
    factor = np.where(product > 0, eta_plus, eta_minus)
    s["step"] = np.where(product == 0, step, np.clip(step * factor, min_step, max_step))
    s["update"] = np.where(product < 0, 0.0, s["step"] * np.sign(g))
    return -np.where(product < 0, 0.0, before)


def lamb(s, x, g, lr, t, *, beta1, beta2, epsilon, weight_decay=0.0):
    direction = -adam(s, x, g, 1.0, t, beta1=beta1, beta2=beta2, epsilon=epsilon) + weight_decay * x
    size, length = np.linalg.norm(x), np.linalg.norm(direction)
    return -lr * (size / length if size > 0 and length > 0 else 1.0) * direction


def schedule_free_keras(s, x, g, lr, t, *, beta1, beta2, epsilon, warmup_steps):
    """z is averaged with weight 1/t, whatever its rate; x, here "e", is told from y and z."""
    v = mean(s, "v", g * g, beta2)
    z = s.get("z", s["start"])
    evaluated = (x - (1 - beta1) * z) / beta1
    s["z"] = z - lr * min(1.0, t / warmup_steps) * g / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    evaluated = (1 - 1 / t) * evaluated + s["z"] / t
    return (1 - beta1) * s["z"] + beta1 * evaluated - x


def schedule_free_optax(s, x, g, lr, t, *, beta1, beta2, epsilon, weight_decay, rate):
    """z moves by rate(t − 1), but its weight is the square of the largest of rate(1), ..., rate(t)."""
    v = mean(s, "v", g * g, beta2)
    z = s.get("z", s["start"])
    direction = g / (np.sqrt(v / (1 - beta2**t)) + epsilon) + weight_decay * x
    s["z"] = z - rate(t - 1) * direction
    s["largest"] = max(s.get("largest", 0.0), rate(t))
    s["total"] = s.get("total", 0.0) + s["largest"] ** 2
    c = s["largest"] ** 2 / s["total"]
    evaluated = (1 - c) * s.get("e", s["start"]) + c * s["z"]
    s["e"] = evaluated
    return beta1 * evaluated + (1 - beta1) * s["z"] - x


def follow(step, start, grads, rates, *, coupled=0.0, decoupled=0.0, **hyper):
    """Coupled decay is added to the gradient first; decoupled decay shrinks x by rate·decay first."""
    x, s, points = start, {"start": start}, []
    for t, (g, lr) in enumerate(zip(grads, rates, strict=True), start=1):
        x = x - lr * decoupled * x
        x = x + step(s, x, g + coupled * x, lr, t, **hyper)
        points.append(x)
    return np.array(points)


BUFFER = {"momentum": 0.8}
MOMENTS = {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-3}
AVERAGE = {"rho": 0.95, "epsilon": 1e-3}
STEPS = {"learning_rate": 0.03, "eta_minus": 0.4, "eta_plus": 1.3, "min_step": 1e-3, "max_step": 0.5}
ACCUMULATOR = {"epsilon": 1e-3, "initial_accumulator": 0.2}
WARM = {"warmup_steps": 40}
LION = {"beta1": 0.8, "beta2": 0.95}
CENTERED = AVERAGE | {"centered": True}
COUPLED, DECOUPLED, NONE = "coupled", "decoupled", None

# library, rule, hyperparameters, formula, what the formula needs besides them, how the decay enters
CLAIMS = [
    ("torch", "sgd", {}, plain, {}, COUPLED),
    ("torch", "momentum", BUFFER, rate_outside, {}, COUPLED),
    ("torch", "nesterov", BUFFER, rate_outside, {"nesterov": True}, COUPLED),
    ("torch", "adagrad", ACCUMULATOR, adagrad, {"inside": False}, COUPLED),
    ("torch", "rmsprop", AVERAGE, rmsprop, {"inside": False, "buffer": rate_outside}, COUPLED),
    ("torch", "rmsprop", CENTERED, rmsprop, {"inside": False, "buffer": rate_outside}, COUPLED),
    ("torch", "rmsprop", CENTERED | BUFFER, rmsprop, {"inside": False, "buffer": rate_outside}, COUPLED),
    ("torch", "adadelta", AVERAGE, adadelta, {}, COUPLED),
    ("torch", "adam", MOMENTS, adam, {}, COUPLED),
    ("torch", "amsgrad", MOMENTS, amsgrad_torch, {}, COUPLED),
    ("torch", "adamw", MOMENTS, adam, {}, DECOUPLED),
    ("torch", "adamax", MOMENTS, adamax, {"denominator": False}, COUPLED),
    ("torch", "nadam", MOMENTS | {"momentum_decay": 0.01}, nadam, {}, COUPLED),
    ("torch", "radam", MOMENTS, radam, {"hat": True}, COUPLED),
    ("torch", "rprop", STEPS, rprop, {}, NONE),
    ("optax", "sgd", {}, plain, {}, COUPLED),
    ("optax", "momentum", BUFFER, rate_outside, {}, COUPLED),
    ("optax", "nesterov", BUFFER, rate_outside, {"nesterov": True}, COUPLED),
    ("optax", "adagrad", ACCUMULATOR, adagrad, {"inside": True}, COUPLED),
    ("optax", "rmsprop", AVERAGE, rmsprop, {"inside": True, "buffer": rate_inside}, COUPLED),
    ("optax", "rmsprop", CENTERED, rmsprop, {"inside": True, "buffer": rate_inside}, COUPLED),
    ("optax", "rmsprop", CENTERED | BUFFER, rmsprop, {"inside": True, "buffer": rate_inside}, COUPLED),
    ("optax", "adadelta", AVERAGE, adadelta, {}, COUPLED),
    ("optax", "adam", MOMENTS, adam, {}, COUPLED),
    ("optax", "amsgrad", MOMENTS, amsgrad_optax, {}, COUPLED),
    ("optax", "adamw", MOMENTS, adam, {}, DECOUPLED),
    ("optax", "adamax", MOMENTS, adamax, {"denominator": False}, COUPLED),
    ("optax", "nadam", MOMENTS, nadam_optax, {}, COUPLED),
    ("optax", "radam", MOMENTS, radam, {"hat": False}, COUPLED),
    ("optax", "lion", LION, lion, {}, DECOUPLED),
    ("optax", "rprop", STEPS, rprop_optax, {}, NONE),
    ("optax", "lamb", MOMENTS | {"weight_decay": 0.01}, lamb, {}, NONE),
    ("keras", "sgd", {}, plain, {}, DECOUPLED),
    ("keras", "momentum", BUFFER, rate_inside, {}, DECOUPLED),
    ("keras", "nesterov", BUFFER, rate_inside, {"nesterov": True}, DECOUPLED),
    ("keras", "adagrad", ACCUMULATOR, adagrad, {"inside": True}, DECOUPLED),
    ("keras", "rmsprop", AVERAGE, rmsprop, {"inside": True, "buffer": rate_inside}, DECOUPLED),
    ("keras", "rmsprop", CENTERED, rmsprop, {"inside": True, "buffer": rate_inside}, DECOUPLED),
    ("keras", "rmsprop", CENTERED | BUFFER, rmsprop, {"inside": True, "buffer": rate_inside}, DECOUPLED),
    ("keras", "adadelta", AVERAGE, adadelta, {}, DECOUPLED),
    ("keras", "adam", MOMENTS, adam_hat, {}, DECOUPLED),
    ("keras", "amsgrad", MOMENTS, amsgrad_keras, {}, DECOUPLED),
    ("keras", "adamw", MOMENTS, adam_hat, {}, DECOUPLED),
    ("keras", "adamax", MOMENTS, adamax, {"denominator": True}, DECOUPLED),
    ("keras", "nadam", MOMENTS, nadam, {"momentum_decay": 1.0}, DECOUPLED),
    ("keras", "lion", LION, lion, {}, DECOUPLED),
    ("keras", "lamb", MOMENTS, lamb, {}, DECOUPLED),
    ("keras", "schedule_free_adamw", MOMENTS | WARM, schedule_free_keras, {}, DECOUPLED),
]


def schedule(steps):
    """Up and down, and never the same twice."""
    return 0.01 * (1.5 + np.sin(np.arange(steps) / 50)) / np.sqrt(1 + np.arange(steps) / 100)


@pytest.mark.parametrize(
    ("library", "rule", "hyper", "formula", "extra", "decay"),
    CLAIMS,
    ids=[f"{library}-{rule}-{'-'.join(hyper)}" for library, rule, hyper, *_ in CLAIMS],
)
def test_a_library_computes_this(library, rule, hyper, formula, extra, decay):
    if not oracles.installed(library):
        pytest.skip(f"{library} is not installed")
    print("seed 11")
    start, grads = oracles.recorded(11, steps=1000)
    rates = np.full(1000, 0.01) if "eta_plus" in hyper else schedule(1000)
    options = {} if "eta_plus" in hyper else {"rates": rates}
    decayed = {} if decay is None else {"weight_decay": 0.02}
    points = oracles.trajectory(library, rule, start, grads, **options, **hyper, **decayed)
    expected = follow(formula, start, grads, rates, **hyper, **extra, **({decay: 0.02} if decay else {}))
    assert oracles.distance(points, expected) < 1e-12


@pytest.mark.parametrize("library", ["torch", "optax", "keras"])
def test_every_rule_of_a_library_is_claimed(library):
    claimed = {rule for name, rule, *_ in CLAIMS if name == library}
    assert claimed | ({"schedule_free_adamw"} if library == "optax" else set()) == set(oracles.AVAILABLE[library])


@pytest.mark.parametrize("warm", [None, 40])
def test_optax_takes_two_rates_for_schedule_free(warm):
    pytest.importorskip("optax")
    print("seed 12")
    start, grads = oracles.recorded(12, steps=1000)
    given, rates = {"weight_decay": 0.02}, schedule(1000)
    if warm:
        options = {"learning_rate": 0.01, "warmup_steps": warm}

        def rate(count):
            return 0.01 * min(1.0, count / warm)
    else:
        options = {"rates": rates}

        def rate(count):
            return rates[min(count, 999)]

    points = oracles.trajectory("optax", "schedule_free_adamw", start, grads, **options, **given, **MOMENTS)
    expected = follow(schedule_free_optax, start, grads, rates, rate=rate, **given, **MOMENTS)
    assert oracles.distance(points, expected) < 1e-12
