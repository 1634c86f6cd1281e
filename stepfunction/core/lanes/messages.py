"""Messages: what goes through the pipe of a lane, each known by its first byte.

To the worker go pairs: a packed call and what goes before its arguments, or one of the
others and nothing. To the parent goes whatever the call, or a thread
that it left, has to say, and at the end its answer.
"""

from __future__ import annotations

from pickle import PROTO

PACKED = PROTO  # a call or an answer: every pickle begins with it
LEVELS = b"v"  # and packed levels, those of the parent's loggers
OPEN = b"o"  # perform what comes before the first call, and answer

HELLO = b"h"  # the worker is ready
BEGAN = b"b"  # the call is unpacked, and begins now
BEAT = b"l"  # a sign of life
PART = b"p"  # and a packed part of what comes of the call
EVENT = b"e"  # and a packed event of an execution that is nested in the call
LOG = b"r"  # and a packed log record
