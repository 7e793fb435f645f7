"""The parameters of the networks: their first values, those that learn and when, their groups.

In: a task and the config's patterns. Out: parameters as an optimizer takes them. Read groups.py first.
"""
