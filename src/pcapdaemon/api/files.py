"""Savefiles over HTTP, whole or in part (RFC 9110, section 14)."""

import re
from collections.abc import AsyncIterator, Iterator

from fastapi.responses import Response, StreamingResponse

from pcapdaemon.api.problems import problem
from pcapdaemon.savefile.savefile import Savefile, content_type
from pcapdaemon.threads import run_in_thread

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def respond(savefile: Savefile, name: str, wanted: str | None) -> Response:
    """Return a response with a savefile, or with the range of it that was asked for; closes it.

    `name` is the savefile's own, which has only characters that a header may have.
    """
    found = _range(wanted or "", savefile.size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    if found is None:
        savefile.close()
        return problem(
            416,
            f"the savefile has {savefile.size} bytes",
            headers={"Content-Range": f"bytes */{savefile.size}"},
        )
    start, end = found
    status = 200 if (start, end) == (0, savefile.size) else 206
    if status == 206:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{savefile.size}"
    headers["Content-Length"] = str(end - start)
    parts = _parts(savefile, start, end - start)
    return StreamingResponse(parts, status, headers, media_type=content_type(name))


def _range(wanted: str, size: int) -> tuple[int, int] | None:
    """Return the first byte, and the one after the last; None if there are none.

    Several ranges, other units, and what is no range are answered with the whole file.
    """
    given = _RANGE.fullmatch(wanted)
    if given is None or given.groups() == ("", ""):
        return 0, size
    first, last = given.groups()
    if first and last and int(last) < int(first):
        return 0, size
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    return (start, end) if start < end else None


async def _parts(savefile: Savefile, start: int, size: int) -> AsyncIterator[bytes]:
    with savefile:
        views = savefile.views(start, size)
        # a disk may hang: no thread that reads from it keeps the process from exiting
        while (part := await run_in_thread(_next, views)) is not None:
            yield part


def _next(views: Iterator[memoryview]) -> bytes | None:
    view = next(views, None)
    return None if view is None else bytes(view)
