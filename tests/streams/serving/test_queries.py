"""Everyday queries, in several languages, on a small catalogue and inside a larger one."""

from itertools import product

import msgspec
import pytest

from streams.serving.query_words import FILLERS, expected_share
from streams.serving.text_index import TextIndex
from tests.support.builders import upload

TITLES = {
    "guitar1": "Guitar basics",
    "guitar2": "Fingerstyle guitar",
    "guitar3": "Five guitar chords everybody needs",
    "guitar4": "Electric guitar solo",
    "sing": "How to sing high notes",
    "pasta": "10 minute pasta",
    "paella": "Paella for six",
    "cake": "Best chocolate cake",
    "cooking1": "Cooking for beginners",
    "cooking2": "Cook like a chef",
    "sourdough": "Sourdough bread at home",
    "tyre": "Change a bicycle tyre",
    "tap": "Fixing a dripping tap",
    "dog1": "Dog training: the first week",
    "dog2": "My dog learns to sit",
    "cat": "What your cat wants to tell you",
    "chess1": "Chess openings explained",
    "chess2": "Play the Sicilian defence",
    "yoga": "Morning yoga in ten minutes",
    "mount": "Make money with candles",
    "travel": "The best of Lisbon in two days",
    "python": "Python in an hour",
    "tortilla": "Tortilla de patatas",
    "gazpacho": "Gazpacho andaluz en casa",
    "bailar": "Cómo bailar salsa",
    "ingles": "Inglés desde cero",
    "de_bread": "Brot backen ohne Hefe",
    "de_guitar": "Gitarre für Anfänger",
    "de_bike": "So wird das Fahrrad winterfest",
    "de_sing": "Wie ich singe",
    "ja_guitar": "ギター入門",
    "ja_curry": "本格カレー",
    "ja_pancake": "パンケーキの作り方",
    "ja_ramen": "醤油ラーメンを家で",
    "ar_guitar": "دروس جيتار للمبتدئين",
    "ar_bread": "خبز عربي في البيت",
    "ar_sing": "كيف تغني أفضل",
    "hi_guitar": "गिटार के पहले पाठ",
    "hi_paneer": "पनीर मसाला घर पर",
    "hi_sing": "कैसे गाना सीखें",
    "zh_pork": "家常红烧肉",
    "zh_sing": "怎么唱高音",
    "ru_guitar": "Уроки гитары",
    "ru_sing": "Как петь высоко",
}
GUITARS = ["guitar1", "guitar2", "guitar3", "guitar4"]

QUERIES = {
    "how to play guitar": GUITARS,
    "learn to cook": ["cooking1", "cooking2"],
    "how to make pasta": ["pasta"],
    "receta de paella": ["paella"],
    "best paella recipe": ["paella"],
    "what is the best guitar for beginners": ["guitar1", "guitar2", "guitar3", "guitar4"],
    "guitar tutorial": GUITARS,
    "how to play the guitr": GUITARS,
    "how to bake bread": ["sourdough"],
    "how to fix a tap": ["tap"],
    "how do i change a tire on my bicycle": ["tyre"],
    "how to train a dog": ["dog1", "dog2"],
    "why does my cat look at me": ["cat"],
    "how to play chess": ["chess1"],
    "yoga for the morning": ["yoga"],
    "what to do in lisbon": ["travel"],
    "learn python": ["python"],
    "cómo hacer tortilla de patatas": ["tortilla"],
    "receta de gazpacho": ["gazpacho"],
    "como aprender ingles": ["ingles"],
    "wie kann ich brot backen": ["de_bread"],
    "wie lerne ich gitarre": ["de_guitar"],
    "das beste fahrrad für den winter": ["de_bike"],
    "ギターの弾き方": ["ja_guitar"],
    "カレーの作り方": ["ja_curry"],
    "ラーメンの作り方": ["ja_ramen"],
    "كيف أعزف الجيتار": ["ar_guitar"],
    "طريقة عمل خبز": ["ar_bread"],
    "गिटार कैसे बजाएं": ["hi_guitar"],
    "पनीर कैसे बनाएं": ["hi_paneer"],
    "怎么做红烧肉": ["zh_pork"],
    "как играть на гитаре": ["ru_guitar"],
}
"""What must lead, in any order."""

OTHERS = [
    pattern.format(f"{what} {where}")
    for pattern, what, where in product(
        (
            *("How to make {}", "How to play with {}", "The best {} of the year", "{} for six"),
            *("Learn to love {}", "Cómo hacer {}", "La receta de {}", "Wie ich {} mache"),
            *("Das beste {}", "{}の作り方", "كيف {} في", "{} कैसे करें", "怎么做 {}", "Как {} на"),
        ),
        (
            *("origami", "kites", "robots", "terrariums", "pottery", "lanterns", "puppets"),
            *("jewellery", "soap", "rafts", "drones", "masks", "murals", "quilts", "baskets"),
            *("igloos", "telescopes", "clocks", "sundials", "marionettes"),
        ),
        (
            *("outdoors", "indoors", "quickly", "slowly", "twice", "together", "alone", "again"),
            *("cheaply", "safely", "blindfolded", "underwater", "upstairs", "abroad", "tonight"),
            *("properly", "backwards", "anyway"),
        ),
    )
]


def index_of(titles):
    """Return an index over *titles* by video id."""
    index = TextIndex()
    for video_id, title in titles.items():
        made = upload(video_id, category="", tags=())
        index.put(msgspec.structs.replace(made, title=title))
    return index


@pytest.fixture(scope="module")
def small():
    """A catalogue of a few dozen videos."""
    return index_of(TITLES)


@pytest.fixture(scope="module")
def large():
    """The same among 5,000 others that have the filler words and none of the subjects."""
    assert len(OTHERS) >= 5_000
    return index_of(TITLES | {f"other{n}": title for n, title in enumerate(OTHERS)})


def leading(index, query, most):
    """Return the first *most* videos that are found for *query*."""
    return [video_id for video_id, _ in index.find(query, most)]


@pytest.mark.parametrize(("query", "lead"), QUERIES.items())
def test_the_subject_of_a_query_decides_what_leads(small, query, lead):
    """And not its filler words, which few titles of a small catalogue have."""
    assert set(leading(small, query, len(lead))) == set(lead)


@pytest.mark.parametrize(("query", "lead"), QUERIES.items())
def test_the_subject_of_a_query_decides_among_thousands_too(large, query, lead):
    """Others that bear all of its filler words do not come before it."""
    assert set(leading(large, query, len(lead))) == set(lead)


@pytest.mark.parametrize("query", ["how to play zither", "wie mache ich seife", "の作り方 はさみ"])
def test_filler_words_do_not_match_a_query_for_an_unknown_subject(small, query):
    """Without a match the list is that of taste; a video about singing is no better."""
    assert leading(small, query, 5) == []


def test_a_query_of_filler_words_alone_finds_the_videos_with_them(small):
    """There is nothing else to go by."""
    assert leading(small, "how to", 1) == ["sing"]


def test_forms_of_the_subject_are_kept_beside_the_exact_word(small):
    """Who types `cook` means `cooking`, too."""
    assert leading(small, "cook", 5) == ["cooking2", "cooking1"]


def test_the_longer_a_word_the_rarer_it_is_expected_in_every_script():
    """A filler word is expected more often than any other of two letters or more."""
    for longer, shorter in (
        ("guitar", "play"),
        ("гитара", "кот"),
        ("料理", "おに"),
        ("기타", "그"),
    ):
        assert expected_share(longer) < expected_share(shorter)
    assert all(expected_share(filler) > expected_share("tv") for filler in FILLERS)
