"""The losses that torch.nn does not have, one a file; a config names these and torch's own as `task.loss`.

In: outputs of networks and targets. Out: one number. Read focal.py first, then _measure.py: how a task uses a loss.
"""
