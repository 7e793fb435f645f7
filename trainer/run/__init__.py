"""The command train around the trainer: run folder, sinks, resume, the last words.

In: a config, or a run to go on with. Out: a finished run in checkpoints/. Read session.py first.
"""
