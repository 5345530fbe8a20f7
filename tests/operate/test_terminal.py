"""What strangers sent, on a terminal: nothing of it may act."""

from hypothesis import given
from hypothesis import strategies as st

from nextwatch.operate import listing, terminal
from nextwatch.operate.when import shown
from tests.operate.letters_on_file import letter
from tests.support.builders import T0

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202egnp.exe\r\x9b31m\u200b".encode()


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_bytes_come_out_unprintable(data):
    """As text or as a dump, on one line or on many."""
    assert terminal.one_line(data).isprintable()
    assert all(line.isprintable() for line in terminal.lines(data))


def test_text_stays_readable():
    assert list(terminal.lines('{"título": "日本"}\nmore'.encode())) == [
        '{"título": "日本"}',
        "more",
    ]


def test_binary_is_dumped():
    assert list(terminal.lines(b"\x00\x01AB\xff")) == [
        "00000000  00 01 41 42 ff                                   ..AB."
    ]


def test_a_long_value_is_cut_with_a_note():
    assert terminal.one_line("x" * 200, most=3) == "xxx…"
    assert list(terminal.lines(b"x" * 20_000))[-1] == "… 3616 more: --raw writes all of it"


def test_a_whole_letter_has_no_character_that_acts():
    """Key, headers, reason and payload alike, each on lines that say what they are."""
    headers = ((HOSTILE.decode(), HOSTILE), ("dlq.app", HOSTILE))
    hostile = letter(HOSTILE + b"\nreason    forged", key=HOSTILE, reason="\x1bx", headers=headers)
    drawn = list(listing.whole(hostile, now_ms=T0))

    assert all(line.isprintable() for line in drawn)
    assert "  | reason    forged" in drawn
    assert listing.line(hostile).isprintable()


def test_a_kind_counts_its_letters_and_those_that_would_pass():
    """Most frequent first; the times are of the first and the last refusal."""
    letters = [letter(at_ms=5), letter(b"{", at_ms=9), letter(b"x" * 300_000, reason="too_large")]
    kinds = listing.kinds_of(letters, now_ms=T0)

    assert [(k.reason, k.letters, k.passing) for k in kinds] == [
        ("json", 2, 1),
        ("too_large", 1, 0),
    ]
    assert (kinds[0].first_ms, kinds[0].last_ms) == (T0 + 5, T0 + 9)
    assert listing.table(kinds).row_count == 2


def test_invented_reasons_cost_no_memory():
    """A thousand kinds are told apart, the rest is one kind."""
    letters = (letter(b"{", reason=f"r{number}") for number in range(1_010))
    kinds = listing.kinds_of(letters, now_ms=T0)

    assert (len(kinds), kinds[0].reason, kinds[0].letters) == (1_001, listing.OTHER, 10)


def test_a_cut_letter_shows_its_original_length():
    cut = letter(b"x" * 300_000, reason="too_large")

    assert listing.line(cut) == (
        f"watch-events.dlq:2:7  too_large  from watch-events:1:40  {shown(T0)}  262144 B of 300000"
    )
    assert "today     cannot be replayed: only the beginning was kept" in listing.whole(
        cut, now_ms=T0
    )
