"""A way into a run while it trains: requests of ctl, and the debugger that a file asks for.

In: the run folder, a file that was touched. Out: requests carried out after a step. Read requests.py first.
"""
