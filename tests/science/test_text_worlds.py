"""Text without a download: symbols, windows, and the splits of the docstrings."""

import pytest
import torch

from dmmd_lite.worlds import docstrings, get_world
from dmmd_lite.worlds.text import SYMBOLS, TextWorld, encode_symbols, show_symbols, to_symbols


class Tale(TextWorld):
    name, vocab_size, length = "tale", len(SYMBOLS), 8

    streams = {
        "train": encode_symbols("once upon a time there was a token"),
        "valid": encode_symbols("and then"),
        "test": encode_symbols("the end"),
    }


def test_symbols_round_trip():
    text = to_symbols("It's 2 o'clock…  NOW, or zero")
    assert text == "it s o clock now or zero"
    assert show_symbols(encode_symbols(text)[None]) == [text]
    assert encode_symbols(SYMBOLS).tolist() == list(range(27))


def test_windows_begin_anywhere(rng):
    world = Tale()
    stream = world.streams["train"].tolist()
    windows = {tuple(stream[i : i + 8]) for i in range(len(stream) - 7)}
    drawn = {tuple(row) for row in world.sample(2000, rng).tolist()}
    assert drawn == windows
    assert world.sample(3, rng, "valid").tolist() == [world.streams["valid"].tolist()] * 3


def test_a_split_is_cut_without_overlap():
    world = Tale()
    parts = world.split("train")
    assert parts.shape == (4, 8)
    assert parts.flatten().tolist() == world.streams["train"][:32].tolist()


def test_text_shorter_than_a_sequence_is_refused(rng):
    with pytest.raises(ValueError, match="tale: the test text has 7 tokens; a sequence needs 8"):
        Tale().sample(1, rng, "test")
    with pytest.raises(ValueError, match="split: 'dev' is not allowed for tale"):
        Tale().split("dev")


def test_modules_keep_their_split_and_shares_are_kept():
    names = [f"stdlib/module{i}.py" for i in range(4000)]
    splits = [docstrings.split_of(name) for name in names]
    assert splits == [docstrings.split_of(name) for name in names]
    for split, share in docstrings.SPLITS.items():
        assert splits.count(split) / len(splits) == pytest.approx(share, abs=0.03)


def test_no_paragraph_is_in_two_splits(monkeypatch):
    shared = "This paragraph of plain words stands in both of these modules."
    own = [f"Only the {w} module holds this sentence of eight words." for w in ("first", "second")]
    modules = {docstrings.split_of(f"stdlib/m{i}.py"): f"m{i}.py" for i in range(50)}
    first, second = (modules[split] for split in ("train", "test"))

    def few(package):
        if package == "stdlib":
            yield first, f"{shared}\n\n{own[0]}"
            yield second, f"{shared.replace('plain', 'PLAIN')}\n\n{own[1]}"

    monkeypatch.setattr(docstrings, "docstrings", few)
    parts = docstrings.collect()
    assert parts["train"] == f"{to_symbols(shared).strip()} {to_symbols(own[0]).strip()}"
    assert parts["test"] == to_symbols(own[1]).strip()
    assert parts["judge"] == parts["valid"] == ""


@pytest.mark.slow
def test_docstrings_are_text_in_disjoint_splits(rng):
    world = get_world("docstrings")
    assert set(world.texts) == {"train", "judge", "valid", "test"}
    for split, least in (("train", 1_000_000), ("judge", 500_000), ("valid", 100_000), ("test", 200_000)):
        assert len(world.texts[split]) == len(world.streams[split]) > least
        assert set(world.texts[split]) <= set(SYMBOLS)
    assert len(world.provenance["corpus_sha256"]) == 64
    assert world.provenance["corpus_versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert world.sample(4, rng).shape == (4, 128)
