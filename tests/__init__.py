"""A package, so that test modules import what they share by its name: ``from tests.references import oracles``."""
