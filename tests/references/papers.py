"""Update rules as their papers print them: plain NumPy loops, written from the papers and from nothing else.

Each rule is a generator: it is given the start, the gradient of every step, and the rate of every step (or None for
``learning_rate`` throughout), and yields the parameter after each step. The keywords and their defaults are the
rule's hyperparameters. Nothing is shared between rules but the counting: an oracle that reuses code can be wrong
in two places at once.
"""

import itertools

import numpy as np


def steps(grads, rates, learning_rate):
    """(t, gradient, rate) from t = 1."""
    return zip(itertools.count(1), grads, itertools.repeat(learning_rate) if rates is None else rates, strict=False)


def sgd(x, grads, rates, *, learning_rate=0.01):
    """Robbins & Monro 1951."""
    for _, g, lr in steps(grads, rates, learning_rate):
        x = x - lr * g
        yield x


def momentum(x, grads, rates, *, learning_rate=0.01, momentum=0.9):
    """Sutskever et al. 2013, equations 1 and 2: the rate is inside the velocity."""
    v = np.zeros_like(x)
    for _, g, lr in steps(grads, rates, learning_rate):
        v = momentum * v - lr * g
        x = x + v
        yield x


def nesterov(x, grads, rates, *, learning_rate=0.01, momentum=0.9):
    """Sutskever et al. 2013, equations 3 and 4. What is stored is the point θ + μv, where the gradient is taken."""
    theta, v = x, np.zeros_like(x)
    for _, g, lr in steps(grads, rates, learning_rate):
        v = momentum * v - lr * g
        theta = theta + v
        yield theta + momentum * v


def adagrad(x, grads, rates, *, learning_rate=0.01, epsilon=1e-8, initial_accumulator=0.0):
    """Duchi et al. 2011, figure 1, diagonal: H = δI + diag(‖g_{1:t,i}‖₂), so δ is outside the root."""
    a = np.full_like(x, initial_accumulator)
    for _, g, lr in steps(grads, rates, learning_rate):
        a = a + g * g
        x = x - lr * g / (epsilon + np.sqrt(a))
        yield x


def rmsprop(
    x,
    grads,
    rates,
    *,
    learning_rate=0.001,
    rho=0.9,
    epsilon=1e-8,
    momentum=0.0,
    centered=False,
    epsilon_inside=False,
):
    """Tieleman & Hinton 2012, lecture 6.5 (which has no ε); centered and with momentum: Graves 2013, equations 38-45.

    ε is outside the root unless ``epsilon_inside``, which is where Graves has it. The rate is in his velocity.
    """
    n, m, v = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for _, g, lr in steps(grads, rates, learning_rate):
        n = rho * n + (1 - rho) * g * g
        m = rho * m + (1 - rho) * g
        variance = n - m * m if centered else n
        v = momentum * v - lr * g / (np.sqrt(variance + epsilon) if epsilon_inside else np.sqrt(variance) + epsilon)
        x = x + v
        yield x


def adadelta(x, grads, rates, *, learning_rate=1.0, rho=0.95, epsilon=1e-6):
    """Zeiler 2012, algorithm 1: RMS[y] = √(E[y²] + ε). The paper has no rate: it multiplies Δx after the average."""
    eg, ed = np.zeros_like(x), np.zeros_like(x)
    for _, g, lr in steps(grads, rates, learning_rate):
        eg = rho * eg + (1 - rho) * g * g
        delta = -np.sqrt(ed + epsilon) / np.sqrt(eg + epsilon) * g
        ed = rho * ed + (1 - rho) * delta * delta
        x = x + lr * delta
        yield x


def adam(x, grads, rates, *, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Kingma & Ba 2015, algorithm 1."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g, lr in steps(grads, rates, learning_rate):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        x = x - lr * m_hat / (np.sqrt(v_hat) + epsilon)
        yield x


def amsgrad(x, grads, rates, *, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Reddi et al. 2018, algorithm 2 with constant β₁: no bias correction. The paper has no ε: outside, as in Adam."""
    m, v, largest = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for _, g, lr in steps(grads, rates, learning_rate):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        largest = np.maximum(largest, v)
        x = x - lr * m / (np.sqrt(largest) + epsilon)
        yield x


def adamw(
    x,
    grads,
    rates,
    *,
    learning_rate=0.001,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    weight_decay=0.01,
    rate_scales_decay=False,
):
    """Loshchilov & Hutter 2019, algorithm 2, line 12: θ − η_t·(α·m̂/(√v̂ + ε) + λθ).

    η_t is the schedule's multiplier, here rate/``learning_rate``; α does *not* multiply the decay in the paper. With
    ``rate_scales_decay`` it does, as in every library.
    """
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g, lr in steps(grads, rates, learning_rate):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        decay = lr if rate_scales_decay else lr / learning_rate
        x = x - (lr * m_hat / (np.sqrt(v_hat) + epsilon) + decay * weight_decay * x)
        yield x


def adamax(x, grads, rates, *, learning_rate=0.002, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Kingma & Ba 2015, algorithm 2, which divides 0 by 0 where all gradients were 0: hence max(β₂u, abs(g) + ε)."""
    m, u = np.zeros_like(x), np.zeros_like(x)
    for t, g, lr in steps(grads, rates, learning_rate):
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g) + epsilon)
        x = x - lr / (1 - beta1**t) * m / u
        yield x


