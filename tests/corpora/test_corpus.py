import gzip
import hashlib
import json
import os
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import repsim_nb as rs
from repsim_nb.corpora import python_docs
from repsim_nb.errors import InputError


@pytest.fixture(scope="module")
def records():
    return python_docs.build()


def shingles(text):
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def test_python_docs_has_prose_and_code_in_three_splits(records):
    found = {(r.name.split(":")[0], r.split) for r in records}
    assert found == {(kind, split) for kind in ("prose", "code") for split in ("train", "validation", "test")}
    assert len({r.name for r in records}) == len(records)


def test_no_document_of_one_split_is_half_contained_in_a_document_of_another(records):
    """Checked exactly, on sets of shingles; the builder works on hashes."""
    sets = [shingles(r.text) for r in records]
    column = {shingle: place for place, shingle in enumerate(set().union(*sets))}
    where = [column[shingle] for each in sets for shingle in each]
    ends = np.cumsum([0, *map(len, sets)])
    has = sparse.csr_array((np.ones(len(where), dtype=np.int32), where, ends), (len(sets), len(column)))
    for split in ("validation", "test"):
        inside = np.array([r.split == split for r in records])
        shared = (has[inside] @ has[~inside].T).tocoo()
        smaller = np.minimum(np.diff(ends)[inside][shared.row], np.diff(ends)[~inside][shared.col])
        assert len(smaller) > 1000
        assert (shared.data < 0.5 * smaller).all()


def test_an_edited_docstring_stays_in_its_split(records):
    by_name = {r.name: r for r in records}
    name = next(n for n in by_name if n.startswith("prose:numpy.linalg"))
    assert python_docs._split(name) == by_name[name].split  # a function of the name, of nothing else


def test_near_duplicates_are_dropped_and_the_longer_text_is_kept():
    words = [f"word{i}" for i in range(200)]
    long, short = " ".join(words), " ".join(words[:120])
    other = " ".join(f"other{i}" for i in range(120))
    assert set(python_docs.without_near_duplicates({"a": short, "b": long, "c": other})) == {"b", "c"}


def test_code_documents_carry_no_docstring():
    import ast

    source = 'def f():\n    """Says what f does."""\n    return 1\n'
    assert dict(python_docs._code(ast.parse(source), source, "m")) == {"code:m/f": "def f():\n    return 1"}


def test_the_same_corpus_has_the_same_hash_and_a_cached_one_equals_a_built_one(records):
    once = rs.load_corpus("python-docs")
    python_docs.build.cache_clear()
    again = rs.load_corpus("python-docs")
    assert once == again
    assert once.sha256 == again.sha256 == again.provenance["sha256"]
    assert once.sha256 != rs.load_corpus("python-docs", split="validation").sha256


def test_own_text_file_folder_and_strings(tmp_path):
    (tmp_path / "b.txt").write_text("One.\nStill one.\n\n\nTwo.\n   \nThree.", encoding="utf-8")
    (tmp_path / "a.md").write_text("Zero.", encoding="utf-8")
    file = rs.load_corpus(tmp_path / "b.txt")
    assert file.texts == ("One.\nStill one.", "Two.", "Three.")
    folder = rs.load_corpus(str(tmp_path))
    assert folder.texts == ("Zero.", *file.texts)
    assert folder.documents == ("a.md:0", "b.txt:0", "b.txt:1", "b.txt:2")
    assert rs.load_corpus(["Zero.", *file.texts]).texts == folder.texts
    assert rs.load_corpus(folder) is folder


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("python-dosc", "Did you mean 'python-docs'"),
        ([], "no texts"),
        (["a", " "], "number 1 of the corpus is empty"),
        ([1], "type int"),
        (3, "got int"),
    ],
)
def test_bad_corpora_say_what_is_wrong(given, message):
    with pytest.raises(InputError, match=message):
        rs.load_corpus(given)


