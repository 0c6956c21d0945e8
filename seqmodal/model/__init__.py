"""What a user holds after `load`: a decoder with its vocabulary and tokenizers, that makes items."""

from seqmodal.model.core import Model
from seqmodal.model.loading import load
from seqmodal.model.made import Candidate, Generated

__all__ = ["Candidate", "Generated", "Model", "load"]
