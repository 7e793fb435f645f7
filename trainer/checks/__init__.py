"""Looks at a run before it begins: its data, one step of it, its memory; and at trainings that must be equal.

In: a config, or the parts of a run. Out: sentences, and the errors that training would raise. Read rehearsal.py first.
"""
