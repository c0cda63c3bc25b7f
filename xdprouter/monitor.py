# SPDX-License-Identifier: GPL-2.0-only
"""`xdprouter monitor`: the stream of events, flushed one by one, until Ctrl-C or until nobody reads it."""

import json
import sys

from xdprouter import stdout
from xdprouter.errors import NoDaemon
from xdprouter.events import SILENCE_S
from xdprouter.instance import Instance

_LOOK_MS = 500


def run(instance: Instance, as_json: bool, follow: bool) -> int:
    """Returns 0 on SIGINT and when the reader has gone. Without `follow`, raises NoDaemon when there is no daemon or
    when it goes away; with it, waits."""
    try:
        _stream(instance, as_json, follow)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        stdout.abandon(sys.stdout)
    return 0


def _stream(instance: Instance, as_json: bool, follow: bool) -> None:
    from xdprouter.event_text import line
    from xdprouter.subscriber import Subscriber

    silent = False
    with Subscriber(instance, wait=follow) as subscriber:
        while True:
            event = subscriber.next(timeout_ms=_LOOK_MS, until_closed=sys.stdout.fileno())
            if event is None:
                silent = _tell_silence(instance, subscriber.silent_s, silent)
                continue
            print(json.dumps(event) if as_json else line(event), flush=True)
            if event["kind"] == "disconnected" and not follow:
                raise NoDaemon(f"the daemon of instance {instance.name} has gone away; --follow waits for the next one")


def _tell_silence(instance: Instance, silent_s: float, told: bool) -> bool:
    """On stderr, since the stream on stdout has only what the daemon and the connection say. Whether it is silent."""
    if silent_s > SILENCE_S and not told:
        stdout.complain(
            f"xdprouter: the daemon of instance {instance.name} has said nothing for {silent_s:.0f} s: stopped, or stuck?"
        )
    elif told and silent_s <= SILENCE_S:
        stdout.complain(f"xdprouter: the daemon of instance {instance.name} is heard again")
    return silent_s > SILENCE_S
