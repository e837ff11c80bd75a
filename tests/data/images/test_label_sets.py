"""The whole table decides whether an image may have several labels, and says why."""

import random

import numpy as np
import pandas as pd
import pytest
import torch
from jsonargparse import ArgumentParser

from lightning_fastrecipes import (
    ImageArrayDataModule,
    ImageCSVDataModule,
    ImageFolderDataModule,
    LabelTable,
    SingleLabel,
    SoftLabels,
    Tags,
)
from lightning_fastrecipes.data.common.split_choice import FractionSplit
from lightning_fastrecipes.data.images.label_sets import LABEL_JOINER, labels_of_lists, split_labels
from lightning_fastrecipes.data.images.table_listing import list_table
from lightning_fastrecipes.errors import ConfigurationError, DataError

TAGS = ["sun", "sea", "sky", "sand", "palm"]


def tagged(separator: str, num_rows: int = 40, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [separator.join(draw.sample(TAGS, draw.randint(1, 4))) for _ in range(num_rows)]


@pytest.mark.parametrize("separator", [" ", ",", ";", "|", ", ", "   "], ids=repr)
def test_tags_that_combine_freely_are_found_and_the_reason_is_said(separator) -> None:
    values = tagged(separator)

    found = split_labels(values)

    assert found.multi_label
    own = separator.strip() or None
    expected = [tuple(sorted(part.strip() for part in value.split(own))) for value in values]
    assert found.labels == expected
    several = sum(len(labels) > 1 for labels in expected)
    sign = separator.strip() or " "
    assert found.reason == (
        f"multi, since {several} of 40 rows have several labels separated by {sign!r}"
    )


BREEDS = ["golden retriever", "labrador retriever", "cat", "sea lion", "mountain lion", "lion"]
SYNSETS = [
    "tench, Tinca tinca",
    "crane",
    "corn",
    "ear, spike, capitulum",
    "great white shark, Jaws",
]
CARS = [f"{colour} {kind}" for colour in ("red", "blue", "green") for kind in ("car", "bus", "van")]


BIRDS = [
    f"{colour} {part} {kind}"
    for kind, colours in {
        "Gull": "Black White Ring",
        "Tern": "Black Least",
        "Wren": "Winter",
    }.items()
    for colour, part in zip(colours.split(), ("billed", "legged", "throated"), strict=False)
]


def test_few_tagged_rows_suffice() -> None:
    draw = random.Random(1)
    kinds = [("men", "women", "girls"), ("shoes", "top", "bag"), ("white", "blue", "red", "grey")]
    kinds += [("summer", "fall"), ("casual", "sports", "formal")]
    values = [" ".join(map(draw.choice, kinds)) for _ in range(20)]
    # Half as many values as are needed of pairs of words: each tag has to be seen, not each pair.
    assert len({*values}) < 2 * sum(map(len, kinds))

    assert split_labels(values).multi_label


@pytest.mark.parametrize(
    "names", [BREEDS, SYNSETS, CARS, BIRDS], ids=["breeds", "synsets", "cars", "birds"]
)
def test_names_of_several_words_stay_one_label_and_the_way_out_is_said(names) -> None:
    values = names * 20

    found = split_labels(values)

    assert not found.multi_label
    assert found.labels == [(name,) for name in values]
    assert "do not combine freely; if they are several labels, use `Tags(separator=" in found.reason


LISTS = [
    pytest.param(["['a', 'b']", "['b']", "[]"], id="python"),
    pytest.param(['["a", "b"]', '["b"]', "[]"], id="json"),
    pytest.param(["['a' 'b']", "['b']", "[]"], id="numpy"),
    pytest.param(["array(['a', 'b'], dtype=object)", "array(['b'])", "[]"], id="array"),
    pytest.param(["{a,b}", "{b}", "{}"], id="postgres"),
    pytest.param(["[a, b]", "[b]", "[]"], id="no-quotes"),
    pytest.param(["('b', 'a')", "('b',)", "()"], id="tuples"),
    pytest.param([["a", "b "], ["b"], []], id="lists"),
    pytest.param([{"a", "b"}, ("b",), np.array([])], id="other-kinds"),
    pytest.param([["a", "b"], ["b"], None], id="gap"),
]


@pytest.mark.parametrize("values", LISTS)
@pytest.mark.parametrize("labels", ["label", Tags(), Tags(separator=",")], ids=["auto", "", ","])
def test_lists_are_tags(values, labels) -> None:
    listing = list_table(table_of(values), LabelTable(labels=labels))

    assert listing.label_kind == "multi"
    assert listing.rows["label"].tolist() == [f"a{LABEL_JOINER}b", "b", ""]
    assert "values are lists, 1 of 3 with several labels" in listing.label_reason


def test_signs_within_items_of_lists_stay() -> None:
    values = [r"""['it\'s', "he's, so", "[x]"]""", r'["caf\u00e9 \"1\"", "a b"]', "[1, 2.5]"]
    assert labels_of_lists(values).labels == [
        ("[x]", "he's, so", "it's"),
        ("a b", 'café "1"'),
        ("1", "2.5"),
    ]
    assert labels_of_lists(["[1 2]", "[3]"]).labels == [("1", "2"), ("3",)]


@pytest.mark.parametrize(
    "values",
    [["['a'", "b"], ["['a']", "b"], ["[a, b]", "b"], ["{'a': 1}"], ["[['a']]"], [["a"], "b"]],
    ids=str,
)
def test_what_is_half_a_list_is_refused(values) -> None:
    with pytest.raises(DataError, match=r"holds lists, such as .*Write all as lists"):
        labels_of_lists(values)


@pytest.mark.parametrize("values", [["(none)", "(x)"], ["[unk]", "a"], [1, 2], [], ["[" * 10**5]])
def test_brackets_in_names_are_no_lists(values) -> None:
    assert labels_of_lists(values) is None


def test_lists_of_one_label_each_may_be_single_labels() -> None:
    single = LabelTable(labels=SingleLabel())
    assert list_table(table_of([["a"], ["b"]]), single).rows["label"].tolist() == ["a", "b"]
    assert list_table(table_of(["['a']"]), single).rows["label"].tolist() == ["['a']"]
    with pytest.raises(DataError, match=r"one label in each row for `SingleLabel`, .* 1 of which"):
        list_table(table_of([["a", "b"], ["b"]]), single)


def test_one_label_each_is_single() -> None:
    assert split_labels(TAGS).reason == (
        "single, since no label holds a comma, semicolon, bar or space"
    )


@pytest.mark.parametrize(
    ("options", "multi_label", "words"),
    [
        ({"separator": " ", "choice": "multi"}, True, "since `labels` says so"),
        ({"choice": "multi"}, True, "since `labels` says so"),
        ({"choice": "single"}, False, "since `labels` says so"),
    ],
)
def test_what_the_user_says_is_taken(options, multi_label, words) -> None:
    found = split_labels(["a b", "c"], **options)

    assert found.multi_label is multi_label
    assert found.labels == ([("a", "b"), ("c",)] if multi_label else [("a b",), ("c",)])
    assert words in found.reason


def table_of(values: list[str], **columns) -> pd.DataFrame:
    files = [f"{number:03}.png" for number in range(len(values))]
    return pd.DataFrame({"file": files, "label": values, **columns})


def test_images_without_any_label_are_legal_among_several_and_nowhere_else() -> None:
    values = [*tagged(" "), ""]
    frame = table_of(values).replace({"label": {"": None}})

    listing = list_table(frame, LabelTable())

    assert listing.label_kind == "multi"
    assert listing.rows["label"].iloc[-1] == ""
    with pytest.raises(DataError, match=r"1 rows .* lack a value: '040.png \(row 40\)'"):
        list_table(frame, LabelTable(labels=SingleLabel()))


def test_a_column_for_each_tag_is_found_without_being_named(tmp_path) -> None:
    path = tmp_path / "tags.csv"
    path.write_text("file,sun,sea\na,1,1\nb,0,0\nc,0,1\n")

    listing = list_table(path, LabelTable())

    assert listing.rows["label"].tolist() == [f"sea{LABEL_JOINER}sun", "", "sea"]
    assert listing.label_reason == (
        "multi, since 2 of 3 rows have none or several 1 in 2 columns of 0 and 1 ('sun', 'sea')"
    )
    assert listing.classes == ["sun", "sea"]


@pytest.mark.parametrize("labels", ["label", SingleLabel(), Tags(separator=",")], ids=repr)
def test_the_sign_between_labels_is_refused_within_one(labels, squares) -> None:
    files = sorted(str(path.relative_to(squares)) for path in squares.rglob("*.png"))
    frame = pd.DataFrame({"file": files, "label": [f"a{LABEL_JOINER}b", "c d"] * 14})
    table = LabelTable(folder=str(squares), labels=labels)
    with pytest.raises(DataError, match=r"must not hold the sign '\\x1f', but 'a\\x1fb' do"):
        ImageCSVDataModule(frame, table=table, image_size=8, cache="off").setup("fit")


def test_the_sign_between_labels_is_refused_in_names_of_classes(squares) -> None:
    (squares / "red").rename(squares / f"r{LABEL_JOINER}d")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 8), np.uint8)
    arrays = {"x_train": pixels, "y_train": np.array([f"a{LABEL_JOINER}", "b"] * 4)}
    tags = {"x_train": pixels, "y_train": np.eye(8)[:, :2]}
    for data in (
        ImageFolderDataModule(squares, image_size=8),
        ImageArrayDataModule(arrays, image_size=8),
        ImageArrayDataModule(tags, labels=Tags(columns=["a", f"b{LABEL_JOINER}"]), image_size=8),
    ):
        with pytest.raises(DataError, match="must not hold the sign"):
            data.setup("fit")


