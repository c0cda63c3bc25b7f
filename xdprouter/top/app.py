# SPDX-License-Identifier: GPL-2.0-only
"""The screen. Made for 80x24 over ssh: nothing moves but what has changed, once a second."""

from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Static

from xdprouter.top import views
from xdprouter.top.model import Model
from xdprouter.top.source import Item, Source

_MIDDLE, _EVENTS = 6, 6
"""Lines of verdicts and next hops, and of events; the ports have the rest."""

_AGE_S = 1.0


class Delivered(Message):
    """From a thread of the source."""

    def __init__(self, item: Item):
        super().__init__()
        self.item = item


class TopApp(App[int]):
    """`source`: has `start(deliver)` and `stop()`; see source.py."""

    TITLE = "xdprouter top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar = [
        Binding("q", "quit", "quit"),
        Binding("p", "pause", "pause"),
        Binding("s", "sort", "sort"),
    ]
    CSS = f"""
    Screen {{ layout: vertical; }}
    Static {{ text-wrap: nowrap; }}
    #header {{ height: 3; }}
    #scroll {{ height: 1fr; min-height: 2; scrollbar-size-vertical: 1; }}
    #ports {{ height: auto; }}
    #middle {{ height: {_MIDDLE}; }}
    #verdicts {{ width: 1fr; margin-right: 2; }}
    #hops {{ width: 1fr; }}
    #events {{ height: {_EVENTS}; }}
    #keys {{ height: 1; }}
    """

    def __init__(self, source: Source, model: Model | None = None):
        super().__init__()
        self._source = source
        self._model = model or Model()
        self._paused = False

    def compose(self) -> ComposeResult:
        yield Static(id="header")
        with VerticalScroll(id="scroll"):
            yield Static(id="ports")
        with Horizontal(id="middle"):
            yield Static(id="verdicts")
            yield Static(id="hops")
        yield Static(id="events")
        yield Static(id="keys")

    def on_mount(self) -> None:
        self.query_one("#scroll").focus()
        self._source.start(lambda item: self.post_message(Delivered(item)))
        self.set_interval(_AGE_S, self._age)  # what is shown gets old also when nothing comes
        self._show()

    def on_unmount(self) -> None:
        self._source.stop()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    def on_delivered(self, message: Delivered) -> None:
        self._model.take(message.item)
        if not self._paused:
            self._show()

    def _age(self) -> None:
        if self._model.trouble and not self._paused:
            self._show()

    def action_pause(self) -> None:
        """The screen stands still; what happens meanwhile is in the history afterwards."""
        self._paused = not self._paused
        self._show()

    def action_sort(self) -> None:
        self._model.next_sort()
        self._show()

    def _show(self) -> None:
        model, width = self._model, self.size.width
        half = (width - 2) // 2
        self._put("header", views.header(model, width, self._paused))
        self._put("ports", views.ports(model, width - 1))  # one column for a scroll bar
        self._put("verdicts", views.verdicts(model, half, _MIDDLE))
        self._put("hops", views.hops(model, half, _MIDDLE))
        self._put("events", views.events(model, width, _EVENTS))
        self._put("keys", views.keys(model, self._paused))

    def _put(self, name: str, text: Text) -> None:
        self.query_one(f"#{name}", Static).update(text)
