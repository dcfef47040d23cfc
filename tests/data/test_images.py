from __future__ import annotations

import logging
import shutil

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset

from mealkit import ImageData, ImageSpec
from mealkit.errors import (
    ClassError,
    DataError,
    InvalidValueError,
    MealkitError,
    NoDataError,
    UnknownNameError,
    UnreadableError,
)

SPEC = ImageSpec(size=(32, 32))


def table(shapes) -> pandas.DataFrame:
    paths = sorted(shapes.glob("*/*.png"))
    return pandas.DataFrame(
        {
            "path": [str(path.relative_to(shapes)) for path in paths],
            "kind": [path.parent.name for path in paths],
            "pair": [int(path.stem[-2:]) // 2 for path in paths],
        }
    )


def pixels(num: int, size: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (num, size, size, 3), dtype=np.uint8)


def stems(samples) -> set[str]:
    return {id.replace("\\", "/").split("/")[-1] for id in samples.ids}


# Folders.


def test_folders_become_classes_and_parts(photos, caplog):
    with caplog.at_level(logging.INFO, logger="mealkit"):
        data = ImageData.from_folders(
            photos / "train", val=photos / "val", test=str(photos / "test")
        )
    assert data.classes == ("circle", "square", "triangle")
    assert [len(part) for part in (data.train, data.val, data.test)] == [36, 12, 12]
    assert data.train.ids[0] == str(photos / "train" / "circle" / "circle00.jpg")
    assert data.train.targets.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    assert "60 images, 3 classes: circle 20, square 20, triangle 20; 36 train, 12 validation" in (
        caplog.text
    )
    assert len(data.report) == 0


def test_a_split_is_made_where_no_val_is_given(shapes):
    data = ImageData.from_folders(shapes)
    assert len(data.train) + len(data.val) == 36
    assert set(data.val.targets.tolist()) == {0, 1, 2}
    assert not set(data.train.ids) & set(data.val.ids)
    assert ImageData.from_folders(shapes, split=0).val is None
    assert stems(ImageData.from_folders(shapes, seed=1).val) != stems(data.val)


def test_moving_and_renaming_changes_no_side(shapes, tmp_path):
    before = ImageData.from_folders(shapes)
    moved = tmp_path / "moved"
    for label in ("circle", "square", "triangle"):
        for path in (shapes / label).iterdir():
            goal = moved / label / "deeper" / f"renamed_{path.name}"
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, goal)
    after = ImageData.from_folders(moved)
    assert {f"renamed_{stem}" for stem in stems(before.val)} == stems(after.val)


def test_exact_copies_never_straddle_a_split(shapes):
    for path in sorted(shapes.glob("*/*.png")):
        shutil.copy(path, path.with_name(f"copy_of_{path.name}"))
    for seed in range(5):
        data = ImageData.from_folders(shapes, seed=seed, split=0.4)
        val = stems(data.val)
        originals = {stem.removeprefix("copy_of_") for stem in val}
        assert val == originals | {f"copy_of_{stem}" for stem in originals}


def test_groups_are_respected(shapes):
    data = ImageData.from_folders(shapes, group=lambda path: path[-5], split=0.4)
    sides = [{id[-5] for id in part.ids} for part in (data.train, data.val)]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == set("0123456789")


def test_copies_across_parts_are_reported(photos, caplog):
    original = photos / "train" / "circle" / "circle00.jpg"
    shutil.copy(original, photos / "val" / "circle" / "same.jpg")
    shutil.copy(original, photos / "test" / "square" / "wrong.jpg")
    shutil.copy(original, photos / "train" / "triangle" / "other.jpg")
    data = ImageData.from_folders(photos / "train", val=photos / "val", test=photos / "test")
    frame = data.report.to_frame().set_index("input")["problem"]
    assert frame[str(photos / "val" / "circle" / "same.jpg")] == (
        f"an exact copy, in the val part, of {original} in the train part"
    )
    assert len(frame[str(photos / "test" / "square" / "wrong.jpg")]) == 2
    relabelled = frame[str(photos / "train" / "triangle" / "other.jpg")]
    assert "labelled 'triangle' here, 'circle' there" in relabelled
    assert len(data.report) == 4
    assert "Exact copies between parts: 2, which makes scores too good" in caplog.text


