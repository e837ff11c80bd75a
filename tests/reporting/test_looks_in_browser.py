"""The pages of ``look`` in headless Chromium: what they compute is what torch computes."""

import numpy as np
import pytest
import torch
from helpers.browser import CHROMIUM, browse
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d

from lightning_fastrecipes.functional.images.kernels import KERNELS
from lightning_fastrecipes.reporting.finished_run import read_run
from lightning_fastrecipes.reporting.looks.fit import fit_page
from lightning_fastrecipes.reporting.looks.kernels import kernels_page
from lightning_fastrecipes.reporting.looks.layers import layers_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

# Numbers of six digits stand in a page.
SETTINGS = [
    # kernel, stride, padding, dilation, ReLU, pooling
    ("outline", 1, 0, 1, False, "none"),
    ("right sobel", 2, 1, 1, True, "max"),
    ("wide blur (5 x 5)", 3, 2, 2, False, "average"),
    ("mean (7 x 7)", 1, 6, 4, True, "average"),
    ("one pixel (1 x 1)", 4, 0, 3, False, "max"),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_page_of_kernels_computes_what_torch_does(tmp_path, setting, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, stride, padding, dilation, relu, pooling = setting
    script = f"""
      const selects = all("select"), ticks = all("input[type=checkbox]");
      const set = (control, value) => {{
        control.value = value;
        control.dispatchEvent(new Event("change"));
      }};
      set(selects[0], {name!r}); set(selects[2], {stride}); set(selects[3], {padding});
      set(selects[4], {dilation}); set(selects[5], {pooling!r});
      if ({str(relu).lower()}) ticks[0].click();
      ticks[1].click();
      found.image = IMAGE; found.convolved = results.convolved;
      found.rectified = results.rectified.values; found.pooled = results.pooled;
      found.sum = parts.sum.textContent; found.at = state.at;
    """
    found = browse(tmp_path, script, kernels_page())["found"]
    image = torch.tensor(found["image"]["values"], dtype=torch.float64).view(1, 1, 28, 28)
    weights = torch.tensor(KERNELS[name], dtype=torch.float64)[None, None]
    wanted = conv2d(image, weights, stride=stride, padding=padding, dilation=dilation)
    assert found["convolved"]["values"] == pytest.approx(wanted.flatten().tolist(), rel=1e-5)
    assert (found["convolved"]["height"], found["convolved"]["width"]) == wanted.shape[2:]
    at = found["at"]
    assert f"the sum is {wanted[0, 0, at['row'], at['column']].item():.4g}"[:18] in found["sum"]
    wanted = wanted.relu() if relu else wanted
    assert found["rectified"] == pytest.approx(wanted.flatten().tolist(), rel=1e-5)
    if pooling == "none":
        assert found["pooled"] is None
    else:
        wanted = (max_pool2d if pooling == "max" else avg_pool2d)(wanted, 2)
        assert found["pooled"]["values"] == pytest.approx(wanted.flatten().tolist(), rel=1e-5)


def test_keys_own_numbers_and_sizes_that_do_not_fit(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = """
      const selects = all("select");
      const set = (control, value, name) => {
        control.value = value;
        control.dispatchEvent(new Event(name));
      };
      const press = (key) => parts.after.dispatchEvent(new KeyboardEvent("keydown", {key}));
      found.start = {...state.at};
      for (const key of ["ArrowUp", "ArrowLeft", "ArrowLeft"]) press(key);
      found.moved = {...state.at};
      for (let step = 0; step < 50; step++) press("ArrowUp");
      found.top = state.at.row;
      set(all(".kernel input")[0], "2.5", "input");
      found.own = [selects[0].value, state.rows[0][0], results.convolved.values.length];
      set(selects[1], 7, "change");
      found.rows = state.rows;
      found.inputs = all(".kernel input").length;
      set(selects[4], 4, "change"); set(selects[2], 2, "change");
      found.sizes = parts.sizes.textContent;
      IMAGE.height = 3; IMAGE.width = 3; IMAGE.values = IMAGE.values.slice(0, 9); compute();
      found.none = parts.sizes.textContent;
      all("nav button")[0].click();
      found.theme = document.documentElement.dataset.theme;
    """
    seen = browse(tmp_path, script, kernels_page())
    found = seen["found"]
    assert seen["errors"] == []
    assert found["moved"] == {
        "row": found["start"]["row"] - 1,
        "column": found["start"]["column"] - 2,
    }
    assert found["top"] == 0
    assert found["own"] == ["own numbers", 2.5, 26 * 26]
    assert found["inputs"] == 49
    assert found["rows"][2][2] == 2.5
    assert found["rows"][3][3] == 1
    assert sum(map(sum, found["rows"])) == 3.5
    assert "(28 + 2 x 0 - 25) / 2 + 1 = 2.5, which is no whole number" in found["sizes"]
    assert "the kernel is larger than the image" in found["none"]
    assert found["theme"] in ("light", "dark")


def test_a_line_is_fitted_as_by_hand_and_a_rate_that_is_too_high_is_told(tmp_path) -> None:
    script = """
      const [lr, batch] = line.section.querySelectorAll("select");
      const set = (control, value) => {
        control.value = value;
        control.dispatchEvent(new Event("change"));
      };
      found.data = DATA;
      for (const button of line.section.querySelectorAll("button")) {
        if (button.textContent === "100 steps") button.click();
      }
      found.full = [line.model.a, line.model.b, line.losses.length];
      set(batch, 4); line.advance(16);
      found.places = [];
      const batches = new Batches(4, DATA.seed);
      for (let step = 0; step < 16; step++) found.places.push(batches.next());
      found.mini = [line.model.a, line.model.b];
      set(batch, 64); set(lr, 1); line.advance(100);
      found.told = line.told.textContent;
      found.shapes = all("svg").length;
    """
    seen = browse(tmp_path, script, fit_page())
    assert seen["errors"] == []
    found = seen["found"]
    x, y = (np.array(found["data"][name]) for name in ("x", "line"))

    def fitted(batches) -> list[float]:
        a, b = -1.0, 0.0
        for places in batches:
            error = a * x[places] + b - y[places]
            a, b = a - 0.1 * 2 * (error * x[places]).mean(), b - 0.1 * 2 * error.mean()
        return [a, b]

    assert found["full"][:2] == pytest.approx(fitted([np.arange(64)] * 100))
    assert found["full"][:2] == pytest.approx(np.polyfit(x, y, 1).tolist(), abs=1e-3)
    assert sorted(np.concatenate(found["places"])) == list(range(64))
    assert found["mini"] == pytest.approx(fitted(found["places"]))
    assert "the rate is too high" in found["told"]
    assert found["shapes"] == 4


@pytest.mark.parametrize(("activation", "depth"), [("none", 3), ("ReLU", 1), ("ReLU", 3)])
def test_the_network_is_trained_as_torch_trains_it(tmp_path, activation, depth) -> None:
    script = f"""
      const [lr, batch, activation, width, depth] = curve.section.querySelectorAll("select");
      const set = (control, value) => {{
        control.value = value;
        control.dispatchEvent(new Event("change"));
      }};
      set(activation, {activation!r}); set(width, 8); set(depth, {depth});
      found.before = JSON.parse(JSON.stringify(curve.model.layers));
      curve.advance(20);
      found.after = curve.model.layers; found.loss = curve.losses.at(-1); found.data = DATA;
      found.told = curve.told.textContent;
      found.outputs = [-2, -1, 0, 1, 2].map((x) => curve.model.predict(x));
    """
    found = browse(tmp_path, script, fit_page())["found"]
    parts: list[nn.Module] = []
    for layer in found["before"]:
        linear = nn.Linear(len(layer["weights"][0]), len(layer["weights"]), dtype=torch.float64)
        linear.weight.data = torch.tensor(layer["weights"], dtype=torch.float64)
        linear.bias.data = torch.tensor(layer["biases"], dtype=torch.float64)
        parts += [linear, nn.ReLU() if activation == "ReLU" else nn.Identity()]
    network = nn.Sequential(*parts[:-1])
    x, y = (torch.tensor(found["data"][name], dtype=torch.float64) for name in ("x", "curve"))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.03)
    for _ in range(20):
        optimizer.zero_grad()
        ((network(x[:, None])[:, 0] - y) ** 2).mean().backward()
        optimizer.step()
    for linear, layer in zip(network[::2], found["after"], strict=True):
        assert layer["weights"] == [pytest.approx(row) for row in linear.weight.tolist()]
        assert layer["biases"] == pytest.approx(linear.bias.tolist())
    bends = np.diff(found["outputs"], 2)
    if activation == "none":
        assert bends == pytest.approx(0, abs=1e-9)
    else:
        assert np.abs(bends).max() > 1e-3
    count = sum(p.numel() for p in network.parameters())
    assert f"{count} parameters" in found["told"]


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("build", [kernels_page, fit_page])
def test_no_page_is_wider_than_the_window(tmp_path, monkeypatch, build, width: int) -> None:
    monkeypatch.chdir(tmp_path)
    script = "found.widths = [document.documentElement.scrollWidth, innerWidth];"
    seen = browse(tmp_path, script, build(), width)
    assert seen["errors"] == []
    assert seen["found"]["widths"][0] <= seen["found"]["widths"][1]


@pytest.fixture(scope="module")
def layers(run) -> str:
    """The page of layers of a run whose classes and files are markup."""
    return layers_page(run, read_run(run).data.eval_dataset("train").files[0])


@pytest.mark.parametrize("width", [400, 1280])
def test_a_walk_through_layers_by_mouse_and_keys(tmp_path, layers: str, width: int, evil) -> None:
    script = """
      found.widths = [document.documentElement.scrollWidth, innerWidth];
      found.tiles = all("#page .tiles button").length;
      const steps = DATA.steps, map = unpack(steps[2].channels[1].map);
      all("#step2 .tiles button")[1].click();
      const dialog = document.querySelector("dialog");
      const text = (tag) => dialog.querySelector(tag).textContent;
      const buttons = () => [...dialog.querySelectorAll("button")];
      const press = (key) => {
        dialog.querySelector("canvas").dispatchEvent(new KeyboardEvent("keydown", {key}));
      };
      found.open = [dialog.open, dialog.querySelectorAll("img").length];
      for (let step = 0; step < 50; step++) { press("ArrowUp"); press("ArrowLeft"); }
      press("ArrowRight");
      found.told = [text("p"), `Row 0, column 1: ${shown(map.values[1])}.`];
      buttons()[0].click();
      found.stronger = [text("h3"), buttons()[0].disabled, steps[2].channels[0].number];
      dialog.close();
      await new Promise((done) => setTimeout(done, 50));
      found.closed = all("dialog").length;
      const select = all("#page select")[0];
      select.selectedIndex = 5;
      select.dispatchEvent(new Event("change"));
      found.classes = all("#page table td").map((cell) => cell.textContent);
      found.legend = all(".legend span").map((one) => one.textContent);
      all("nav button")[0].click();
      found.theme = document.documentElement.dataset.theme;
      found.filters = all(".pair canvas").length;
      found.empty = all("canvas").filter((one) => !one.width || !one.height).length;
    """
    seen = browse(tmp_path, script, layers, width)
    assert seen["errors"] == []
    found = seen["found"]
    assert found["widths"][0] <= found["widths"][1]
    assert found["tiles"] > 100
    assert found["open"] == [True, 9]
    assert found["told"][0] == found["told"][1]
    number = found["stronger"][2]
    assert found["stronger"][0].endswith(f"channel {number}")
    assert found["stronger"][1]
    assert found["closed"] == 0
    assert set(evil) <= set(found["classes"])
    assert set(found["legend"]) == set(evil)
    assert found["theme"] in ("light", "dark")
    assert found["filters"] > 10
    assert found["empty"] == 0
    assert found["images"] == 0
