"""A permutation that is computed where it is read: no list of the samples is ever in memory."""

import math

import numpy as np
import torch
from torch import Tensor

from utils.randomness import mix

__all__ = ["Walk"]

ROUNDS = 8  # with 4 the distances between neighbours are visibly uneven, with 6 they are not
BLOCK = 4096  # positions that are computed at once: numpy's calls cost as much for 32
MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of SplitMix64
SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
HALF = np.uint64(32)


class Walk:
    """The numbers 0 to `size` - 1 in an order that (seed, epoch) draws; each part of it costs its own length.

    A Feistel network over pairs of numbers below a and b, with a * b just above `size`, is a bijection; a result that
    is too large is put through it again until it fits, which is a bijection of the numbers below `size`: Black and
    Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, section 5 and 3 (generalised Feistel, cycle walking).
    Its rounds hash by the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
    Generators", OOPSLA 2014). It is no cipher, and of all permutations it draws a few. Up to 4,096 numbers, where those
    few would show, it is torch's permutation.
    """

    def __init__(self, size: int, seed: int, epoch: int):
        self.size, self.seed = size, mix(seed, epoch)
        self.rows = math.isqrt(max(0, size - 1)) + 1  # the root, rounded up
        self.columns = max(1, -(-size // self.rows))
        assert self.rows <= 1 << 32  # the product of a hash's half and a number of rows has 64 bits
        self.keys = [np.uint64(mix(seed, epoch, -1, number)) for number in range(ROUNDS)]
        self.block: tuple[int, Tensor] = (-1, torch.empty(0, dtype=torch.int64))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> Tensor:
        """Return the numbers at the positions of an unbroken part, int64."""
        start, stop, step = part.indices(self.size)
        assert step == 1
        blocks = range(start // BLOCK, max(start // BLOCK + 1, -(-stop // BLOCK)))
        found = [
            self._block(number)[max(0, start - number * BLOCK) : max(0, stop - number * BLOCK)] for number in blocks
        ]
        return torch.cat(found) if len(found) != 1 else found[0]

    def _block(self, number: int) -> Tensor:
        if self.block[0] != number and self.size <= BLOCK:
            self.block = 0, torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed))
        elif self.block[0] != number:
            positions = np.arange(number * BLOCK, min((number + 1) * BLOCK, self.size), dtype=np.uint64)
            self.block = number, torch.from_numpy(self.at(positions).astype(np.int64))
        return self.block[1]

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Return the numbers at these positions, uint64."""
        found = self._permuted(positions)
        while len(outside := (found >= self.size).nonzero()[0]):
            found[outside] = self._permuted(found[outside])
        return found

    def _permuted(self, numbers: np.ndarray) -> np.ndarray:
        """Return the images of numbers below rows * columns, which are such numbers."""
        right, left = np.divmod(numbers, np.uint64(self.rows))
        for number, key in enumerate(self.keys):
            if number % 2:
                right = _shifted(right, left ^ key, self.columns)
            else:
                left = _shifted(left, right ^ key, self.rows)
        return right * np.uint64(self.rows) + left


def _shifted(numbers: np.ndarray, hashed: np.ndarray, modulus: int) -> np.ndarray:
    """Return (numbers + hash(hashed)) modulo `modulus`, of numbers below it."""
    for shift, multiplier in zip(SHIFTS[:2], MULTIPLIERS, strict=True):
        hashed ^= hashed >> shift
        hashed *= multiplier
    hashed ^= hashed >> SHIFTS[2]
    sums = numbers + ((hashed >> HALF) * np.uint64(modulus) >> HALF)
    return np.where(sums >= modulus, sums - np.uint64(modulus), sums)
