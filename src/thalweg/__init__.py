"""Thalweg fits models to data whatever the feedback looks like."""
