"""Markdown shows names of files and projects as text, and never as a link, a formula or markup."""

from __future__ import annotations

import pytest

from flows.telemetry.step_markdown import cell


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("a|b`c*d_e", r"a\|b\`c\*d\_e"),
        ("~~gone~~", r"\~\~gone\~\~"),
        ("&lt;b&gt; <b>", r"&amp;lt;b&amp;gt; \<b\>"),
        ("$x^2$ costs $5", r"\$x^2\$ costs \$5"),
        ("# heading", r"\# heading"),
        ("[a](b)", r"\[a\](b)"),
        ("http://a.example/b", "http://\u2060a.example/b"),
        ("HTTPS://a.example", "HTTPS://\u2060a.example"),
        ("www.a.example", "www\u2060.a.example"),
        ("me@a.example", "me@\u2060a.example"),
        ("line\nbreak\x1b[0m", r"line?break?\[0m"),
    ],
)
def test_text_in_a_cell_is_shown_as_it_is(text: str, escaped: str) -> None:
    assert cell(text) == escaped