def test_bad_splits_files_and_folders_say_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'train'"):
        rs.load_corpus("python-docs", split="trian")
    with pytest.raises(InputError, match="no splits"):
        rs.load_corpus(["Some text."], split="train")
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        rs.load_corpus(tmp_path / "absent.txt")
    with pytest.raises(InputError, match="contains no text files"):
        rs.load_corpus(tmp_path)
    (tmp_path / "empty.txt").write_text(" \n\n")
    with pytest.raises(InputError, match="only whitespace"):
        rs.load_corpus(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        rs.load_corpus(tmp_path / "latin.txt")


def test_a_mark_in_front_and_hidden_files_are_no_text(tmp_path):
    for name in ("a.txt", "deep/b.md", ".c.txt", ".ipynb_checkpoints/a-checkpoint.txt", "deep/.git/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"In {name}.", encoding="utf-8-sig")
    assert rs.load_corpus(tmp_path).texts == ("In a.txt.", "In deep/b.md.")
    assert rs.load_corpus(tmp_path / ".c.txt").texts == ("In .c.txt.",)
    (tmp_path / "rows.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n', encoding="utf-8-sig")
    assert rs.load_corpus(tmp_path / "rows.jsonl").texts == ("One.", "Two.")


def test_list_corpora_names_what_can_be_loaded():
    for name in rs.list_corpora().index:
        assert len(rs.load_corpus(name)) > 0


def test_a_dataset_that_cannot_be_had_says_so_in_one_line():
    with pytest.raises(InputError, match="Cannot read the dataset 'owner/name'") as caught:
        rs.load_corpus("owner/name")
    assert "\n" not in str(caught.value)


def lines(file, *rows):
    file.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return file


def test_json_lines_are_documents_by_a_column(tmp_path):
    rows = [{"body": "One.", "n": 1}, {"body": " ", "n": 2}, {"n": 3}, {"body": "Zwei 🦊", "n": 4}, {"body": "Three."}]
    file = lines(tmp_path / "some.jsonl", *rows)
    corpus = rs.load_corpus(file, column="body")
    assert corpus.texts == ("One.", "Zwei 🦊", "Three.")
    assert corpus.documents == ("some.jsonl:0", "some.jsonl:3", "some.jsonl:4")
    assert corpus.provenance["source"] == {"path": str(file), "column": "body", "rows_read": "5"}
    assert rs.load_corpus(str(file), column="body", limit=2).texts == corpus.texts[:2]
    assert rs.load_corpus(lines(tmp_path / "text.jsonl", {"text": "By default."})).texts == ("By default.",)


def test_json_lines_are_labelled_pairs_where_there_are_no_texts(tmp_path):
    pairs = [("a", "c", "yes"), (None, "d", "no"), ("b", "e", None), ("f", "g", "no")]
    rows = [dict(zip(("premise", "hypothesis", "label"), pair, strict=True)) for pair in pairs]
    corpus = rs.load_corpus(lines(tmp_path / "pairs.jsonl", *rows))
    assert corpus.inputs == (("a", "c"), ("f", "g"))
    assert corpus.labels == ("yes", "no")
    assert corpus.cases is None


@pytest.mark.parametrize(
    ("content", "how", "message"),
    [
        ('{"body": "One."}', {}, "no column 'text', nor 'premise' .*. Available: body. Set the column"),
        ('{"body": "One."}', {"column": "bdy"}, "Unknown column 'bdy'. Did you mean 'body'"),
        ('{"n": 3}', {"column": "n"}, "column 'n' contains int, not text"),
        ('{"premise": "a", "hypothesis": "b", "label": 0}', {}, "labels are numbers without names"),
        ('{"text": ""}', {}, "contains no text: all 1 lines are empty"),
        ("", {"column": "text"}, "Unknown column 'text'"),
        ('{"text": "One."}\nTwo.', {}, "line 2 is not a JSON object"),
        ('{"text": "One."}', {"split": "train"}, "has no splits"),
        ('{"text": "One."}', {"config": "en"}, "for datasets on the hub"),
        ('{"text": "One."}', {"limit": 0}, "limit=0; expected a positive whole number"),
    ],
)
def test_bad_json_lines_say_what_is_wrong(tmp_path, content, how, message):
    (tmp_path / "bad.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        rs.load_corpus(tmp_path / "bad.jsonl", **how)


def test_a_limit_takes_the_first_documents_and_a_column_needs_a_table(tmp_path):
    whole = rs.load_corpus("python-docs")
    assert rs.load_corpus("python-docs", limit=3).texts == whole.texts[:3]
    assert rs.load_corpus(["a", "b", "c"], limit=2).texts == ("a", "b")
    assert rs.load_corpus(["a"], limit=2).texts == ("a",)
    with pytest.raises(InputError, match="JSON lines files"):
        rs.load_corpus("python-docs", column="text")
    with pytest.raises(FileNotFoundError, match=r"absent\.jsonl"):
        rs.load_corpus(tmp_path / "absent.jsonl")


LONG = "A text that is longer than any path may be. " * 200


@pytest.mark.parametrize(
    "given",
    [LONG, LONG.replace(" ", "/"), "a" * 5000, "word\0word", "One line.\nAnother.", "The fox jumps over the lazy dog."],
    ids=["long", "long path", "long word", "NUL", "lines", "sentence"],
)
def test_load_corpus_says_of_a_text_that_it_goes_into_a_list(given):
    with pytest.raises(InputError, match=r"pass it in a list: \[text\]") as caught:
        rs.load_corpus(given)
    assert len(str(caught.value)) < 250
    assert rs.load_corpus([given]).texts == (given,)


def words():
    yield from ["a", "b"]


def endless():
    while True:
        yield from words()


@pytest.mark.parametrize(
    "given",
    [
        words(),
        pd.Series(["a", "b"], index=[7, 3]),
        pd.Series(["a", "b"], dtype="string"),
        pd.Index(["a", "b"]),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        ("a", "b"),
    ],
    ids=lambda given: f"{type(given).__name__} {getattr(given, 'dtype', '')}",
)
def test_load_corpus_takes_anything_that_holds_strings_in_an_order(given):
    corpus = rs.load_corpus(given)
    assert corpus == rs.load_corpus(["a", "b"])
    assert {type(text) for text in corpus.texts} == {str}


def test_load_corpus_reads_no_more_of_what_has_no_end_than_is_asked():
    assert rs.load_corpus(endless(), limit=3).texts == ("a", "b", "a")
    assert rs.load_corpus(endless(), limit=np.int64(2)).texts == ("a", "b")


def test_load_corpus_leaves_the_error_of_a_generator_as_it_is():
    def broken():
        yield "a"
        raise TypeError("of its own")

    with pytest.raises(TypeError, match="of its own"):
        rs.load_corpus(broken())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"bytes", "got bytes"),
        (bytearray(b"bytes"), "got bytearray"),
        ({"a": "the keys are no texts"}, "got dict"),
        ({"without", "order"}, "got set"),
        (pd.DataFrame({"text": ["its columns are no texts"]}), "got DataFrame.*one column of a table"),
        (np.array([["a"], ["b"]]), "got ndarray"),
        (np.array("a"), "got ndarray"),
        (None, "got NoneType"),
        (2.5, "got float"),
        ("", "corpus name is empty"),
        (" \n", "corpus name is empty"),
        ([b"bytes"], "element 0 has type bytes"),
        (["a", 3], "element 1 has type int"),
        (["a", None], "element 1 has type NoneType"),
        (pd.Series(["a", np.nan]), "element 1 has type float"),
        ([["nested"]], "element 0 has type list"),
        (["a", "half \ud83d"], "text of texts:1 contains half a surrogate pair"),
        ((text for text in ()), "no texts"),
    ],
)
def test_load_corpus_refuses_what_holds_no_texts(given, message):
    with pytest.raises(InputError, match=message):
        rs.load_corpus(given)


def test_load_corpus_refuses_an_open_file_and_another_split_of_a_corpus(tmp_path):
    (tmp_path / "a.txt").write_text("One.\n\nTwo.")
    with open(tmp_path / "a.txt") as opened, pytest.raises(InputError, match="the path of a file"):
        rs.load_corpus(opened)
    corpus = rs.load_corpus(["a"])
    assert rs.load_corpus(corpus, split="all") is corpus
    with pytest.raises(InputError, match="split='train' differs from"):
        rs.load_corpus(corpus, split="train")


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("crlf.txt", b"One.\r\nStill.\r\n\r\nTwo.\r\n", ("One.\nStill.", "Two.")),
        ("long.txt", b"x" * 3_000_000, ("x" * 3_000_000,)),
        ("crlf.jsonl", b'{"text": "a"}\r\n{"text": "b"}\r\n', ("a", "b")),
        ("pair.jsonl", b'{"text": "\\ud83d\\ude00"}', ("\U0001f600",)),
        ("nul.jsonl", b'{"text": "a\\u0000b"}', ("a\0b",)),
        ("later.jsonl", b'{"id": 1}\n{"id": 2, "text": "a"}\n{"text": null}', ("a",)),
        ("separators.jsonl", '{"text": "a\u2028b\x85c"}'.encode(), ("a\u2028b\x85c",)),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[-9:] else "",
)
def test_load_corpus_reads_text_as_it_stands(tmp_path, name, content, texts):
    (tmp_path / name).write_bytes(content)
    assert rs.load_corpus(tmp_path / name).texts == texts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mark.txt", "Hi.".encode("utf-16"), "not UTF-8 text"),
        ("no mark.txt", "Hi.".encode("utf-16-le"), "not UTF-8 text"),
        ("packed.txt.gz", gzip.compress(b"Hi.", mtime=0), "not UTF-8 text. Unpack it"),
        ("packed.jsonl.gz", gzip.compress(b'{"text": "Hi."}', mtime=0), "not UTF-8 text. Unpack it"),
        ("broken.txt", b"fine \xff not", "not UTF-8 text"),
        ("mark.jsonl", '{"text": "a"}'.encode("utf-16"), "not UTF-8 text"),
        (
            "half.jsonl",
            b'{"text": "fine"}\n{"text": "\\ud83d"}',
            r"text of half.jsonl:1 contains half a surrogate pair",
        ),
        ("half pair.jsonl", b'{"premise": "a", "hypothesis": "\\udc00", "label": "yes"}', "half a surrogate pair"),
        ("typed.jsonl", b'{"text": "a"}\n{"text": ["b"]}', r"contains list, not text.*\(Row 1.\)"),
        ("deep.jsonl", b"[" * 100_000, "line 1 is not a JSON object"),
        ("array.jsonl", b'[{"text": "a"}]', "line 1 is not a JSON object"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[-9:] else "",
)
def test_load_corpus_refuses_a_file_that_is_no_text(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        rs.load_corpus(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="devices, and names that are no text")
def test_load_corpus_refuses_a_device_and_marks_what_is_no_text_in_a_name(tmp_path):
    with pytest.raises(InputError, match="is a device"):
        rs.load_corpus("/dev/zero")
    file = tmp_path / os.fsdecode(b"caf\xe9.txt")
    file.write_text("Some text.")
    corpus = rs.load_corpus(file)
    assert corpus.documents == ("caf\ufffd.txt:0",)
    json.dumps(corpus.provenance, ensure_ascii=False).encode("utf-8")


def test_a_corpus_hashes_as_json_does_and_tells_the_bytes_of_its_texts():
    texts = [f"é 🦊 {i}" for i in range(2500)]
    corpus = rs.load_corpus(texts)
    content = json.dumps([corpus.documents, corpus.texts, None], ensure_ascii=False)
    assert corpus.sha256 == hashlib.sha256(content.encode()).hexdigest()
    assert corpus.text_bytes == len("".join(texts).encode())
    pairs = rs.load_corpus("nli-heuristics")
    assert pairs.text_bytes == len("".join((*pairs.texts, *pairs.second_texts)).encode())
    content = json.dumps([pairs.documents, pairs.texts, pairs.labels, pairs.second_texts, pairs.cases])
    assert pairs.sha256 == hashlib.sha256(content.encode()).hexdigest()


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """The user's own cache and the one for all, and a corpus that is built in no time."""
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "home" / name))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "tmp"))
    built = []
    texts = {f"prose:{name}": " ".join(f"{name}{i}" for i in range(99)) for name in ("one", "two", "zwölf 🦊")}
    monkeypatch.setattr(python_docs, "_documents", lambda: built.append(1) or texts)
    monkeypatch.setattr(python_docs, "build", python_docs.build.__wrapped__)
    yield tmp_path, built, sorted(texts)
    assert [record.name for record in python_docs.build()] == sorted(texts)


