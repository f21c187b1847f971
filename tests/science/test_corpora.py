"""Corpora: packing, splits, the cache, the tokenizer, and one line for what is missing or damaged."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tokenizers.implementations import ByteLevelBPETokenizer

from dmmd_lite.models.loading import train_recipe
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.recipes.cost import cost
from dmmd_lite.utils.scales import SCALES
from dmmd_lite.worlds import get_world
from dmmd_lite.worlds.corpora import Corpus, books, books27, openwebtext, text_world
from dmmd_lite.worlds.tokenizers import END_OF_TEXT

REAL = Path(os.environ.get("DMMD_DATA_DIR") or "none")
needs_books = pytest.mark.skipif(
    not (REAL / "books_en_train.parquet").is_file(), reason="DMMD_DATA_DIR holds no books_en_*.parquet"
)
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


def test_a_second_start_reads_the_cache(folder, monkeypatch):
    first = books27()
    streams, provenance = first.streams, first.provenance
    monkeypatch.setattr("dmmd_lite.worlds.corpora.write_tensors", lambda *_: pytest.fail("tokenised again"))
    second = books27()
    assert all(torch.equal(second.streams[split], stream) for split, stream in streams.items())
    assert second.provenance == provenance
    assert provenance["corpus_tokenizer"] == "letters" and len(provenance["corpus_sha256"]) == 64
    assert provenance["corpus_source"].startswith("books_en_train.parquet, ")
    assert set(load_file(second.cached)) == set(second.splits)


def test_damaged_files_are_noticed(folder):
    books27().stream("valid")
    (folder / "books_en_valid.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="^books27: books_en_train.parquet, .* cannot be read"):
        books27().stream("valid")
    write(folder / "books_en_valid.parquet", documents("valid", 20))
    (folder / "gpt2_tokenizer" / "vocab.json").write_text("{")
    with pytest.raises(ValueError, match="^tokenizer: vocab.json or merges.txt is damaged"):
        books().stream("valid")
    (folder / "gpt2_tokenizer" / "vocab.json").write_text('{"a": 0}')
    (folder / "gpt2_tokenizer" / "merges.txt").write_text("")
    with pytest.raises(ValueError, match="^tokenizer: vocab.json is not GPT-2's"):
        books().stream("valid")


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
    world = text_world("own", folder, length=8)
    assert all(torch.equal(world.streams[split], stream) for split, stream in books27().streams.items())
    assert text_of(world, "valid").startswith("valid one")


def refused(tmp_path, texts, column="text", **options):
    write(tmp_path / "own.parquet", texts, column)
    with pytest.raises(ValueError) as error:
        text_world("own", tmp_path / "own.parquet", **options).stream("train")
    return str(error.value)


def test_texts_that_cannot_be_used(folder, tmp_path):
    assert refused(tmp_path, ["", "12"]) == "own: own.parquet holds no text"
    assert refused(tmp_path, ["a"], column="words") == (
        "own: own.parquet has no column 'text'; its columns are ['words']"
    )
    assert refused(tmp_path, [1, 2]) == "own: the column 'text' of own.parquet must hold nothing but strings"
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
    assert time.perf_counter() - start < 1
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
        for scale in SCALES:
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
