"""Corpora: packing, splits, the cache, the tokenizer, and one line for what is missing or damaged."""

import gzip
import json
import os
import random
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tokenizers.implementations import ByteLevelBPETokenizer

from dmmd_lite.models.loading import train_recipe
from dmmd_lite.recipes.catalogue import get_recipe, scales_of
from dmmd_lite.recipes.cost import cost
from dmmd_lite.worlds import corpora, get_world, tokenizers
from dmmd_lite.worlds.corpora import Corpus, books, books27, openwebtext, text_world
from dmmd_lite.worlds.tokenizers import END_OF_TEXT

REAL = Path(os.environ.get("DMMD_DATA_DIR") or "none")
needs_books = pytest.mark.skipif(
    not (REAL / "books_en_train.parquet").is_file(), reason="DMMD_DATA_DIR holds no books_en_*.parquet"
)
MARKS = "alpha beta gamma delta epsilon zeta eta theta".split()
WORDS = "one two three four five six seven eight nine ten".split()


def documents(split, num):
    """`num` different documents; the first word of each names its split."""
    return [f"{split}: {WORDS[i % 10]}, {WORDS[i // 10 % 10]} & {WORDS[i // 100]}!" for i in range(num)]


def write(path, texts, column="text"):
    pq.write_table(pa.table({column: texts}), path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """DMMD_DATA_DIR with books of 200 + 20 + 20 documents and a byte-level tokenizer of few merges."""
    data = tmp_path / "data"
    (data / "gpt2_tokenizer").mkdir(parents=True)
    for split, num in (("train", 200), ("valid", 20), ("test", 20)):
        write(data / f"books_en_{split}.parquet", documents(split, num))
    tokenizer = ByteLevelBPETokenizer()
    texts = documents("train", 200)
    tokenizer.train_from_iterator(texts, 300, special_tokens=[END_OF_TEXT], show_progress=False)
    tokenizer.save_model(str(data / "gpt2_tokenizer"))
    monkeypatch.setenv("DMMD_DATA_DIR", str(data))
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("DMMD_DOWNLOAD", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return data


def text_of(world, split):
    return world.show(world.stream(split)[None].long())[0]


def test_letters_are_packed_with_one_space(folder):
    world = books27()
    expected = "".join(f"test {WORDS[i % 10]} {WORDS[i // 10]} one " for i in range(20))
    assert text_of(world, "test") == expected
    assert world.streams["test"].dtype == torch.uint8


def test_gpt2_tokens_are_packed_with_end_of_text(folder):
    world = Corpus("books", "gpt2", 16, stem="books_en")
    assert text_of(world, "valid") == "".join(text + END_OF_TEXT for text in documents("valid", 20))
    assert world.streams["valid"].dtype == torch.uint16
    drawn = world.sample(8, torch.Generator().manual_seed(0), "valid")
    assert drawn.shape == (8, 16) and drawn.dtype == torch.int64
    assert all(text in text_of(world, "valid") for text in world.show(drawn))


def test_judges_read_what_generators_never_see(folder):
    world = Corpus("books", "gpt2", 16, stem="books_en")
    parts = {split: text_of(world, split).split(END_OF_TEXT)[:-1] for split in world.splits}
    assert sorted(parts["train"] + parts["judge"]) == sorted(documents("train", 200))
    assert 0.15 < len(parts["judge"]) / 200 < 0.35
    assert parts["test"] == documents("test", 20)
    write(folder / "books_en_train.parquet", documents("train", 150))
    fewer = Corpus("books", "gpt2", 16, stem="books_en")
    assert set(text_of(fewer, "judge").split(END_OF_TEXT)) <= {*parts["judge"], ""}


@pytest.mark.parametrize("content", [b"", b"truncated", None])
def test_a_damaged_cache_is_refused_in_one_line(content, folder):
    cached = books27().cached
    cached.write_bytes(cached.read_bytes()[:-1] if content is None else content)
    for name in ("streams", "provenance"):
        with pytest.raises(ValueError, match=f"cache: {cached} is damaged .*; delete it") as error:
            getattr(books27(), name)
        assert "\n" not in str(error.value)


def test_a_second_start_reads_the_cache(folder, monkeypatch):
    first = books27()
    streams, provenance = first.streams, first.provenance
    monkeypatch.setattr("dmmd_lite.worlds.corpora.write_tensors", lambda *_: pytest.fail("tokenised again"))
    second = books27()
    assert all(torch.equal(second.streams[split], stream) for split, stream in streams.items())
    assert second.provenance == provenance
    assert provenance["corpus_tokenizer"] == "letters" and len(provenance["corpus_sha256"]) == 64
    assert provenance["corpus_source"] == (
        "train: books_en_train.parquet; valid: books_en_valid.parquet; test: books_en_test.parquet"
    )
    assert set(load_file(second.cached)) == set(second.splits)


def test_damaged_files_are_noticed(folder):
    books27().stream("valid")
    (folder / "books_en_valid.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="^books27: books_en_valid.parquet cannot be read"):
        books27().stream("valid")
    write(folder / "books_en_valid.parquet", documents("valid", 20))
    (folder / "gpt2_tokenizer" / "vocab.json").write_text("{")
    with pytest.raises(ValueError, match="^tokenizer: vocab.json or merges.txt is damaged"):
        books().stream("valid")
    (folder / "gpt2_tokenizer" / "vocab.json").write_text('{"a": 0}')
    (folder / "gpt2_tokenizer" / "merges.txt").write_text("")
    for vocab in ('{"a": 0}', '{"a": 50257, "<|endoftext|>": 1}'):
        (folder / "gpt2_tokenizer" / "vocab.json").write_text(vocab)
        with pytest.raises(ValueError, match="^tokenizer: vocab.json is not GPT-2's"):
            books().stream("valid")
    books_file = folder / "books_en_valid.parquet"
    books_file.unlink()
    books_file.symlink_to("/proc/self/mem")  # a file that nobody can read
    with pytest.raises(ValueError, match="^books_en_valid.parquet cannot be read [(]OSError"):
        books27().stream("valid")


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "txt"])
def test_own_text_in_one_part_is_split_by_position(folder, tmp_path, ending):
    texts, path = documents("own", 200), tmp_path / f"own.{ending}"
    if ending == "parquet":
        write(path, texts)
    elif ending == "jsonl":
        path.write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    else:
        path.write_text("\n\n".join(texts))
    world = text_world("own", path, "gpt2", length=8)
    parts = {split: text_of(world, split).split(END_OF_TEXT)[:-1] for split in world.splits}
    assert (parts["valid"], parts["test"]) == (texts[192:196], texts[196:])
    assert sorted(parts["train"] + parts["judge"]) == sorted(texts[:192])
    capped = text_world("own", path, "gpt2", length=8, max_documents=100)
    assert text_of(capped, "test").split(END_OF_TEXT)[:-1] == texts[98:100]


def test_own_text_in_a_folder_keeps_its_splits(folder):
    with pytest.warns(UserWarning, match="gpt2_tokenizer"):
        world = text_world("own", folder, length=8)
        assert all(torch.equal(world.streams[split], stream) for split, stream in books27().streams.items())
    assert text_of(world, "valid").startswith("valid one")


def folder_of(tmp_path, *names):
    """A folder with files of 50 documents each, which begin with the mark of their file."""
    path = tmp_path / "many"
    path.mkdir()
    for name, mark in zip(names, MARKS, strict=False):
        (path / name).write_text("\n\n".join(documents(mark, 50)))
    return path


def marks(world, split):
    """The marks of the documents in a split, in the order of `MARKS`."""
    words = set(text_of(world, split).split())
    return [mark for mark in MARKS if mark in words]


SPLIT_NAMES = [  # names of files alpha, beta …; the files of train, valid and test, "" for the end of train
    (["train.txt", "val.txt", "test.txt"], "alpha", "beta", "gamma"),
    (["TRAIN.TXT", "Dev.txt", "my-test.v2.txt"], "alpha", "beta", "gamma"),
    (["latest_train.txt", "latest_valid.txt", "latest_test.txt"], "alpha", "beta", "gamma"),
    (["train-00000-of-2.txt", "train1.txt", "validation.txt", "test.txt"], "alpha beta", "gamma", "delta"),
    (["train.txt", "test.txt"], "alpha", "", "beta"),
    (["train.txt", "valid.txt"], "alpha", "beta", ""),
    (["train.txt"], "alpha", "", ""),
]


@pytest.mark.parametrize("names, train, valid, test", SPLIT_NAMES)
def test_a_folder_is_split_by_whole_words(folder, tmp_path, names, train, valid, test):
    world = text_world("many", folder_of(tmp_path, *names), length=8)
    last = train.split()[-1]
    assert marks(world, "train") == train.split()
    assert marks(world, "valid") == [valid or last] and marks(world, "test") == [test or last]
    source = world.provenance["corpus_source"]
    assert source.count("the end of train") == (valid, test).count("") and all(n in source for n in names)


@pytest.mark.parametrize(
    "names, named",
    [
        (["train.txt", "extra.txt", "test.txt"], ["extra.txt"]),
        (["train-test-valid.txt"], ["train-test-valid.txt"]),
        (["train.txt", "constrained.txt"], ["constrained.txt"]),
        (["valid.txt", "test.txt"], ["test.txt", "valid.txt"]),
        (["test.txt"], ["test.txt"]),
        (["train.txt", "test.jsonl"], ["json", "text"]),
    ],
)
def test_unclear_names_are_refused(folder, tmp_path, names, named):
    with pytest.raises(ValueError, match="^path: ") as error:
        text_world("many", folder_of(tmp_path, *names)).stream("train")
    assert repr(named) in str(error.value)


def test_what_is_not_read_is_named(folder, tmp_path):
    path = folder_of(tmp_path, "train.txt", "notes.md", ".hidden")
    (path / "more").mkdir()
    with pytest.warns(UserWarning, match=r"^path: .*: \['more', 'notes.md'\] are not read$"):
        assert marks(text_world("many", path, length=8), "train") == ["alpha"]
    (path / "test.txt").symlink_to("test.txt")
    with pytest.raises(ValueError, match=r"holds \['test.txt'\], which cannot be read as files$"):
        text_world("many", path).stream("train")


@pytest.mark.parametrize(
    "names",
    [["testing.txt", "training.txt"], ["eval.txt", "held-out.txt"], ["constrained.txt", "latest.txt"]],
)
def test_files_that_are_pooled_are_named(folder, tmp_path, names):
    path = folder_of(tmp_path, *names)
    with pytest.warns(
        UserWarning, match=re.escape(f"{names} are all training data, as no name has the word")
    ):
        assert marks(text_world("many", path, length=8), "train") == ["alpha", "beta"]


@pytest.mark.parametrize("symbols", ["letters", "gpt2"])
@pytest.mark.parametrize("num", [1, 2])
def test_long_documents_are_cut_by_position(folder, tmp_path, symbols, num):
    half = " ".join(f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS)
    path = tmp_path / "long.txt"
    path.write_text("\n\n".join([half] * num))
    world = text_world("long", path, symbols, length=8)
    sizes = {split: len(stream) for split, stream in world.streams.items()}
    total, ends = sum(sizes.values()), text_of(world, "valid") + text_of(world, "test")
    whole = world.tokenizer.show(
        torch.tensor(np.concatenate(world.tokenizer.encode([half] * num)).astype(int))[None]
    )[0]
    assert whole.endswith(ends)
    assert all(0.019 < sizes[split] / total < 0.041 for split in ("valid", "test"))
    assert 0.1 < sizes["judge"] / total < 0.4 and sizes["train"] > sizes["judge"]


def test_a_path_is_a_path(folder, tmp_path, monkeypatch):
    for name, mark in zip(
        ("a1.txt", "a[1].txt", "b*.txt", "bc.txt", "b?.txt", "a::b.txt", "~.txt", "%41.txt"),
        MARKS,
        strict=False,
    ):
        (tmp_path / name).write_text("\n\n".join(documents(mark, 100)))
        world = text_world("one", tmp_path / name, length=8)
        assert marks(world, "train") == [mark]
        assert world.provenance["corpus_source"].startswith(f"train: {name}; ")
    for name in ("data[1]", "data*", "a::b"):
        monkeypatch.setenv("DMMD_DATA_DIR", str(folder.rename(folder.with_name(name))))
        folder = folder.with_name(name)
        write(folder / "books_en_valid.parquet", documents(f"valid {name[-2]}", 20))  # no stored text is read
        assert text_of(books27(), "train").startswith("train ")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert marks(text_world("home", "~/bc.txt", length=8), "train") == ["delta"]


@pytest.mark.parametrize(
    "name", ["own.txt", "own.TXT", "own.txt.gz", "own.json", "own.JSONL", "own.jsonl.gz"]
)
def test_text_and_json_of_any_ending(folder, tmp_path, name):
    texts = [text + " é—\u2028" for text in documents("own", 100)]
    rows = "".join(json.dumps({"text": text, "id": 1}) + "\n\n" for text in texts)
    content = ("\r\n \r\n".join(texts) if "txt" in name.lower() else rows).encode()
    if name == "own.json":
        content = json.dumps([{"text": text} for text in texts], indent=1).encode()
    (tmp_path / name).write_bytes(
        gzip.compress(content) if name.endswith("gz") else b"\xef\xbb\xbf" + content
    )
    world = text_world("own", tmp_path / name, "gpt2", length=8)
    parts = [text for split in world.splits for text in text_of(world, split).split(END_OF_TEXT)[:-1]]
    assert sorted(parts) == sorted(texts)


DAMAGED = [  # (name, content, words)
    ("a.jsonl", b"null", "line 1: None is no object with the key 'text'"),
    ("a.jsonl", b'{"text": "a"}\n[1]', "line 2: 1 is no object"),
    ("a.jsonl", b'{"text": "a"}\n{"text": ', "JSONDecodeError"),
    ("a.json", b'{"body": "a"}', r"it has no column 'text'; its columns are \['body'\]"),
    ("a.jsonl", b'{"text": null}', "the column 'text' must hold nothing but strings"),
    ("a.jsonl", b'{"text": "\\ud800"}', "UnicodeEncodeError"),
    ("a.jsonl", b"[" * 100_000, "RecursionError"),
    ("a.txt", "words".encode("utf-16"), "UnicodeDecodeError"),
    ("a.txt", "words".encode("utf-16-le"), "it holds NUL bytes; text must be UTF-8"),
    ("a.txt", "caf\xe9".encode("latin-1"), "UnicodeDecodeError"),
    ("a.txt.gz", b"words", "BadGzipFile"),
    ("a.txt.gz", gzip.compress(b"words" * 100, mtime=0)[:-9], "EOFError"),
    (
        "a.txt.gz",
        gzip.compress(random.Random(0).randbytes(99), mtime=0)[:-20] + b"0" * 20,
        "error: Error -3|UnicodeDecodeError",
    ),
    ("a.parquet", b"PAR1", "ArrowInvalid"),
]


@pytest.mark.parametrize("name, content, words", DAMAGED)
def test_damaged_text_is_refused_in_one_line(folder, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"^own: {name} cannot be read \(({words}).*\)$") as error:
        text_world("own", tmp_path / name).stream("train")
    assert "\n" not in str(error.value) and not list((tmp_path / "cache").rglob("*.safetensors"))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "a.parquet"])
