"""The page in headless Chromium, opened as a file: every button and key does what it says.

The browser alone is needed: a script that is appended to the page clicks, and writes down what came
of it. Set ``CHROMIUM`` to its path if it is not on the search path.
"""

import csv
import io

import pytest
from helpers.browser import CHROMIUM, browse

from lightning_fastrecipes.reporting import blocks
from lightning_fastrecipes.reporting.blocks import Page
from lightning_fastrecipes.reporting.page import render

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
]

EVIL = "<img src=x onerror=document.title='hacked'>"
CLASSES = ["cat", "dog", EVIL]
PIXEL = (
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////"
    "////////////////////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxA="
)


def image(number: int) -> dict:
    truth = CLASSES[number % 3]
    heat = {"side": 2, "values": "AECA/w=="} if number == 0 else None
    return {
        "name": f"{EVIL}/{number}.jpg", "split": "test", "truth": truth,
        "prediction": CLASSES[0], "sure": 0.5, "right": number % 3 == 0, "thumb": PIXEL,
        "heat": heat,
    }  # fmt: skip


def case(number: int, **more) -> dict:
    given = CLASSES[number % 3]
    return {
        "image": number, "file": f"a,{number}.jpg", "split": "train", "given": [given],
        "suggested": [CLASSES[(number + 1) % 3]], "likely": CLASSES, "why": "seems so", **more,
    }  # fmt: skip


def page(*, several: bool = False) -> str:
    found = Page("A page", EVIL, images=[image(number) for number in range(30)])
    found.add(
        "all",
        EVIL,
        [
            blocks.text(EVIL),
            blocks.code("Recipe", EVIL),
            blocks.table("Table", ["name", "value"], [[EVIL, 3.0], ["b", None], ["c", 1.0]]),
            blocks.plot(
                "Plot", [{"name": "one", "points": [[1, 2], [2, 3]]}], x="x", y="y", log_x=True
            ),
            {"type": "list", "items": [{"title": EVIL, "text": EVIL}]},
            {"type": "gallery", "title": "Gallery", "images": list(range(30))},
            {
                "type": "confusion", "title": "Matrix", "split": "test", "classes": CLASSES,
                "counts": [[10, 0, 0], [10, 0, 0], [12, 0, 0]], "note": "",
            },
            {"type": "map", "points": [[0, 0.1, 0.2], [1, 0.5, 0.6], [2, 1.0, 0.0]]},
            {
                "type": "review", "title": "Cases", "key": f"k{several}", "classes": CLASSES,
                "several": several, "joiner": "|", "after": "then",
                "items": [
                    case(0, remove=True, beside=1), *(case(number) for number in range(1, 30))
                ],
            },
        ],
    )  # fmt: skip
    return render(found)


def rows_of(content: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content)))


def test_every_button_works_and_names_stay_text(tmp_path) -> None:
    script = """
      const before = all("button").length;
      let clicked = 0;
      document.querySelector("button.picture").click();
      found.dialogs = all("dialog").length;
      for (const button of all("button")) {
        if (!button.isConnected) continue;
        button.click();
        clicked += 1;
        for (const dialog of all("dialog")) {
          dialog.close();
        }
      }
      found.clicked = clicked;
      found.before = before;
      found.cells = all("td").map((cell) => cell.textContent).slice(0, 2);
      found.bad = all("[onerror], main script, main iframe").length;
    """
    seen = browse(tmp_path, script, page())
    assert seen["errors"] == []
    assert seen["found"]["clicked"] >= 15
    assert seen["found"]["dialogs"] >= 1
    assert seen["found"]["bad"] == seen["found"]["images"] == 0
    assert seen["found"]["title"] == "A page"


