"""Escape untrusted bytes before printing: no control, bidi or invisible characters.

One rule: what comes out has no character that is not printable, newlines of our own excepted.
"""

from collections.abc import Iterator

_HEX_WIDTH = 16
_HEX_LIMIT = 4_096
_TEXT_LIMIT = 16_384
_LEAST_PRINTABLE = 0.8


def one_line(data: bytes | str | None, *, most: int = 120) -> str:
    """Return *data* as one printable line, cut after *most* characters; `-` for None."""
    if data is None:
        return "-"
    text = data if isinstance(data, str) else data.decode(errors="backslashreplace")
    escaped = _escaped(text[: most + 1])
    return escaped if len(escaped) <= most else escaped[:most] + "…"


def lines(data: bytes) -> Iterator[str]:
    """Yield *data* as printable lines: text as text, anything else as a hex dump, both cut."""
    text = _as_text(data)
    if text is None:
        yield from _hex_dump(data[:_HEX_LIMIT])
        left = len(data) - _HEX_LIMIT
    else:
        for line in text[:_TEXT_LIMIT].split("\n"):
            yield _escaped(line)
        left = len(text) - _TEXT_LIMIT
    if left > 0:
        yield f"… {left} more: --raw writes all of it"


def _as_text(data: bytes) -> str | None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    num_printable = sum(character.isprintable() or character in "\n\t" for character in text)
    return text if num_printable >= _LEAST_PRINTABLE * len(text) else None


def _escaped(text: str) -> str:
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", errors="surrogatepass").decode()
        for c in text
    )


def _hex_dump(data: bytes) -> Iterator[str]:
    for start in range(0, len(data), _HEX_WIDTH):
        row = data[start : start + _HEX_WIDTH]
        shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)  # noqa: PLR2004 - ASCII
        yield f"{start:08x}  {row.hex(' '):<{3 * _HEX_WIDTH}} {shown}"
