"""The update rules of PyCMTensor and MXNet.jl, which install nowhere: plain NumPy loops.

They are from their pages, but for MXNet.jl's AdaGrad, RMSProp and AdaMax, which are from its published source
(julia/src/optimizers in github.com/apache/mxnet): its page has SGD and ADAM only.

The same contract as in ``papers.py``; the forms are theirs (PyCMTensor's Adamax counts from t = 1: the
original divides by zero at its first step).
"""

import itertools

import numpy as np


def steps(grads, rates, learning_rate):
    """(t, gradient, rate) from t = 1."""
    return zip(itertools.count(1), grads, itertools.repeat(learning_rate) if rates is None else rates, strict=False)


def pycmtensor_sgd(p, grads, rates, *, learning_rate=0.001):
    for _, g, lr in steps(grads, rates, learning_rate):
        p = p - lr * g
        yield p


def pycmtensor_momentum(p, grads, rates, *, learning_rate=0.001, momentum=0.9, nesterov=True):
    v = np.zeros_like(p)
    for _, g, lr in steps(grads, rates, learning_rate):
        v = momentum * v - lr * g
        p = p + momentum * v - lr * g if nesterov else p + v
        yield p


def pycmtensor_nesterov(p, grads, rates, *, learning_rate=0.001, momentum=0.9):
    return pycmtensor_momentum(p, grads, rates, learning_rate=learning_rate, momentum=momentum, nesterov=True)


def pycmtensor_adagrad(p, grads, rates, *, learning_rate=1.0, epsilon=1e-8):
    a = np.zeros_like(p)
    for _, g, lr in steps(grads, rates, learning_rate):
        a = a + g**2
        p = p - lr * g / np.sqrt(a + epsilon)
        yield p


def pycmtensor_rmsprop(p, grads, rates, *, learning_rate=0.001, rho=0.9, epsilon=1e-8):
    a = np.zeros_like(p)
    for _, g, lr in steps(grads, rates, learning_rate):
        a = rho * a + (1 - rho) * g**2
        p = p - lr * g / np.sqrt(a + epsilon)
        yield p


def pycmtensor_adadelta(p, grads, rates, *, learning_rate=1.0, rho=0.95, epsilon=1e-8):
    a, d = np.zeros_like(p), np.zeros_like(p)
    for _, g, lr in steps(grads, rates, learning_rate):
        a = rho * a + (1 - rho) * g**2
        s = g * np.sqrt(d + epsilon) / np.sqrt(a + epsilon)
        p = p - lr * s
        d = rho * d + (1 - rho) * s**2
        yield p


def pycmtensor_adam(p, grads, rates, *, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g, lr in steps(grads, rates, learning_rate):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        p = p - lr * np.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (np.sqrt(v) + epsilon)
        yield p


def pycmtensor_adamax(p, grads, rates, *, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g, lr in steps(grads, rates, learning_rate):
        m = beta1 * m + (1 - beta1) * g
        v = np.maximum(beta2 * v, np.abs(g))
        p = p - lr / (1 - beta1**t) * m / (v + epsilon)
        yield p


def normalized(w, g, clip, weight_decay):
    """MXNet.jl's gradient, rescaling off: a copy, clipped to ±clip if clip > 0, then plus the decay."""
    g = np.clip(g, -clip, clip) if clip > 0 else g.copy()
    return g + weight_decay * w


def mxnet_sgd(w, grads, rates, *, learning_rate=0.01, momentum=0.0, clip=0.0, weight_decay=1e-4):
    m = np.zeros_like(w)
    for _, g, lr in steps(grads, rates, learning_rate):
        m = momentum * m - lr * normalized(w, g, clip, weight_decay)
        w = w + m
        yield w


def mxnet_momentum(w, grads, rates, *, learning_rate=0.01, momentum=0.9, clip=0.0, weight_decay=1e-4):
    hyper = {"learning_rate": learning_rate, "momentum": momentum, "clip": clip, "weight_decay": weight_decay}
    return mxnet_sgd(w, grads, rates, **hyper)


def mxnet_adam(
    w,
    grads,
    rates,
    *,
    learning_rate=0.001,
    beta1=0.9,
    beta2=0.999,
    epsilon=1e-8,
    clip=0.0,
    weight_decay=1e-5,
    epsilon_hat=False,
):
    """The page says m̂/(√v̂ + ε); the published Julia source has the other form, ε beside the uncorrected √v."""
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g, lr in steps(grads, rates, learning_rate):
        g = normalized(w, g, clip, weight_decay)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        if epsilon_hat:
            w = w - lr * np.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (np.sqrt(v) + epsilon)
        else:
            w = w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
        yield w


# The page stops at SGD and ADAM. The other rules follow our table of conventions only (ε inside the root; u + ε), which
# agrees with the published Julia source; the defaults are that source's.


def mxnet_adagrad(w, grads, rates, *, learning_rate=0.1, epsilon=1e-6, clip=0.0, weight_decay=1e-5):
    a = np.zeros_like(w)
    for _, g, lr in steps(grads, rates, learning_rate):
        g = normalized(w, g, clip, weight_decay)
        a = a + g**2
        w = w - lr * g / np.sqrt(a + epsilon)
        yield w


def mxnet_rmsprop(w, grads, rates, *, learning_rate=0.001, rho=0.9, epsilon=1e-8, clip=0.0, weight_decay=1e-5):
    s = np.zeros_like(w)
    for _, g, lr in steps(grads, rates, learning_rate):
        g = normalized(w, g, clip, weight_decay)
        s = rho * s + (1 - rho) * g**2
        w = w - lr * g / np.sqrt(s + epsilon)
        yield w


def mxnet_adamax(
    w, grads, rates, *, learning_rate=0.002, beta1=0.9, beta2=0.999, epsilon=1e-8, clip=0.0, weight_decay=1e-5
):
    m, u = np.zeros_like(w), np.zeros_like(w)
    for t, g, lr in steps(grads, rates, learning_rate):
        g = normalized(w, g, clip, weight_decay)
        m = beta1 * m + (1 - beta1) * g
        u = np.maximum(beta2 * u, np.abs(g))
        w = w - lr / (1 - beta1**t) * m / (u + epsilon)
        yield w


MXNET = {
    rule.__name__.removeprefix("mxnet_"): rule
    for rule in (mxnet_sgd, mxnet_momentum, mxnet_adagrad, mxnet_rmsprop, mxnet_adam, mxnet_adamax)
}
PYCMTENSOR = {
    rule.__name__.removeprefix("pycmtensor_"): rule
    for rule in (
        pycmtensor_sgd,
        pycmtensor_momentum,
        pycmtensor_nesterov,
        pycmtensor_adagrad,
        pycmtensor_rmsprop,
        pycmtensor_adadelta,
        pycmtensor_adam,
        pycmtensor_adamax,
    )
}
