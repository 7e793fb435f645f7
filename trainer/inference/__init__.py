"""What a checkpoint alone can do: val, test and generate.

In: a run folder or a .pth file. Out: metrics, a submission, a task that is ready to use. Read trained.py first.
"""