def test_flipped_bytes_are_read_or_refused_in_one_line(folder, tmp_path, name):
    draw, texts = random.Random(0), documents("own", 60)
    write(tmp_path / "whole.parquet", texts)
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    text = "\n\n".join(texts).encode()
    whole = {"a.txt": text, "a.jsonl": rows.encode(), "a.txt.gz": gzip.compress(text, mtime=0)}
    whole["a.parquet"] = (tmp_path / "whole.parquet").read_bytes()
    for _ in range(60):
        content = bytearray(whole[name][: draw.choice([None, draw.randrange(len(whole[name]))])])
        for _ in range(draw.choice([0, 1, 8]) if content else 0):
            content[draw.randrange(len(content))] = draw.randrange(256)
        (tmp_path / name).write_bytes(content)
        try:
            text_world("own", tmp_path / name, length=4).stream("train")
        except ValueError as error:
            assert type(error) is ValueError and re.match(rf"own: .*{name}|own: the train text", str(error))
            assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.txt.gz"])
def test_files_without_text(folder, tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    with pytest.raises(ValueError, match=f"^own: no text \\(train: {name}; "):
        text_world("own", tmp_path / name).stream("train")


@pytest.mark.parametrize("name", ["a.csv", "a.parquet.gz", "a.gz", "a", "a.txt.zst"])
def test_other_formats_are_refused(folder, tmp_path, name):
    (tmp_path / name).write_text("words")
    with pytest.raises(
        ValueError, match="^path: .* holds no file; it must hold one kind of .*, text and JSON also"
    ):
        text_world("own", tmp_path / name).stream("train")


def test_folders_of_data_that_lead_nowhere(folder, tmp_path, monkeypatch):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ValueError, match="^source: .* is not a file, a folder or"):
        text_world("own", tmp_path / "loop")
    for path in (tmp_path / "loop", tmp_path / "none", "x" * 5000, folder / "books_en_train.parquet"):
        monkeypatch.setenv("DMMD_DATA_DIR", str(path))
        with pytest.raises(ValueError, match="^DMMD_DATA_DIR: .* is not a folder; name one with data sets"):
            books27().stream("train")
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("DMMD_DATA_DIR", "~/data")
    assert text_of(books27(), "test").startswith("test ") and not Path("~").exists()


