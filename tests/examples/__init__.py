"""Plug-ins as somebody else would write them: one file each."""