def test_one_1_in_every_row_is_one_label_unless_the_columns_are_named() -> None:
    frame = pd.DataFrame({"file": ["a", "b"], "sun": [True, False], "sea": [False, True]})

    assert list_table(frame, LabelTable()).label_kind == "single"
    assert list_table(frame, LabelTable()).rows["label"].tolist() == ["sun", "sea"]
    assert list_table(frame, LabelTable(labels=Tags(columns=["sun", "sea"]))).label_kind == "multi"
    several = frame.assign(sea=[True, True])
    with pytest.raises(DataError, match=r"have not exactly one label: 'a \(row 0\)'"):
        list_table(several, LabelTable(labels=SingleLabel()))


def test_a_label_column_of_other_numbers_is_refused() -> None:
    frame = pd.DataFrame({"file": ["a", "b"], "sun": [1, 2], "sea": [0, 1]})
    with pytest.raises(DataError, match=r"hold something else than 0 and 1 .*'b \(row 1\)'"):
        list_table(frame, LabelTable(labels=Tags(columns=["sun", "sea"])))


def test_one_hot_columns_are_one_label_each() -> None:
    frame = pd.DataFrame({"file": ["a", "b"], "sun": [1, 0], "sea": [0, 1], "other": [5, 6]})
    listing = list_table(frame, LabelTable(labels=SingleLabel(one_hot=["sea", "sun"])))
    assert (listing.label_kind, listing.classes) == ("single", ["sea", "sun"])
    assert listing.rows["label"].tolist() == ["sun", "sea"]


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="contradict one another"):
        Tags(columns=["a"], separator=" ")
    with pytest.raises(ValueError, match="`separator` must not be empty"):
        Tags(separator="")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tags", "tags"),
        ("{column: kind}", SingleLabel("kind")),
        ("{one_hot: [a, b]}", SingleLabel(one_hot=["a", "b"])),
        ("{column: tags, separator: ' '}", Tags("tags", " ")),
        ("{columns: [a, b]}", Tags(columns=["a", "b"])),
        ("{classes: [good, bad], probability_column: p}", SoftLabels(["good", "bad"], "p")),
    ],
)
def test_the_keys_say_what_labels_are(text, expected) -> None:
    parser = ArgumentParser()
    parser.add_class_arguments(LabelTable, "table")
    parsed = parser.parse_args([f"--table.labels={text}"])
    assert parser.instantiate(parsed).table == LabelTable(labels=expected)