def test_pieces_of_long_texts_are_tokenised_as_the_whole(folder, monkeypatch):
    draw, tokenizer = random.Random(0), books().tokenizer
    texts = ["".join(draw.choice("on e1'st\n\t  é,.漢\xa0_") for _ in range(3000)) for _ in range(5)]
    texts += ["", " ", " ".join(documents("own", 50))]
    whole = tokenizer.encode(texts)
    monkeypatch.setattr(tokenizers, "PIECE", 7)
    monkeypatch.setattr(tokenizers, "BATCH", 3)
    assert all(np.array_equal(x, y) for x, y in zip(tokenizer.encode(texts), whole, strict=True))


def test_text_is_utf_8_in_every_locale(folder, tmp_path):
    (tmp_path / "a.txt").write_text("déjà vu\n\n" * 100, encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"text": "déjà vu"}\n' * 100, encoding="utf-8")
    script = (
        "from dmmd_lite.worlds import get_world, text_world\n"
        "for name in ('a.txt', 'a.jsonl'):\n"
        f"    assert text_world('a', {str(tmp_path)!r} + '/' + name, 'gpt2', 4).split('test').max() > 0\n"
        "get_world('markov'), get_world('coins')"
    )
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_line_of_many_megabytes(folder, tmp_path):
    text = " ".join(documents("long", 1000)) * 300
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}))
    assert sum(map(len, text_world("own", tmp_path / "a.jsonl").streams.values())) > 5_000_000


