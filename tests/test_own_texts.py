"""A reader's own CSV: read as it is, or refused in one line with file and row."""

import pytest

from personagen_utils.errors import KitError
from personagen_utils.own_texts import own_texts


@pytest.fixture
def write(tmp_path):
    def write(content, name="mine.csv"):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write


def test_texts_are_read_as_they_are(write):
    file = write('\ufefftext,emotion,source\n"Oh, no\n!",fear,web\nNA,joy,\nnull, joy ,web\n')
    table = own_texts(file)
    assert table["text"].tolist() == ["Oh, no\n!", "NA", "null"]
    assert table["emotion"].tolist() == ["fear", "joy", "joy"]
    assert table["source"].tolist() == ["web", "", "web"]
    assert table["item"].tolist() == [0, 1, 2]


def test_columns_of_other_names_and_own_items(write):
    file = write("tweet,label,emotion,item\na,joy,x,7\nb,fear,y,7\n")
    table = own_texts(file, text="tweet", label="label")
    assert table.columns.tolist() == ["text", "emotion", "item"]
    assert table["emotion"].tolist() == ["joy", "fear"]
    assert table["item"].tolist() == ["7", "7"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("tweet,label\na,joy\n", "no column 'text'; it has tweet, label: rename yours"),
        ("text,label\na,joy\n", "no column 'emotion'; .*: rename yours to 'emotion'"),
        ("text;emotion\na;joy\n", "save it with commas"),
        ("text,emotion\na,joy\n ,fear\n,fear\n", r"text in row 3 \(and 1 more\) is empty"),
        ("text,emotion\na,joy\nb\n", "label in row 3 is empty"),
        ("text,emotion\na,joy\nb,joy\n", "all 2 texts are 'joy'"),
        ("text,emotion\n", "a header and no texts"),
        ("", "not a readable CSV"),
        ("text,emotion\na,joy\nb, then c,joy\n", "quote texts that hold commas"),
        ("text,emotion\na,b,joy\nc,d,fear\n", "quote texts that hold commas"),
        ('text,emotion\n"a,joy\n', "not a readable CSV"),
        (b"text,emotion\na,joy\nd\xe9j\xe0,fear\n", "line 3 is not UTF-8"),
        ("text,emotion\na,joy\n".encode("utf-16"), "line 1 is not UTF-8"),
    ],
)
def test_what_cannot_be_used_is_named(write, content, message):
    with pytest.raises(KitError, match=message) as caught:
        own_texts(write(content))
    assert "mine.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(KitError, match=r"nowhere\.csv: cannot be read \(No such file"):
        own_texts(tmp_path / "nowhere.csv")
