"""Several processes that train as one.

In: a task whose step is to be shared. Out: the same step, with gradients of all. Read ddp.py first.
"""
