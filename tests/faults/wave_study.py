"""A small wave study whose starting model is in a file, ``path``."""

WAVES = """
title = "t"
[problem]
kind = "waves"
shape = [40, 40]
spacing = 1e-3
time_step = 2e-7
steps = 40
start = {{ kind = "file", path = '{path}' }}
truth = {{ kind = "inclusion", background = 1500.0, speed = 1550.0, center = [0.02, 0.02], radius = 0.005 }}
observed = {{ kind = "simulated" }}
sources = {{ kind = "ring", count = 4, radius = 0.015 }}
wavelet = {{ kind = "ricker" }}
[optimizer]
kind = "adam"
[[blocks]]
iterations = 1
frequency = 1e5
"""