def nadam(
    x,
    grads,
    rates,
    *,
    learning_rate=0.002,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    momentum_decay=0.004,
    scheduled_average=False,
):
    """Dozat 2016: μ_t = β₁(1 − ½·0.96^(t/250)), the average m with the constant β₁ as in the 2015 report.

    The workshop paper's algorithm 2 averages with μ_t, too: ``scheduled_average``.
    """
    m, v, product = np.zeros_like(x), np.zeros_like(x), 1.0
    for t, g, lr in steps(grads, rates, learning_rate):
        mu = beta1 * (1 - 0.5 * 0.96 ** (momentum_decay * t))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** (momentum_decay * (t + 1)))
        product *= mu
        average = mu if scheduled_average else beta1
        m = average * m + (1 - average) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_bar = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
        x = x - lr * m_bar / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        yield x


def radam(x, grads, rates, *, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """Liu et al. 2020, algorithm 2: rectified once ρ_t > 4. The paper has no ε: outside, after the correction."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    rho_inf = 2 / (1 - beta2) - 1
    for t, g, lr in steps(grads, rates, learning_rate):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = m / (1 - beta1**t)
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        if rho > 4:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            x = x - lr * r * m_hat / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        else:
            x = x - lr * m_hat
        yield x


def lion(x, grads, rates, *, learning_rate=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0):
    """Chen et al. 2023, algorithm 2."""
    m = np.zeros_like(x)
    for _, g, lr in steps(grads, rates, learning_rate):
        c = beta1 * m + (1 - beta1) * g
        x = x - lr * (np.sign(c) + weight_decay * x)
        m = beta2 * m + (1 - beta2) * g
        yield x


def rprop(x, grads, rates, *, learning_rate=0.1, eta_minus=0.5, eta_plus=1.2, min_step=1e-6, max_step=50.0):
    """Igel & Hüsken 2000, iRprop⁻; the constants are those of Riedmiller & Braun 1993. The rate is the first step."""
    if rates is not None:
        raise TypeError("rates: Rprop has an initial step, and no rate that could follow a schedule")
    step, previous = np.full_like(x, learning_rate), np.zeros_like(x)
    for g in grads:
        step = np.where(g * previous > 0, np.minimum(step * eta_plus, max_step), step)
        step = np.where(g * previous < 0, np.maximum(step * eta_minus, min_step), step)
        g = np.where(g * previous < 0, 0.0, g)
        x = x - np.sign(g) * step
        previous = g
        yield x


def lamb(x, grads, rates, *, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-6, weight_decay=0.01):
    """You et al. 2020, algorithm 2 with φ(z) = z, the whole array one layer, and ratio 1 where either norm is 0."""
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t, g, lr in steps(grads, rates, learning_rate):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        r = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        direction = r + weight_decay * x
        size, length = np.linalg.norm(x), np.linalg.norm(direction)
        ratio = size / length if size > 0 and length > 0 else 1.0
        x = x - lr * ratio * direction
        yield x


def schedule_free_adamw(
    x,
    grads,
    rates,
    *,
    learning_rate=0.0025,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    weight_decay=0.0,
    warmup_steps=0,
    evaluated=False,
):
    """Defazio et al. 2024, algorithm 1: y, where the gradient is taken, or x, what is evaluated, after each step.

    The decay is at y; γ_t holds the warm-up and the correction of v, and its square is the weight of z in x.
    """
    z, v, total = x, np.zeros_like(x), 0.0
    y = x
    for t, g, lr in steps(grads, rates, learning_rate):
        v = beta2 * v + (1 - beta2) * g * g
        gamma = lr * np.sqrt(1 - beta2**t) * (min(1.0, t / warmup_steps) if warmup_steps else 1.0)
        z = z - gamma * g / (np.sqrt(v) + epsilon) - gamma * weight_decay * y
        total += gamma**2
        c = gamma**2 / total
        x = (1 - c) * x + c * z
        y = (1 - beta1) * z + beta1 * x
        yield x if evaluated else y


RULES = {
    rule.__name__: rule
    for rule in (
        sgd,
        momentum,
        nesterov,
        adagrad,
        rmsprop,
        adadelta,
        adam,
        amsgrad,
        adamw,
        adamax,
        nadam,
        radam,
        lion,
        rprop,
        lamb,
        schedule_free_adamw,
    )
}
