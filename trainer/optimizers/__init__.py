"""Optimizers that torch does not have, one a file; a folder optimizers/ of one's own adds more.

In: parameters, or groups of them. Out: their steps, as torch.optim's. All are driven by trainer.py, in trainer/optim/.
"""