@pytest.fixture
def drawn(tmp_path, draw):
    def serve(values, **options) -> ImageCSVDataModule:
        frame = table_of(values, **options.pop("columns", {}))
        for file in frame["file"]:
            draw(tmp_path / file, size=(8, 8))
        table = LabelTable(folder=str(tmp_path), **options.pop("table", {}))
        images = ImageCSVDataModule(frame, table=table, image_size=8, num_workers=0, **options)
        images.setup()
        return images

    return serve


def test_targets_are_floats_of_0_and_1_for_every_label(drawn) -> None:
    values = tagged(" ")
    values[3] = ""

    images = drawn(values, table={"labels": Tags()}, batch_size=4)

    assert images.label_kind == "multi"
    assert images.classes == sorted(TAGS)
    for split in ("train", "val"):
        dataset = images.eval_dataset(split)
        assert dataset.targets.dtype == torch.float32
        for file, row in zip(dataset.files, dataset.targets.tolist(), strict=True):
            labels = values[int(file[-7:-4])].split()
            assert row == [float(name in labels) for name in images.classes]
    _, targets = next(iter(images.train_dataloader()))
    assert targets.shape == (4, 5)


def test_the_decision_is_of_the_whole_table_not_of_a_split(drawn) -> None:
    values = [*tagged(" "), "sun", "sea", "sky", "sand", "palm"]
    splits = ["val"] * 40 + ["train"] * 5

    images = drawn(values, columns={"part": splits}, split="part")

    assert images.label_kind == "multi"
    assert images.train_targets.sum(1).tolist() == [1.0] * 5


