"""The recipes: one file each, installed as `seqmodal.recipes`."""
