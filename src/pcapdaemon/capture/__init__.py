"""How a capture is made.

A session on a live interface or on a recorder, alone or merged with others.
"""
