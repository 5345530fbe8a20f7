"""Estimate by the form of a word alone how many videos contain it.

In a small catalogue inverse document frequency misleads: `how` may stand in one title and `guitar`
in four. The longer a word is, the rarer it is in any language (Zipf's law of abbreviation), so its
length is a prior: a word of n letters stands in a share of ``10 ** (-0.4 * n)`` of the videos. A
Chinese or Korean character says more than a letter, and hiragana is mostly grammar. Short words
that say much (`dog`) are told from those that say little (`how`) by a small list.

Source:
    Piantadosi et al., Word lengths are optimized for efficient communication, PNAS 2011,
    https://doi.org/10.1073/pnas.1012551108
"""

from functools import lru_cache

from models.features.text import words

MAX_LENGTH = 6.0
"""In letters; longer words say no more."""
SHARE_OF_LETTER = 10**-0.4
SHARE_OF_FILLER = 0.5
"""In how many of the videos a filler word may be expected."""
_HIRAGANA = ("\u3040", "\u309f")
_LETTERS_OF_HIRAGANA = 0.75
"""What a character counts in an n-gram with hiragana in it."""
_LETTERS = (
    ("\u30a0", "\u30ff", 2.0),  # katakana
    ("\u3400", "\u9fff", 3.0),  # Chinese characters
    ("\uac00", "\ud7af", 2.5),  # Hangul
    ("\U00020000", "\U0003ffff", 3.0),  # more Chinese characters
)

_FILLERS = """
a about an and are at be beginner beginners best can do does easy for from get good how i in is
it learn make me my of on or play recipe recipes that the this to tutorial video videos what
when where which who why with you your
al aprender como con cual cómo de del el en es hacer la las lo los me mejor mejores mi para por
principiantes que qué quien receta recetas se si su tu un una y
am an anfänger auf aus bei beste besten das dem den der des die ein eine einen einer für ich im
ist kann lernen machen macht man mein mit rezept rezepte selber und von was wie wo zu zum zur
apprendre au aux avec ce comment dans des du et faire je le les débutant débutants meilleur
meilleure mon ou où pour quel quelle recette recettes sur une
as com da do dos e em fazer mais melhor melhores meu no na não o os ou uma um
che come con di è fare gli i il imparare miglior migliore nel per più ricetta una uno
beste een en het hoe je leren maken met op te van voor wat zijn
czy dla do i jak jest na nie o się w z za zrobić
bir bu da de en için ile ne nasıl ve yapılır
в во для начинающих и из как к лучший на не о от по рецепт с сделать у что это
للمبتدئين أفضل الى إلى التي الذي على عن في كيف كيفية ما مع من هو هي هل و طريقة وصفة
इस और एक का की के को कैसे क्या करें करना बनाएं बनाने में मेरा पर लिए विधि सबसे से सीखें है हैं
a apa cara dan dengan di ini itu membuat resep terbaik untuk yang
방법 하는 하기 법 만들기 만드는 배우기 최고의
の作 作り り方 の弾 弾き き方 の使 使い い方 のや やり 方法
怎么 怎樣 怎样 如何 什么 什麼 教程 方法 最好 怎麼 么做
"""  # noqa: RUF001
FILLERS = frozenset(word for line in _FILLERS.splitlines() for word in words(line))
"""What begins or joins queries for videos, in the forms that `models.features.text` cuts."""


@lru_cache(maxsize=65_536)
def expected_share(word: str) -> float:
    """Return in what share of any videos a word like *word* is expected."""
    if word in FILLERS:
        return SHARE_OF_FILLER
    return float(SHARE_OF_LETTER ** min(_length(word), MAX_LENGTH))


def _length(word: str) -> float:
    """Return the length of *word* in letters."""
    if any(_HIRAGANA[0] <= character <= _HIRAGANA[1] for character in word):
        return _LETTERS_OF_HIRAGANA * len(word)
    return sum(_letters(character) for character in word)


def _letters(character: str) -> float:
    return next((count for first, last, count in _LETTERS if first <= character <= last), 1.0)
