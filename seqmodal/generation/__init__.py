"""Sampling: one function from logits to probabilities, constraints on what may come next, and the ways to decode. Only
ids."""
