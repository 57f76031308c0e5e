"""What a savefile is.

Its bytes in memory or on disk, what it says of itself, how captures become one.
"""