def test_parts_on_the_hub_are_split_by_whole_words(folder, monkeypatch):
    from datasets import Dataset

    def hub(*names):
        parts = {
            n: Dataset.from_dict({"text": documents(w, 50)}).to_iterable_dataset()
            for n, w in zip(names, MARKS, strict=False)
        }
        monkeypatch.setattr(corpora, "open_hub", lambda name: (f"{name}@1", parts))
        monkeypatch.setattr(corpora, "LAYOUT", names)
        return text_world("own", "some/set", length=8)

    monkeypatch.setattr(corpora, "may_download", lambda: True)
    world = hub("train", "validation", "unsupervised")
    with pytest.warns(UserWarning, match=r"^some/set: \['unsupervised'\] are not read$"):
        assert marks(world, "valid") == ["beta"]
    assert marks(world, "train") == marks(world, "test") == ["alpha"]
    assert world.provenance["corpus_source"] == (
        "train: some/set@1 train; valid: some/set@1 validation; test: the end of train"
    )
    assert marks(hub("train_sft", "train_gen", "test_sft"), "test") == ["gamma"]
    for names in (["test", "dev"], ["train", "train_test"]):
        with pytest.raises(ValueError, match="^some/set: the parts .* are not allowed; "):
            hub(*names).stream("train")


