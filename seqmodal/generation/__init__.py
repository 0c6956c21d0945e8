"""Sampling: one function from logits to probabilities, constraints on what may come next, one loop. Only ids."""
