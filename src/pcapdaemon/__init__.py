"""pcapdaemon: packet captures on request, for a whole fleet.

The way of a request, in the order in which the source reads:

    sources/*  --Message-->  request.py  --CaptureRequest-->  plan.py  --CapturePlan-->  session.py  -->  capture/*
                                                                                            |
    events.py  <----------------------  delivery.py  <----------  Savefile  <---------------+
      |-> telemetry.py (log)                |-> destinations/*
      |-> history.py (the API's memory)

`engine.py` walks a message along this way; `daemon.py` builds the parts and owns their life; `cli.py` talks to people.
"""

__version__ = "0.1.0"