def test_a_table_sorts_and_a_matrix_opens_its_images(tmp_path) -> None:
    script = """
      const head = all("th button").find((one) => one.textContent === "value");
      const texts = (where, what) => [...where.querySelectorAll(what)].map((c) => c.textContent);
      const values = () => texts(head.closest("table"), "td.number");
      head.click(); found.falling = values();
      head.click(); found.rising = values();
      all(".matrix button")[3].click();
      found.cell = texts(document, "h3").find((one) => one.startsWith("true dog"));
      const select = document.querySelector("select");
      select.selectedIndex = 2; select.dispatchEvent(new Event("change"));
      found.chosen = texts(document.querySelector(".gallery"), ".soft");
      const heat = all("button").find((one) => one.textContent === "What it looked at");
      select.selectedIndex = 0; select.dispatchEvent(new Event("change"));
      heat.click(); found.heated = all(".gallery canvas").length;
      all(".map circle")[1].dispatchEvent(new PointerEvent("pointermove", {bubbles: true}));
      found.tip = document.querySelector(".tip").textContent;
    """
    seen = browse(tmp_path, script, page())
    assert seen["errors"] == []
    found = seen["found"]
    assert found["falling"] == ["3", "1", "\u2013"]
    assert found["rising"] == ["1", "3", "\u2013"]
    assert found["cell"] == "true dog, predicted cat: 10"
    assert set(found["chosen"]) == {"true: cat"}
    assert found["heated"] == 1
    assert "true: dog" in found["tip"]


def test_labels_are_mended_by_keys_and_saved(tmp_path) -> None:
    script = """
      const holder = document.querySelector("[data-review]");
      const key = (name) => document.querySelector("[data-review]")
        .dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
      holder.focus();
      key("Enter");                       // 0: accept, which removes the copy
      key("ArrowRight"); key("Enter");    // 1: accept the suggestion
      key("j"); key("1");                 // 2: the first class
      key("j"); key("u");                 // 3: not sure
      key("j"); key("x");                 // 4: remove
      key("j"); key("o");                 // 5: it is right
      key("j"); key("x"); key("Backspace");   // 6: nothing
      key("n"); key("Enter");             // 12: the first of the next page
      found.page = document.querySelector("[role=status]").textContent;
      key("p");
      found.first = document.querySelector("[data-case]").dataset.case;
      document.querySelector("[data-case='7'] [data-label='dog']").click();
      document.querySelector("[data-case='8'] [data-act='remove']").click();
      key("s");
      document.querySelector("[data-act=save]").click();
    """
    seen = browse(tmp_path, script, page())
    assert seen["errors"] == []
    assert seen["found"]["page"] == "page 2 of 3; 7 of 30 decided"
    assert seen["found"]["first"] == "0"
    assert seen["saved"][0] == seen["saved"][1]
    rows = rows_of(seen["saved"][0])
    assert [(row["file"], row["action"], row["label"]) for row in rows] == [
        ("a,0.jpg", "remove", ""),
        ("a,1.jpg", "relabel", EVIL),
        ("a,2.jpg", "relabel", "cat"),
        ("a,3.jpg", "unsure", ""),
        ("a,4.jpg", "remove", ""),
        ("a,5.jpg", "keep", ""),
        ("a,7.jpg", "keep", ""),  # 7 is a dog already
        ("a,8.jpg", "remove", ""),
        ("a,12.jpg", "relabel", "dog"),
    ]


def test_several_labels_are_ticked_one_by_one(tmp_path) -> None:
    script = """
      const key = (name) => document.querySelector("[data-review]")
        .dispatchEvent(new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
      key("j"); key("1");                 // a dog and a cat
      key("j"); key("3"); key("3");       // as it was
      key("s");
    """
    seen = browse(tmp_path, script, page(several=True))
    assert seen["errors"] == []
    found = [(row["action"], row["label"]) for row in rows_of(seen["saved"][0])]
    assert found == [("relabel", "cat|dog"), ("keep", "")]


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_window(tmp_path, width) -> None:
    script = (
        "found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;"
    )
    seen = browse(tmp_path, script, page(), width)
    assert seen["found"]["wide"] <= 0
