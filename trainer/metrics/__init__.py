"""The metrics that task.metrics_too names: scikit-learn's and others, over a whole validation split.

In: predictions and truth of all ranks. Out: a number each. Read _metric.py first, then _collected.py, which feeds them.
"""
