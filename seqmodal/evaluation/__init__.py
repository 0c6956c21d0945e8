"""How good a model is: likelihood of ids, statistics of music, memorisation."""