def test_the_reason_is_printed(drawn, caplog) -> None:
    with caplog.at_level("INFO"):
        images = drawn(tagged(" "))
    assert f"Labels: {images.label_reason}" in caplog.messages
    assert images.label_reason.startswith("multi, since")


def test_unknown_labels_of_other_splits_are_listed_with_their_number(drawn) -> None:
    values = ["sun sea", "sun", "sea fog", "fog rain"]
    splits = ["train", "train", "val", "test"]
    with pytest.raises(DataError, match=r"'fog \(1 in val\)', 'fog \(1 in test\)', 'rain \(1"):
        drawn(values, columns={"part": splits}, split="part", table={"labels": Tags(separator=" ")})


@pytest.mark.parametrize("other", ["Sun", "\uff53un", "s\u200bun", "sun."])
def test_labels_that_look_the_same_are_refused(drawn, other) -> None:
    with pytest.raises(DataError, match="must differ by more than case, blanks, invisible"):
        drawn(["sun sea", f"sea {other}", "sea"] * 4, table={"labels": Tags(separator=" ")})


def test_a_drawn_split_leaves_every_label_in_the_training_split(drawn) -> None:
    """With seeds where the strata alone would lose one."""
    draw = random.Random(3)
    values = [" ".join(f"t{draw.randrange(40)}" for _ in range(3)) for _ in range(24)]
    for seed in (2, 4, 6):
        split = FractionSplit(0.5, seed=seed)
        images = drawn(values, split=split, table={"labels": Tags(separator=" ")})
        assert images.train_targets.any(dim=0).all()

    assert images.classes == sorted({name for value in values for name in value.split()})
    assert images.train_targets.any(dim=0).all()


def test_a_drawn_split_keeps_the_share_of_rare_labels(drawn) -> None:
    values = ["sea sun"] * 60 + ["sea rare"] * 20
    random.Random(0).shuffle(values)

    images = drawn(values, table={"labels": Tags(separator=" ")}, split=0.25)

    rare = images.classes.index("rare")
    assert int(images.eval_dataset("val").targets[:, rare].sum()) == 5


def test_the_same_image_with_other_tags_is_no_error(tmp_path, draw) -> None:
    first = draw(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(first.read_bytes())
    draw(tmp_path / "c.png")
    frame = pd.DataFrame({"file": ["a.png", "b.png", "c.png"], "label": ["x y", "x", "y"]})
    table = LabelTable(folder=str(tmp_path), labels=Tags(separator=" "))
    images = ImageCSVDataModule(frame, table=table, split=0.0)
    images.setup()
    assert len(images.train_targets) == 3


def test_a_checkpoint_of_another_kind_is_refused(drawn) -> None:
    several, one = drawn(tagged(" ")), drawn(TAGS * 4)
    with pytest.raises(ConfigurationError, match="labels of the kind 'multi', but the data have"):
        one.load_state_dict(several.state_dict())


def test_a_balanced_epoch_draws_rare_labels_as_often_as_common_ones(drawn) -> None:
    values = ["sea"] * 90 + ["rare"] * 10
    images = drawn(values, split=0.0, class_balanced=True, batch_size=100)

    _, balanced = next(iter(images.train_dataloader()))
    plain = drawn(values, split=0.0, batch_size=100)
    _, as_they_are = next(iter(plain.train_dataloader()))

    assert images.classes == ["rare", "sea"]
    assert 35 < int((balanced == 0).sum()) < 65
    assert int((as_they_are == 0).sum()) == 10


def test_a_separator_that_no_label_has_is_noted() -> None:
    values = ["a b", "b", "a c", "c"]
    noted = split_labels(values, ";", "multi").note
    assert noted.startswith("';' stands between no two labels, so that 'a b' is one")
    assert "give `Tags(separator=' ')`" in noted
    assert not split_labels(values, " ", "multi").note
    assert not split_labels(["a", "b"], ";", "multi").note
