# SPDX-License-Identifier: Apache-2.0
"""A page as a browser without scripts reads it."""

from __future__ import annotations

from html.parser import HTMLParser

EMPTY = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """The elements of a page: tag, attributes and text, in order; raises for tags that are not closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(text)
        assert not self._open, f"not closed: {[tag for tag, _ in self._open]}"

    def handle_starttag(self, tag, attributes):
        text: list[str] = []
        self.elements.append((tag, dict(attributes), text))
        if tag not in EMPTY:
            self._open.append((tag, text))

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), []))

    def handle_endtag(self, tag):
        opened, _ = self._open.pop()
        assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data):
        for _, text in self._open:
            text.append(data)

    def find(self, tag: str, **attributes: str) -> list[tuple[dict[str, str], str]]:
        """Return attributes and text of the elements of a tag with some attributes."""
        return [
            (found, " ".join(" ".join(text).split()))
            for name, found, text in self.elements
            if name == tag and attributes.items() <= found.items()
        ]
