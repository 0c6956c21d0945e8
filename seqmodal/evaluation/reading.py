"""Whether what a model makes is what it was asked for: a small classifier trained on real things says."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

PARTS, CUT_DB = 16, 35.0
"""Of a sound: equal parts that it is heard in, and how much softer than the loudest its ends may be and count."""


class Classifier:
    """A perceptron with one hidden layer, on standardised vectors.

    Args:
        vectors: float (n, F), of real things.
        labels: int (n,), from 0.
        epochs: times that they are read.
        seed: of the weights and the order.
    """

    def __init__(self, vectors: np.ndarray, labels: np.ndarray, epochs: int = 8, seed: int = 0) -> None:
        self.mean, self.std = vectors.mean(axis=0), vectors.std(axis=0) + 0.1 * vectors.std() + 1e-6
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(
                nn.Linear(vectors.shape[1], 256), nn.ReLU(), nn.Dropout(0.2), nn.Linear(256, int(labels.max()) + 1)
            )
            given, wanted = self._scaled(vectors), torch.from_numpy(np.asarray(labels, np.int64))
            steps = epochs * -(-len(given) // 128)
            optimizer = torch.optim.AdamW(self.net.parameters(), weight_decay=0.05)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
            for _ in range(epochs):
                for batch in torch.randperm(len(given)).split(128):
                    loss = F.cross_entropy(self.net(given[batch]), wanted[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
        self.net.eval()

    @torch.no_grad()
    def right(self, vectors: np.ndarray, labels: np.ndarray) -> float:
        """The share of (n, F) vectors whose label it finds."""
        found = self.net(self._scaled(vectors)).argmax(dim=1).numpy()
        return float((found == labels).mean())

    def _scaled(self, vectors: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(((vectors - self.mean) / self.std).astype(np.float32))


def heard(spectrogram: np.ndarray) -> np.ndarray:
    """float32 (PARTS · bands,) of a spectrogram of log10 power (frames, bands): without soft ends, means over parts."""
    loudest = spectrogram.max(axis=1)
    inside = np.flatnonzero(loudest > loudest.max() - CUT_DB / 10)
    part = torch.from_numpy(np.ascontiguousarray(spectrogram[inside[0] : inside[-1] + 1].T, np.float32))
    return F.adaptive_avg_pool1d(part, PARTS).numpy().ravel()
