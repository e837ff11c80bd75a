"""Two processes see, measure and predict what one does."""

from pathlib import Path

import pytest
import torch
from helpers.processes import load_script, run_script
from PIL import Image

SCRIPT = Path(__file__).with_name("images_on_two_processes.py")

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return what one process found, and what each of two did; validation and test are odd."""
    folder = tmp_path_factory.mktemp("images")
    generator = torch.Generator().manual_seed(0)
    for index, name in enumerate(["blue", "red"]):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(16 + 3 * index):
            pixels = torch.randint(0, 200, (24, 24, 3), generator=generator, dtype=torch.uint8)
            pixels[:, :, 0 if index else 2] += 55
            Image.fromarray(pixels.numpy()).save(folder / "images" / name / f"{number}.png")
    run_script(SCRIPT, folder / "images", folder)
    script = load_script(SCRIPT)
    one = script.work(folder / "images", num_processes=1)
    return one, [torch.load(folder / f"process-{rank}.pt") for rank in (0, 1)]


def test_augmented_metrics_count_every_row_once(results):
    one, two = results
    assert {"val_loss", "val_loss_tta", "val_accuracy_tta"} < set(one["val"])
    for process in two:
        assert process["val"] == pytest.approx(one["val"], abs=1e-5)
        assert process["test"] == pytest.approx(one["test"], abs=1e-5)
    assert one["val"]["val_loss_tta"] != pytest.approx(one["val"]["val_loss"], abs=1e-4)


def test_processes_learn_one_weight(results):
    one, two = results
    assert [process["weight"] for process in two] == [one["weight"], one["weight"]]


def test_augmented_predictions_are_those_of_one_process(results):
    one, two = results
    assert len(one["predictions"]) % 2 == 1
    for rank, process in enumerate(two):
        expected = one["predictions"][rank::2]
        torch.testing.assert_close(process["predictions"], expected, atol=1e-5, rtol=0)


def test_processes_measure_the_same_mean_and_deviation_to_the_last_bit(results):
    one, two = results
    assert one["measured"][2] == "dataset"
    assert [process["measured"] for process in two] == [one["measured"]] * 2


def test_sizes_and_rates_change_alike(results):
    one, two = results
    assert two[0]["seen"] == two[1]["seen"]
    for process in two:
        assert [step[:2] for step in process["seen"]] == [step[:2] for step in one["seen"]]
        assert process["lrs"] == one["lrs"]
    assert {step[:2] for step in one["seen"]} == {(0, 16), (1, 24)}
    assert two[0]["seen"][0][2] == 2
    assert two[0]["seen"][-2][2] == 3
