# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter monitor`: the stream of events, flushed one by one, until Ctrl-C or until nobody reads it."""

import json
import os
import sys

from xdprouter.errors import NoDaemon
from xdprouter.instance import Instance


def run(instance: Instance, as_json: bool, follow: bool) -> int:
    """Returns 0 on SIGINT and when the reader has gone. Without `follow`, raises NoDaemon when there is no daemon or
    when it goes away; with it, waits."""
    try:
        _stream(instance, as_json, follow)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # What Python still holds must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def _stream(instance: Instance, as_json: bool, follow: bool) -> None:
    from xdprouter.event_text import line
    from xdprouter.subscriber import Subscriber

    with Subscriber(instance, wait=follow) as subscriber:
        while True:
            event = subscriber.next(until_closed=sys.stdout.fileno())
            print(json.dumps(event) if as_json else line(event), flush=True)
            if event["kind"] == "disconnected" and not follow:
                raise NoDaemon(f"the daemon of instance {instance.name} has gone away; --follow waits for the next one")
