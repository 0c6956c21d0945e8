"""Training. Lightning lives here and nowhere below."""

from seqmodal.training.run import Run, train

__all__ = ["Run", "train"]
