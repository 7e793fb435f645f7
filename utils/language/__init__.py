"""The language of the messages: English in the code, Chinese from one catalogue where the terminal asks for it.

In: a finished English text. Out: the same in the reader's language. Read choice.py first, then translate.py.
"""