@pytest.fixture
def broken(shapes):
    whole = (shapes / "circle" / "circle00.png").read_bytes()
    (shapes / "circle" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (shapes / "circle" / "empty.jpg").touch()
    (shapes / "square" / "text.JPG").write_text("no pixels here")
    (shapes / "square" / "notes.txt").write_text("these are notes")
    (shapes / "square" / ".hidden").write_text("hidden")
    (shapes / "loose.png").write_bytes(whole)
    (shapes / "nothing").mkdir()
    return shapes


def test_broken_files_are_left_out_and_reported(broken, caplog):
    data = ImageData.from_folders(broken)
    assert len(data.train) + len(data.val) == 36
    found = {entry.input.split("/")[-1]: entry.problem for entry in data.report.entries}
    assert set(found) == {
        "cut.png", "empty.jpg", "text.JPG", "notes.txt", "loose.png", "nothing",
    }  # fmt: skip
    assert found["empty.jpg"] == "empty (0 bytes)"
    assert "truncated" in found["cut.png"]
    assert "not an image" in found["text.JPG"]
    assert "Left out 4 of 40 images that cannot be read; data.report lists them" in caplog.text


def test_broken_files_can_be_an_error(broken):
    with pytest.raises(UnreadableError, match=r"4 of 40 images cannot be read: .*cut\.png: broken"):
        ImageData.from_folders(broken, on_error="raise")
    with pytest.raises(InvalidValueError, match="expected 'skip' or 'raise'"):
        ImageData.from_folders(broken, on_error="ignore")


def test_a_class_with_no_readable_file_is_an_error(shapes):
    for path in (shapes / "square").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UnreadableError, match=r"None of the 12 images of the class 'square'"):
        ImageData.from_folders(shapes)


def test_beyond_the_count_headers_and_endings_are_checked(broken, monkeypatch):
    full = ImageData.from_folders(broken)
    monkeypatch.setattr("mealkit.data.check.CHECK_FULLY", 3)
    quick = ImageData.from_folders(broken)
    assert quick.train.ids == full.train.ids
    assert quick.report.entries == full.report.entries


def test_absent_empty_and_flat_folders_say_what_is_expected(tmp_path):
    with pytest.raises(NoDataError, match=r"no folder .*absent .*one subfolder per class"):
        ImageData.from_folders(tmp_path / "absent")
    (tmp_path / "flat").mkdir()
    with pytest.raises(NoDataError, match="has no files in it"):
        ImageData.from_folders(tmp_path / "flat")
    Image.new("RGB", (4, 4)).save(tmp_path / "flat" / "a.png")
    with pytest.raises(DataError, match="1 files and no class folders"):
        ImageData.from_folders(tmp_path / "flat")
    with pytest.raises(DataError, match="is a file, not a folder"):
        ImageData.from_folders(tmp_path / "flat" / "a.png")


def test_a_single_class_is_an_error(shapes):
    shutil.rmtree(shapes / "square")
    shutil.rmtree(shapes / "triangle")
    with pytest.raises(ClassError, match="has 1 class"):
        ImageData.from_folders(shapes)


def test_a_class_that_train_lacks_is_an_error(photos):
    shutil.rmtree(photos / "train" / "square")
    with pytest.raises(ClassError, match=r"val part .*'square' \(4 times"):
        ImageData.from_folders(photos / "train", val=photos / "val")


def test_single_items_stay_in_train_with_a_warning(shapes, caplog):
    for path in sorted((shapes / "square").iterdir())[1:]:
        path.unlink()
    for seed in range(5):
        data = ImageData.from_folders(shapes, seed=seed, split=0.5)
        assert "square00.png" in stems(data.train)
    assert "the only image of the class 'square'" in data.report.entries[0].problem
    assert "1 classes have a single image or group" in caplog.text


