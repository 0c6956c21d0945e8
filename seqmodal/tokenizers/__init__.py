"""Tokenizers: the contract, the registry, the vocabulary, and a kit that checks them."""

from seqmodal.tokenizers.conformance import Failure, check
from seqmodal.tokenizers.protocol import Grammar, Tokenizer
from seqmodal.tokenizers.registry import Entry, available, failures, tokenizer
from seqmodal.tokenizers.saved import fingerprint, load_tokenizers, save_tokenizers
from seqmodal.tokenizers.vocabulary import Block, Vocabulary

__all__ = [
    "Block",
    "Entry",
    "Failure",
    "Grammar",
    "Tokenizer",
    "Vocabulary",
    "available",
    "check",
    "failures",
    "fingerprint",
    "load_tokenizers",
    "save_tokenizers",
    "tokenizer",
]
