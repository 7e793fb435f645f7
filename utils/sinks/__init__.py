"""The outputs of a run's numbers: journal, console, TensorBoard, visdom.

In: rows, pictures, texts. Out: log.jsonl, which is the truth, and views of it. Read logger.py first.
"""