def test_links_are_followed_and_loops_end(shapes, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for label in ("circle", "square"):
        (linked / label).symlink_to(shapes / label, target_is_directory=True)
    (shapes / "circle" / "loop").symlink_to(shapes / "circle", target_is_directory=True)
    data = ImageData.from_folders(linked, split=0)
    assert len(data.train) == 24


# Files and tables.


def test_files_with_labels(shapes):
    frame = table(shapes)
    paths = [shapes / path for path in frame["path"]]
    data = ImageData.from_files(paths, list(frame["kind"]), val=(paths[:3], ["circle"] * 3))
    assert data.classes == ("circle", "square", "triangle")
    assert len(data.train) == 36
    assert len(data.val) == 3
    with pytest.raises(DataError, match="Got 36 inputs and 35 labels"):
        ImageData.from_files(paths, list(frame["kind"])[1:])
    with pytest.raises(NoDataError, match="There are no inputs"):
        ImageData.from_files([], [])
    with pytest.raises(DataError, match="expected a list of paths"):
        ImageData.from_files(str(shapes), ["a"])


def test_groups_of_files_are_respected_and_counted(shapes):
    frame = table(shapes)
    paths = [shapes / path for path in frame["path"]]
    data = ImageData.from_files(paths, frame["kind"], group=frame["pair"], split=0.4)
    pairs = [{int(id[-6:-4]) // 2 for id in part.ids} for part in (data.train, data.val)]
    assert not pairs[0] & pairs[1]
    with pytest.raises(DataError, match="36 inputs and 3 groups"):
        ImageData.from_files(paths, frame["kind"], group=[1, 2, 3])


def test_frames_with_integer_labels(shapes):
    frame = table(shapes)
    frame["number"] = frame["kind"].map({"circle": 10, "square": 9, "triangle": 2})
    data = ImageData.from_data_frame(frame, image="path", label="number", root=shapes, group="pair")
    assert data.classes == ("2", "9", "10")
    assert set(data.train.ids) <= set(frame["path"])
    text = frame.assign(number=frame["number"].astype(str))
    with pytest.raises(ClassError, match="are integers and those of the val part text"):
        ImageData.from_data_frame(frame, image="path", label="number", root=shapes, val=text)


def test_missing_columns_and_values_are_named(shapes):
    frame = table(shapes)
    with pytest.raises(DataError, match=r"Did you mean 'kind'\?.*'path', 'kind', 'pair'"):
        ImageData.from_data_frame(frame, image="path", label="knid", root=shapes)
    frame.loc[2, "kind"] = None
    with pytest.raises(DataError, match="1 of the rows have no label: row 2"):
        ImageData.from_data_frame(frame, image="path", label="kind", root=shapes)
    frame = table(shapes)
    frame.loc[[3, 5], "path"] = None
    with pytest.raises(DataError, match="2 of the rows have no 'path': row 3, 5"):
        ImageData.from_data_frame(frame, image="path", label="kind", root=shapes)


def test_csv_paths_are_relative_to_the_file_and_labels_are_texts(shapes, monkeypatch, tmp_path):
    frame = table(shapes)
    frame["kind"] = frame["kind"].map({"circle": "NA", "square": "007", "triangle": "a, b"})
    frame.to_csv(shapes / "train.csv", index=False)
    frame[:4].to_csv(shapes / "val.csv", index=False)
    monkeypatch.chdir(tmp_path)
    data = ImageData.from_csv(
        shapes / "train.csv", image="path", label="kind", val=shapes / "val.csv"
    )
    assert data.classes == ("007", "NA", "a, b")
    assert len(data.train) == 36
    assert data.val.targets.tolist() == [1] * 4
    assert len(data.report) == 4  # the rows of val are rows of train, too


def test_csv_files_that_cannot_be_read_say_so(tmp_path):
    with pytest.raises(NoDataError, match="There is no file"):
        ImageData.from_csv(tmp_path / "absent.csv", image="a", label="b")
    (tmp_path / "empty.csv").touch()
    with pytest.raises(NoDataError, match="is empty"):
        ImageData.from_csv(tmp_path / "empty.csv", image="a", label="b")
    (tmp_path / "header.csv").write_text("a,b\n")
    with pytest.raises(NoDataError, match="There are no inputs"):
        ImageData.from_csv(tmp_path / "header.csv", image="a", label="b")
    (tmp_path / "latin.csv").write_bytes("a,b\nä.jpg,x\n".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8"):
        ImageData.from_csv(tmp_path / "latin.csv", image="a", label="b")


# Arrays.


@pytest.mark.parametrize("kind", ["last", "first", "tensor", "list", "pil"])
def test_arrays_of_any_form_give_the_same_pixels(kind):
    stack = pixels(6)
    images = {
        "last": stack,
        "first": stack.transpose(0, 3, 1, 2).copy(),
        "tensor": torch.from_numpy(stack),
        "list": list(stack),
        "pil": [Image.fromarray(image) for image in stack],
    }[kind]
    data = ImageData.from_arrays(images, [0, 1, 0, 1, 0, 1], split=0)
    data.prepare(ImageSpec(size=(16, 16), crop_pct=1.0))
    batch = data.train.__getitems__([5, 0])
    expected = torch.from_numpy(stack[[5, 0]]).permute(0, 3, 1, 2)
    assert torch.equal(batch["image"], expected)
    assert batch["target"].tolist() == [1, 0]
    assert batch["index"].tolist() == [5, 0]
    assert data.train.ids[5] == "5"


def test_grey_stacks_are_repeated_and_kept_where_one_channel_is_wanted():
    grey = pixels(6)[..., 0]
    data = ImageData.from_arrays(grey, [0, 1] * 3, split=0)
    assert data.spec.in_chans == 3
    data.prepare(ImageSpec(size=(16, 16), crop_pct=1.0))
    assert torch.equal(
        data.train.__getitems__([1])["image"][0], torch.from_numpy(grey[1]).expand(3, 16, 16)
    )
    data.prepare(ImageSpec(size=(16, 16), crop_pct=1.0, mean=(0.5,), std=(0.5,)))
    assert data.train.__getitems__([1])["image"].shape == (1, 1, 16, 16)


def test_other_depths_come_as_floats():
    deep = pixels(4).astype(np.uint16) * 257
    data = ImageData.from_arrays(deep, [0, 1, 0, 1], split=0)
    data.prepare(ImageSpec(size=(16, 16), crop_pct=1.0))
    image = data.train.__getitems__([0])["image"]
    assert image.dtype == torch.float32
    assert torch.allclose(image[0].permute(1, 2, 0) * 255, torch.from_numpy(pixels(4)[0]).float())


def test_four_channels_reach_the_spec():
    images = np.zeros((4, 4, 20, 20), dtype=np.uint8)
    images[1:] += np.arange(1, 4, dtype=np.uint8)[:, None, None, None]
    assert ImageData.from_arrays(images, [0, 1, 0, 1], split=0).spec.in_chans == 4


def test_arrays_on_another_scale_are_refused_with_the_reason():
    with pytest.raises(
        UnreadableError, match=r"None of the 2 images .*expected floats in \[0, 1\]"
    ):
        ImageData.from_arrays(np.full((4, 8, 8), 16.0), [0, 1, 0, 1])


# Datasets.


class Pairs(Dataset):
    def __init__(self, form: str = "tuple"):
        self.form = form
        self.images = pixels(8)
        self.labels = [0, 1] * 4

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if self.form == "failing" and index == 3:
            raise OSError("disk on fire")
        image, label = Image.fromarray(self.images[index]), self.labels[index]
        if self.form == "dict":
            return {"picture": image, "label": label, "who": f"p{index // 2}"}
        return image, label


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": "x"}, r"split='x': expected a share, 0 for no validation, in \[0, 1\)"),
        ({"split": 1}, "split=1: expected a share"),
        ({"seed": "x"}, "seed='x': expected a whole number"),
        ({"seed": None}, "seed=None: expected a whole number"),
        ({"labels": None}, "labels=None: expected one label per input"),
        ({"val": np.zeros((4, 8, 8, 3), dtype=np.uint8)}, "val= is ndarray: expected a pair"),
        ({"test": ([], [], [])}, "test= is tuple of 3: expected a pair"),
    ],
)
def test_arguments_of_sources_that_cannot_be_meant_are_refused(changes, words) -> None:
    images = np.random.default_rng(0).integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
    given = {"labels": ["a", "b"] * 4, **changes}
    with pytest.raises(MealkitError, match=words):
        ImageData.from_arrays(images, **given)


def test_sources_of_another_kind_are_refused() -> None:
    wrong = [
        (lambda: ImageData.from_folders(5), "Got 5: expected the path of a folder"),
        (lambda: ImageData.from_folders(None), "training part is None"),
        (lambda: ImageData.from_folders(".", group="g"), "group='g': expected a function"),
        (lambda: ImageData.from_files(5, ["a"]), "expected a list of paths"),
        (lambda: ImageData.from_csv(5, image="p", label="l"), "Got 5: expected the path of a tab"),
        (lambda: ImageData.from_dataset(None), "training part is None"),
        (lambda: ImageData.from_dataset([], image=5), "image=5: expected the name of a column"),
    ]
    frame = pandas.DataFrame({"p": ["a.png"], "l": ["x"]})
    for label in (5, None, [1, 2]):
        wrong.append(
            (
                lambda label=label: ImageData.from_data_frame(frame, image="p", label=label),
                "expected one column",
            )
        )
    for make, words in wrong:
        with pytest.raises(MealkitError, match=words):
            make()


def test_torch_datasets_of_tuples_and_dicts():
    data = ImageData.from_dataset(Pairs(), val=Subset(Pairs(), [0, 1]))
    assert data.classes == ("0", "1")
    assert len(data.train) == 8
    assert data.val.targets.tolist() == [0, 1]
    data = ImageData.from_dataset(Pairs("dict"), image="picture", group="who", split=0.5)
    people = [{int(id) // 2 for id in part.ids} for part in (data.train, data.val)]
    assert not people[0] & people[1]
    with pytest.raises(DataError, match=r"no 'image' but 'picture', 'label', 'who'"):
        ImageData.from_dataset(Pairs("dict"))


def test_targets_and_class_names_of_torchvision_datasets_are_used(shapes):
    import torchvision

    data = ImageData.from_dataset(torchvision.datasets.ImageFolder(shapes), split=0)
    assert data.classes == ("circle", "square", "triangle")
    assert data.train.targets.tolist() == [0] * 12 + [1] * 12 + [2] * 12


def test_a_failing_item_is_left_out():
    dataset = Pairs("failing")
    dataset.targets = dataset.labels
    data = ImageData.from_dataset(dataset, split=0)
    assert len(data.train) == 7
    assert data.report.entries == [("3", "the dataset failed (OSError: disk on fire)")]


def test_streams_and_dicts_of_datasets_say_what_to_do():
    class Stream(IterableDataset):
        def __iter__(self):
            yield from Pairs()

    with pytest.raises(DataError, match=r"split=0\.2 with a stream"):
        ImageData.from_dataset(Stream())
    with pytest.raises(DataError, match=r"dict of datasets \('train', 'test'\)"):
        ImageData.from_dataset({"train": Pairs(), "test": Pairs()})


class FakeHuggingFace:
    """As much of ``datasets.Dataset`` as is used; decoding a picture is counted."""

    class ClassLabel:
        names = ("zebra", "ape")

    def __init__(self, columns, decoded=None):
        self._columns = columns
        self.column_names = list(columns)
        self.features = dict.fromkeys(columns) | {"kind": self.ClassLabel()}
        self.decoded = [] if decoded is None else decoded

    def __len__(self):
        return len(next(iter(self._columns.values())))

    def __getitem__(self, key):
        if isinstance(key, str):
            return self._columns[key]
        self.decoded.append(key)
        return {name: values[key] for name, values in self._columns.items()}

    def select_columns(self, names):
        return FakeHuggingFace({name: self._columns[name] for name in names}, self.decoded)


def test_hugging_face_datasets_by_their_columns():
    pictures = [Image.fromarray(image) for image in pixels(4)]
    dataset = FakeHuggingFace({"img": pictures, "kind": [0, 1, 1, 0]})
    data = ImageData.from_dataset(dataset, image="img", label="kind", split=0)
    assert data.classes == ("ape", "zebra")
    assert data.train.targets.tolist() == [1, 0, 0, 1]
    # By the check and, the first, for its channels; not for the labels.
    assert sorted(dataset.decoded) == [0, 0, 1, 2, 3]
    with pytest.raises(DataError, match=r"no column 'image'.*'img', 'kind'"):
        ImageData.from_dataset(dataset, label="kind")
    unlabelled = FakeHuggingFace({"img": pictures, "kind": [0, 1, -1, 0]})
    with pytest.raises(DataError, match="1 of the rows have no label: row 2"):
        ImageData.from_dataset(unlabelled, image="img", label="kind")


# Batches.


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
def test_workers_give_the_same_batches_in_any_number(shapes):
    data = ImageData.from_folders(shapes, split=0)
    data.prepare(SPEC)
    data.batch_size = 7
    batches = {}
    for num_workers in (0, 2, 4):
        data.num_workers = num_workers
        loader = data.train_dataloader()
        loader.sampler.set_epoch(1)
        batches[num_workers] = [data.augment_batch(batch, epoch=1) for batch in loader]
    assert len(batches[0]) == len(batches[2]) == len(batches[4]) == 6
    for first, second in zip(batches[0] * 2, batches[2] + batches[4], strict=True):
        assert first.keys() == second.keys() == {"image", "index", "target"}
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_files_lost_in_mid_training_leave_the_batch_and_enter_the_report(shapes, num_workers):
    data = ImageData.from_folders(shapes, split=0)
    data.prepare(SPEC)
    data.batch_size, data.num_workers = 36, num_workers
    (shapes / "circle" / "circle03.png").unlink()
    (batch,) = list(data.train_dataloader())
    assert sorted(batch["index"].tolist()) == [n for n in range(36) if n != 3]
    assert batch["image"].shape == (35, 3, 32, 32)
    assert batch["target"].tolist() == data.train.targets[batch["index"]].tolist()
    assert data.report.entries == [(data.train.ids[3], "no such file")]


def test_a_batch_of_which_nothing_is_left_is_an_error(shapes):
    data = ImageData.from_folders(shapes, split=0)
    data.prepare(SPEC)
    shutil.rmtree(shapes)
    with pytest.raises(UnreadableError, match=r"None of the 8 pictures.*circle00.*no such file"):
        data.train.__getitems__(list(range(8)))
    # A few may have gone bad by chance, as in the last batch of an epoch.
    assert data.train.__getitems__([0])["failed"].tolist() == [0]


def test_samples_ask_to_be_prepared_first(shapes):
    data = ImageData.from_folders(shapes)
    with pytest.raises(InvalidValueError, match="prepare"):
        data.train.__getitems__([0])


def test_augmentation_is_light_named_or_the_users_own(shapes):
    data = ImageData.from_folders(shapes, split=0)
    data.prepare(SPEC)
    batch = data.train.__getitems__(range(12))
    assert data.caches
    assert not torch.equal(data.augment_batch(batch, epoch=0)["image"], batch["image"])
    data.augment = "none"
    assert data.caches
    assert torch.equal(data.augment_batch(batch, epoch=0)["image"], batch["image"])
    data.augment = "light"
    assert not data.caches
    data.augment = lambda images, *, seed, epoch, index: images * 0 + epoch
    assert data.augment_batch(batch, epoch=5)["image"].unique().tolist() == [5]
    data.augment = "strong"
    with pytest.raises(UnknownNameError, match="augmentation 'strong'"):
        data.augment_batch(batch, epoch=0)


@pytest.mark.parametrize(
    ("group", "words"),
    [
        (lambda first, second: first, "expected a function that turns a path"),
        (lambda path: None, r"group= answered None for the path 'circle/circle00.png'"),
        (lambda path: {}[path], r"failed on the path 'circle/circle00.png' \(KeyError"),
    ],
)
def test_functions_that_name_no_group_are_refused(shapes, group, words):
    with pytest.raises(DataError, match=words):
        ImageData.from_folders(shapes, group=group)


def test_a_column_is_of_pictures_or_of_labels(shapes):
    with pytest.raises(DataError, match="image='path' and label='path' are one column"):
        ImageData.from_data_frame(table(shapes), image="path", label="path", root=shapes)
    with pytest.raises(DataError, match="'image' are one column"):
        ImageData.from_dataset(Pairs(), image="image", label="image")


def test_a_root_that_is_no_folder_is_refused(shapes):
    with pytest.raises(DataError, match="root=3: expected the folder"):
        ImageData.from_data_frame(table(shapes), image="path", label="kind", root=3)
    with pytest.raises(NoDataError, match=r"no folder root='nowhere' \(looked in "):
        ImageData.from_data_frame(table(shapes), image="path", label="kind", root="nowhere")


def test_an_empty_text_is_no_label(shapes):
    paths = sorted(shapes.glob("*/*.png"))
    labels = ["", *(path.parent.name for path in paths[1:])]
    with pytest.raises(ClassError, match=r"1 of the training rows have an empty text.*row 0 "):
        ImageData.from_files(paths, labels)
    sets = [["round", ""], *([path.parent.name] for path in paths[1:])]
    with pytest.raises(ClassError, match="1 of the training rows have an empty text"):
        ImageData.from_files(paths, sets)


def test_what_is_no_table_of_a_file_is_refused(shapes):
    with pytest.raises(DataError, match="is a folder: expected the path of a table"):
        ImageData.from_csv(shapes, image="path", label="kind")
    with pytest.raises(DataError, match=r"Got a data frame.*from_data_frame"):
        ImageData.from_csv(table(shapes), image="path", label="kind")


def test_arrays_need_the_channels_of_the_first(caplog):
    images = [*pixels(6), *(np.dstack([one, one[..., :1]]) for one in pixels(4, size=12))]
    data = ImageData.from_arrays([*images, images[0][..., 0]], [*"ababab", *"abab", "a"], split=0)
    assert len(data.train) == 7  # grey is repeated
    assert len(data.report) == 4
    reason = "an array with 4 channels, and the first one to train on has 3"
    assert data.report.entries[0] == ("6", reason)
    assert "Left out 4 of 11 images" in caplog.text
    with pytest.raises(UnreadableError, match=r"the class 'a' in the val part.*4 channels"):
        ImageData.from_arrays(pixels(4), [*"abab"], val=(images[6:], [*"abab"]))


@pytest.mark.parametrize("seed", [2**70, "1"])
def test_seeds_are_checked_by_every_source(shapes, seed):
    with pytest.raises(InvalidValueError, match=f"seed={seed!r}"):
        ImageData.from_folders(shapes, seed=seed)


def test_a_seed_of_numpy_is_one_like_others(shapes):
    given, plain = (ImageData.from_folders(shapes, seed=seed) for seed in (np.int64(3), 3))
    assert given.train.ids == plain.train.ids
    assert type(given.seed) is int


@pytest.mark.parametrize(
    ("name", "meant"),
    [("augmentation", "augment"), ("mixup", "mix"), ("num_worker", "num_workers")],
)
def test_a_setting_with_another_name_is_warned_of(shapes, caplog, name, meant):
    data = ImageData.from_folders(shapes)
    with caplog.at_level(logging.WARNING, logger="mealkit"):
        setattr(data, name, "heavy")
        assert f"data.{name} is no setting of ImageData" in caplog.text
        assert f"Did you mean data.{meant}?" in caplog.text
        caplog.clear()
        data.augment, data.my_own_note, data.n_views = "heavy", "anything", 2
    assert not caplog.records


@pytest.mark.parametrize(("in_chans", "fits"), [(1, True), (3, True), (4, True), (2, False)])
def test_files_are_read_with_one_three_or_four_channels(shapes, in_chans, fits):
    data = ImageData.from_folders(shapes)
    if fits:
        data.check_channels(in_chans)
        data.prepare(ImageSpec(size=(8, 8), mean=(0.5,) * in_chans, std=(0.5,) * in_chans))
        assert data.train.__getitems__([0])["image"].shape == (1, in_chans, 8, 8)
        return
    with pytest.raises(InvalidValueError, match=r"net takes 2 channels, and files.*1, 3, 4"):
        data.check_channels(in_chans)


@pytest.mark.parametrize(("in_chans", "fits"), [(1, True), (3, True), (4, False), (2, False)])
def test_grey_arrays_are_repeated_to_three_and_no_others(in_chans, fits):
    data = ImageData.from_arrays(pixels(4)[..., 0], [*"abab"])
    if fits:
        data.check_channels(in_chans)
        data.prepare(ImageSpec(size=(8, 8), mean=(0.5,) * in_chans, std=(0.5,) * in_chans))
        assert data.train.__getitems__([0])["image"].shape == (1, in_chans, 8, 8)
        return
    with pytest.raises(InvalidValueError, match=f"have 1 channels and the net takes {in_chans}"):
        data.check_channels(in_chans)
