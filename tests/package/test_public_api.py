"""The public names: their list, their docstrings, when they are loaded, and the paths of version 0.1."""

import re
import subprocess
import sys
from importlib import import_module

import pytest

import dmmd_lite

NAMES = """
BlockAutoregressive BlockTransformer CosineSchedule DCD DCDSettings DMMD DMMDSettings Denoiser
DenoisingObjective Di4C Di4CSettings ExactDenoiser Hybrid LinearSchedule Masked Method Model NetworkDenoiser
RandomStart ReDi ReDiSettings Recipe Record SDTT SDTTSettings Samples Sharpened SplitNetwork TrainingOptions
TrainingResult Transformer Uniform World
adapt denoise dimo distil evaluate evaluate_samples fit_teacher from_pretrained from_public generator_for
get_process get_recipe get_world idlm likelihood_bound load_model metrics_for sample save_pretrained sharpen
text_world tokens_world train
""".split()

MOVED = {  # paths that the README of version 0.1 showed -> where the objects are now
    "evaluate:draw_samples": "dmmd_lite.models.model.Model.sample",
    "evaluate:evaluate": "dmmd_lite.evaluate",
    "store:load_model": "dmmd_lite.load_model",
    "own:adapt": "dmmd_lite.adapt",
    "own:distil": "dmmd_lite.distil",
    "own:fit_teacher": "dmmd_lite.fit_teacher",
    "own:tokens_world": "dmmd_lite.tokens_world",
    "pretrained:from_pretrained": "dmmd_lite.from_pretrained",
    "pretrained:save_pretrained": "dmmd_lite.save_pretrained",
    "objectives.dmmd:Switches": "dmmd_lite.objectives.dmmd.DMMDSettings",
    "training:Options": "dmmd_lite.training.TrainingOptions",
}
PRESENT = ["denoisers:NetworkDenoiser", "objectives.dmmd:DMMD", "processes:Uniform", "training:train"]


def test_the_public_names():
    assert dmmd_lite.__all__ == sorted(NAMES)
    assert set(NAMES) <= set(dir(dmmd_lite))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        dmmd_lite.nothing  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring_that_begins_with_a_sentence(name):
    found = getattr(dmmd_lite, name)
    text = found.__doc__ or ""
    first = " ".join(text.strip().split("\n\n")[0].split())
    assert not text.startswith(f"{name}("), "the docstring is the signature that a dataclass gets by default"
    assert re.match(r".+[.:](\s|$)", first), f"{name}: {first!r}"


def test_importing_the_package_loads_no_large_library():
    large = {"torch", "numpy", "pandas", "matplotlib", "sklearn"}
    script = f"import sys, dmmd_lite; sys.exit(', '.join({large} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("old", MOVED)
def test_paths_of_version_0_1_work_and_name_the_new_ones(old):
    module, _, name = old.partition(":")
    with pytest.warns(FutureWarning, match=f"{name} is now {re.escape(MOVED[old])}$") as warned:
        exec(f"from dmmd_lite.{module} import {name}", names := {})
    assert len({str(warning.message) for warning in warned}) == 1
    *path, last = MOVED[old].split(".")
    if path[-1] == "Model":
        expected = getattr(dmmd_lite.Model, last)
    else:
        expected = getattr(import_module(".".join(path)), last)
    assert names[name] is expected


def test_old_modules_are_attributes_too():
    import dmmd_lite.store

    with pytest.warns(FutureWarning, match="load_model is now dmmd_lite.load_model"):
        assert dmmd_lite.store.load_model is dmmd_lite.load_model
    with pytest.raises(AttributeError, match="dmmd_lite.store is gone; look for 'train_recipe'"):
        dmmd_lite.store.train_recipe  # noqa: B018


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("path", PRESENT)
def test_other_paths_of_the_readme_of_version_0_1_are_the_same(path):
    module, _, name = path.partition(":")
    exec(f"from dmmd_lite.{module} import {name}", names := {})
    assert names[name] is getattr(dmmd_lite, name)


def test_the_switches_of_version_0_1_are_settings_now(tmp_path):
    teacher = dmmd_lite.load_model("coins-masked-teacher")
    switches = dmmd_lite.DMMDSettings(1, updates="alternating")
    with pytest.warns(FutureWarning, match="switches is now settings"):
        student = dmmd_lite.distil(teacher, tmp_path, 1, updates=2, batch_size=8, switches=switches)
    assert student.recipe.method == switches
