"""Names that become parts of paths lead to no other folder; names of the package are its own."""

from dataclasses import replace

import pytest

from dmmd_lite.models.loading import model_of
from dmmd_lite.recipes.catalogue import get_recipe
from dmmd_lite.utils.records import save_records
from dmmd_lite.worlds import text_world, tokens_world


def stored_text(name, file):
    """Text of a world of that name, which the cache keeps under it."""
    return text_world(name, file).stream("train")


def cached_model(name, file):
    return model_of(replace(get_recipe("coins-masked-teacher", "smoke"), name=name), 1)


DOORS = {
    "name": [stored_text, lambda name, file: tokens_world(name, [[0, 1]] * 9), cached_model],
    "page": [lambda name, file: save_records(name, [])],
}


@pytest.mark.parametrize("field, door", [(field, door) for field, doors in DOORS.items() for door in doors])
def test_no_name_leads_to_another_folder(field, door, tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("word " * 1000)
    for variable in ("DMMD_CACHE_DIR", "DMMD_PAGE_OUT"):
        monkeypatch.setenv(variable, str(tmp_path / "a" / "b"))
    before = sorted(tmp_path.rglob("*"))
    for name in ("../esc", str(tmp_path / "esc"), "..", "a/b", "", "a\0b", 3):
        with pytest.raises(ValueError, match=f"^{field}: .* is not allowed; it must be a ") as error:
            door(name, tmp_path / "text.txt")
        assert "\n" not in str(error.value) and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("door", DOORS["name"][:2])
@pytest.mark.parametrize("name", ["digits", "books27", "cifar10@4"])
def test_names_of_the_package_are_refused_alike(door, name, tmp_path):
    (tmp_path / "text.txt").write_text("word " * 1000)
    with pytest.raises(ValueError, match=f"^name: '{name}' is not allowed; choose one that is none of"):
        door(name, tmp_path / "text.txt")
