import subprocess
import sys

import pytest

import lightning_fastrecipes


def test_every_public_name_resolves_and_is_listed() -> None:
    for name in lightning_fastrecipes.__all__:
        assert getattr(lightning_fastrecipes, name).__name__ == name
        assert name in dir(lightning_fastrecipes)
    assert set(lightning_fastrecipes.__all__) == set(lightning_fastrecipes._HOMES)


def test_old_public_names_are_those_of_today() -> None:
    assert lightning_fastrecipes.PictureMixing is lightning_fastrecipes.ImageMixing


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'SDGR'"):
        lightning_fastrecipes.SDGR  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, lightning_fastrecipes;"
        "print({'torch', 'timm', 'torchvision', 'pandas', 'matplotlib', 'pytorch_lightning'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
