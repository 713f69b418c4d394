"""Parts of a text by their characters: as if each part were looked at by itself."""

import pytest

from inference.explanations.context_text import ContextText, words_of

TEXTS = [
    "import os\n\n    def Read_all(path):\n\treturn open(path).read()  # Read the file, read it ALL\n",
    "Straße STRASSE ﬁnally naïve éclair 日本語テキスト x1y2zzz ab abc",
    "",
    "word",
]


@pytest.mark.parametrize("text", TEXTS)
def test_words_of_parts(text):
    known = ContextText(text)
    for start in range(len(text) + 1):
        assert sorted(known.words_before(start)) == sorted(words_of(text[:start])), start
        for end in range(start, len(text) + 1):
            assert known.words_in(start, end) == words_of(text[start:end]), (start, end)


def test_places():
    known = ContextText(TEXTS[0])
    tokens = ("os", "import", "Read_all", "open", "ALL")
    opening = {token: known.place(TEXTS[0].index(token)).opening for token in tokens}
    assert opening == {"import": None, "os": "import", "Read_all": "def", "open": "return", "ALL": "return"}
    assert known.place(TEXTS[0].index("mport")) == (True, "i")
    assert not known.place(0).inside_word
