"""The commands that need a checkpoint alone: val, test and generate.

In: a run folder or a .pth file. Out: metrics, a submission, a task that is ready to use. Read trained.py first.
"""