def refused(tmp_path, texts, column="text", **options):
    write(tmp_path / "own.parquet", texts, column)
    with pytest.raises(ValueError) as error:
        text_world("own", tmp_path / "own.parquet", **options).stream("train")
    return str(error.value)


def test_texts_that_cannot_be_used(folder, tmp_path):
    assert refused(tmp_path, ["", "12"]) == (
        "own: no text (train: own.parquet; valid: the end of train; test: the end of train)"
    )
    assert refused(tmp_path, ["a"], column="words") == (
        "own: own.parquet cannot be read (it has no column 'text'; its columns are ['words'])"
    )
    for column in ([1, 2], ["a", None], [None, None], [b"a"]):
        assert refused(tmp_path, column) == (
            "own: own.parquet cannot be read (the column 'text' must hold nothing but strings)"
        )
    words = refused(tmp_path, documents("own", 20), length=10_000)
    assert words.startswith("own: the train text has ") and words.endswith("a sequence needs 10000")
    assert refused(tmp_path, ["a"], symbols="bytes") == (
        "symbols: 'bytes' is not allowed; choose one of ['letters', 'gpt2']"
    )
    assert refused(tmp_path, ["a"], length=0).startswith("length: 0 is not allowed")
    assert refused(tmp_path, ["a"], max_documents=0).startswith("max_documents: 0 is not allowed")
    for source in ("/no/such/file", "nothing"):
        with pytest.raises(ValueError, match="^source: .* is not a file, a folder or the name OWNER/SET"):
            text_world("own", source)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="^path: .* holds no file"):
        text_world("own", tmp_path / "empty").stream("train")


