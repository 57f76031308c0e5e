"""Alerts of other systems start captures: `[[trigger]]`.

A trigger turns an alert into an ordinary message. Everything after that is what happens to any
message.
"""
