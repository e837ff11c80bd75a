"""Probabilities at the temperature that fits the validation split of a run."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import lightning_fastrecipes as fr
from lightning_fastrecipes.cli.main import main
from lightning_fastrecipes.errors import DataError
from lightning_fastrecipes.functional.labels.calibration import at_temperature, fit_temperature

CLASSES = ["blue", "red"]


@pytest.fixture(scope="module")
def squares_run(tmp_path_factory, shared_recipe_file) -> Path:
    """Two models that see a few squares, and predict with views."""
    home = tmp_path_factory.mktemp("calibrated")
    document = yaml.safe_load(shared_recipe_file.read_text())
    document["stages"] = {"head": {"max_epochs": 1, "freeze_to": -1, "lr": 0.01}}
    document |= {"seeds": 2, "evaluation": {"tta": {"preset": "flips"}}, "report": False}
    (home / "recipe.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    assert main(["run", str(home / "recipe.yaml"), "--out", str(home / "run")]) == 0
    return home / "run"


def truth_of(table: pd.DataFrame) -> np.ndarray:
    return np.array([CLASSES.index(name) for name in table["target"]])


def test_models_with_views_have_a_temperature_for_both(squares_run: Path, tmp_path, capsys) -> None:
    notes = json.loads((squares_run / "export" / "ensemble.json").read_text())
    val = pd.read_csv(squares_run / "predictions_val.csv")
    wanted = fit_temperature(val[CLASSES].to_numpy(), truth_of(val))
    assert notes["temperature"] == pytest.approx(wanted, rel=1e-3)
    assert notes["plain_temperature"] != notes["temperature"]
    member = next((squares_run / "export" / "members").iterdir())
    assert "temperature" not in json.loads((member / "model.json").read_text())
    files = val["file"].tolist()
    for tta, key in ((None, "temperature"), (True, "temperature"), (False, "plain_temperature")):
        predictor = fr.load(squares_run, tta=tta)
        plain = predictor.predict(files)
        mended = predictor.predict(files, calibrated=True)
        expected = at_temperature(plain[CLASSES].to_numpy(), notes[key])
        assert mended[CLASSES].to_numpy() == pytest.approx(expected, abs=5e-5)  # of six decimals
        assert mended["prediction"].tolist() == plain["prediction"].tolist()
    words = ["predict", str(squares_run), *files, "--calibrated", "--out"]
    assert main([*words, str(tmp_path / "p.csv")]) == 0
    found = pd.read_csv(tmp_path / "p.csv")
    assert found[CLASSES].to_numpy() == pytest.approx(
        fr.load(squares_run).predict(files, calibrated=True)[CLASSES].to_numpy(), abs=1e-5
    )
    one = fr.load(squares_run).predict(files[0], calibrated=True)
    assert one.values == pytest.approx(dict(found.loc[0, CLASSES]), abs=1e-5)


def test_without_a_temperature_it_is_refused(squares_run: Path, tmp_path, capsys) -> None:
    image = pd.read_csv(squares_run / "predictions_val.csv")["file"][0]
    place = squares_run / "export" / "members"
    member = str(next(place.iterdir()))
    assert main(["predict", member, image, "--calibrated"]) == 1
    assert "has no temperature" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(DataError, match="are those of one run, got 2"):
        fr.load(squares_run, squares_run).predict(image, calibrated=True)