def test_what_is_missing_is_said_at_once(folder, tmp_path, monkeypatch):
    (folder / "books_en_test.parquet").unlink()
    cases = {
        books27: r"^books27: no books_en_\{train,valid,test\}.parquet in .*; point DMMD_DATA_DIR at .*$",
        openwebtext: r"^openwebtext: no openwebtext_\{.* or set DMMD_DOWNLOAD=1 to fetch Skylion007/",
        partial(
            text_world, "own", "some/set"
        ): "^own: 'some/set' is neither a file nor a folder; set DMMD_DOWN",
    }
    start = time.perf_counter()
    for make, words in cases.items():
        with pytest.raises(ValueError, match=words):
            make().stream("train")
    with pytest.raises(ValueError, match="^books27: no books_en"):
        train_recipe(get_recipe("books27-masked-teacher", "smoke"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (folder / "gpt2_tokenizer" / "merges.txt").unlink()
    with pytest.raises(
        ValueError, match="^tokenizer: no gpt2_tokenizer/.*set DMMD_DOWNLOAD=1 .* openai-community"
    ):
        openwebtext().stream("train")
    assert time.perf_counter() - start < 5  # nothing waits for a network; torch loads parts of itself once
    monkeypatch.setenv("DMMD_DATA_DIR", "")
    with pytest.raises(ValueError, match="because DMMD_DATA_DIR is not set; point DMMD_DATA_DIR at .*"):
        books27().stream("train")


def test_a_smoke_teacher_trains_on_files(folder, tmp_path):
    changes = {"validation": "", "training.steps": 1, "training.batch_size": 1}
    path = train_recipe(get_recipe("books27-masked-teacher", "smoke", changes), tmp_path / "run")
    assert "corpus_sha256" in path.with_suffix(".json").read_text()


def test_recipes_and_costs_read_nothing(monkeypatch):
    monkeypatch.setattr(Corpus, "cached", property(lambda _: pytest.fail("read")))
    for name in (
        "books27-masked-teacher",
        "books-uniform-dmmd-8",
        "openwebtext-masked-dmmd-32",
        "books-ar-judge",
    ):
        for scale in scales_of(name):
            numbers = cost(get_recipe(name, scale))
            assert all(value > 0 for value in numbers.values())
    script = "import sys, dmmd_lite.worlds as w; w.get_world('books'); sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_memory_counts_networks_and_logits():
    recipe = get_recipe("books-masked-dmmd-8", "gpu", {"training.accumulation": 64})
    one, two = (cost(r) for r in (recipe, recipe.with_changes({"training.accumulation": 32})))
    weights = 10 * 4 * one["parameters"] / 1e9  # two trained networks, one average, one frozen teacher
    activations = two["memory_gb"] - one["memory_gb"]  # those of one sequence
    assert one["memory_gb"] == pytest.approx(weights + activations)
    assert activations > 11 * 4 * 1024 * 50_257 / 1e9


@needs_books
def test_gpt2_tokens_are_those_of_gpt2():
    tokenizer = get_world("books").tokenizer
    hello, end = tokenizer.encode(["Hello world", "It's 3 o'clock, naïve café.\n"])[0:2]
    assert hello.tolist() == [15496, 995, 50256]
    assert tokenizer.show(torch.tensor(end[None, :-1].astype(int))) == ["It's 3 o'clock, naïve café.\n"]


@needs_books
def test_the_books_are_those_described(tmp_path, monkeypatch):
    monkeypatch.setenv("DMMD_CACHE_DIR", str(tmp_path))
    world = text_world("valid", REAL / "books_en_valid.parquet", "gpt2", length=1024)
    assert 530_000 < sum(map(len, world.streams.values())) < 545_000
    assert world.split("train").shape[1] == 1024 and world.split("train").max() == 50_256
