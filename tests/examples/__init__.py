"""Plug-ins as other people would write them: one file each."""
