"""A browser whose tabs are used again: to open one takes longer than most pages do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FORGET = "() => { try { localStorage.clear(); sessionStorage.clear() } catch { /* no page */ } }"


class Tab:
    """A page of a browser; who closes it leaves it as a new one is."""

    def __init__(self, page: Any, closed: Callable[[Tab], None]) -> None:
        self._page, self._closed = page, closed
        self._heard: list[tuple[str, Callable]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._page, name)

    def on(self, event: str, heard: Callable) -> None:
        """Let `heard` hear of an event until the tab is closed."""
        self._page.on(event, heard)
        self._heard.append((event, heard))

    def close(self) -> None:
        """Forget the page, what it kept and who listened."""
        for event, heard in self._heard:
            self._page.remove_listener(event, heard)
        self._heard.clear()
        self._page.evaluate(FORGET)
        self._page.goto("about:blank")
        self._page.context.clear_permissions()
        self._closed(self)


class Tabs:
    """A browser of Playwright, as far as tests ask it for pages."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._free: list[Tab] = []

    def new_page(
        self,
        viewport: dict[str, int] | None = None,
        color_scheme: str = "light",
        reduced_motion: str = "no-preference",
    ) -> Tab:
        """Return a tab that nobody uses; the defaults are those of Playwright."""
        tab = self._free.pop() if self._free else Tab(self._browser.new_page(), self._free.append)
        tab.set_viewport_size(viewport or {"width": 1280, "height": 720})
        tab.emulate_media(media="null", color_scheme=color_scheme, reduced_motion=reduced_motion)
        return tab