def kept(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: b"[]",
        lambda content: b"\xff" + content,
        lambda content: content.replace(b"two7", b"two8"),
        lambda content: content[:-20] + bytes(20),
        lambda content: content + b" ",
        lambda content: b'"x"\n{"a": 1}',
    ],
)
def test_a_corrupt_cache_is_built_anew(caches, harm):
    folder, built, _names = caches
    whole = python_docs.build()
    assert python_docs.build() == whole
    assert len(built) == 1
    (file,) = kept(folder)
    content = file.read_bytes()
    file.write_bytes(harm(content))
    assert python_docs.build() == whole
    assert len(built) == 2
    assert file.read_bytes() == content


def test_an_unwritable_home_leaves_the_corpus_usable_and_is_said_once(caches):
    folder, built, _names = caches
    (folder / "home").write_text("no folder, as a home that cannot be written")
    with pytest.warns(UserWarning, match=r"home.* is not writable: the corpus 'python-docs' is cached in .*tmp"):
        whole = python_docs.build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert python_docs.build() == whole
    assert len(built) == 1
    assert [file.is_relative_to(folder / "tmp") for file in kept(folder)] == [False, True]


def test_a_corpus_that_can_be_kept_nowhere_is_usable(caches):
    folder, _built, names = caches
    for name in ("home", "tmp"):
        (folder / name).write_text("no folder")
    with pytest.warns(UserWarning, match="is not cached"):
        assert [record.name for record in python_docs.build()] == names
    for name in ("home", "tmp"):
        (folder / name).unlink()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="who owns a file")
def test_a_cache_that_somebody_else_has_put_there_is_not_read(caches, monkeypatch):
    _folder, built, _names = caches
    python_docs.build()
    monkeypatch.setattr(python_docs, "_own", lambda path: False)
    python_docs.build()
    assert len(built) == 2
