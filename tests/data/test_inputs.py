from __future__ import annotations

import http.server
import io
import threading

import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from mealkit import ImageSpec
from mealkit.data import web
from mealkit.data.inputs import labelled_from, samples_from
from mealkit.errors import ClassError, DataError, InvalidValueError, NoDataError, UnreadableError
from mealkit.specs import ImageDataSpec

SPEC = ImageSpec(size=(8, 8), crop_pct=1.0)


def png(colour: tuple[int, int, int] = (1, 2, 3)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def fetch(inputs, **options):
    given = samples_from(inputs, **options)
    given.samples.prepare(SPEC)
    return given, given.samples.__getitems__(range(len(given.samples)))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png())
    return path


def test_one_picture_of_any_kind(path):
    array = np.array(Image.open(path))
    for one in (path, str(path), png(), Image.open(path), array, torch.from_numpy(array)):
        given, batch = fetch(one)
        assert given.single
        assert batch["image"][:, :, 0, 0].tolist() == [[1, 2, 3]]
        assert "failed" not in batch
        assert "target" not in batch
    assert fetch(path)[0].samples.ids == [str(path)]
    assert fetch(array)[0].samples.ids == ["0"]


def test_a_mixed_list_keeps_its_order(path):
    array = np.full((8, 8, 3), 9, dtype=np.uint8)
    given, batch = fetch([array, str(path), png((4, 4, 4)), Image.new("L", (5, 9), 7)])
    assert not given.single
    assert batch["image"][:, 0, 0, 0].tolist() == [9, 1, 4, 7]
    assert given.samples.ids == ["0", str(path), "2", "3"]


def test_uint8_and_floats_in_one_batch_become_floats(path):
    _, batch = fetch([path, np.full((8, 8, 3), 0.5)])
    assert batch["image"].dtype == torch.float32
    assert torch.allclose(batch["image"][:, 0, 0, 0], torch.tensor([1 / 255, 0.5]))


def test_stacks_are_many(path):
    given, batch = fetch(np.zeros((5, 8, 8, 3), dtype=np.uint8))
    assert not given.single
    assert batch["image"].shape == (5, 3, 8, 8)
    assert len(fetch(torch.zeros(2, 3, 8, 8))[0].samples) == 2


def test_what_cannot_be_read_is_listed_with_its_reason(path, tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    given, batch = fetch([tmp_path / "text.jpg", path, "no/such.jpg", b"", np.full((4, 4), 9.0)])
    assert batch["failed"].tolist() == [0, 2, 3, 4]
    assert batch["index"].tolist() == [1]
    why = [given.samples.why(row) for row in (0, 2, 3, 4)]
    assert why[0].startswith("not an image")
    assert why[1:3] == ["no such file", "empty (0 bytes)"]
    assert "expected floats in [0, 1]" in why[3]


def test_one_missing_path_is_a_failed_row_and_not_an_error():
    given, batch = fetch("neither/path/nor.url")
    assert given.single
    assert batch["image"].shape == (0, 3, 8, 8)
    assert batch["failed"].tolist() == [0]
    assert given.samples.why(0) == "no such file"


def test_the_reason_is_found_again_in_another_process(path):
    given = samples_from([str(path), "absent.jpg"])
    given.samples.prepare(SPEC)
    assert given.samples.why(1) == "no such file"


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path):
    for name in ("10.png", "9.png", "deep/1.PNG", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png())
    (tmp_path / "notes.txt").write_text("no picture")
    given, batch = fetch(tmp_path)
    names = ["9.png", "10.png", "deep/1.PNG"]
    assert given.samples.ids == [str(tmp_path / name) for name in names]
    assert len(batch["image"]) == 3


def test_nothing_to_predict_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(NoDataError, match="1 files and no pictures"):
        samples_from(tmp_path)
    with pytest.raises(NoDataError, match="it is empty"):
        samples_from([])
    with pytest.raises(NoDataError, match="it is empty"):
        samples_from(pandas.DataFrame({"path": []}), image="path")


def test_frames_find_their_column_of_paths(path):
    frame = pandas.DataFrame({"id": ["x", "y"], "file": [str(path), None], "n": [1, 2]})
    given, batch = fetch(frame)
    assert given.frame_kind == "pandas"
    assert not given.single
    assert batch["index"].tolist() == [0]
    assert batch["failed"].tolist() == [1]
    assert given.samples.why(1) == "no path given"
    assert len(fetch(frame, image="file")[0].samples) == 2


def test_the_column_trained_on_goes_before_a_search(path):
    frame = pandas.DataFrame({"first": ["absent.jpg"], "second": [str(path)]})
    assert samples_from(frame, usual="second").samples.ids == [str(path)]
    assert samples_from(frame, image="first", usual="second").samples.ids == ["absent.jpg"]
    only = frame[["second"]]
    assert samples_from(only, usual="third").samples.ids == [str(path)]


def test_frames_without_one_clear_column_list_theirs(path):
    with pytest.raises(DataError, match="'id', 'n' no column holds paths"):
        samples_from(pandas.DataFrame({"id": ["x"], "n": [1]}))
    with pytest.raises(DataError, match="2 columns hold paths"):
        samples_from(pandas.DataFrame({"a": ["x.jpg"], "b": ["y.jpg"]}))
    with pytest.raises(DataError, match=r"Did you mean 'file'\?"):
        samples_from(pandas.DataFrame({"file": ["x.jpg"]}), image="fiel")
    with pytest.raises(InvalidValueError, match="no DataFrame"):
        samples_from([str(path)], image="file")


@pytest.mark.parametrize(
    "inputs", [3, None, {"a": 1}, [1, 2], [["a.jpg"]], np.zeros((2, 2, 2, 2, 2))]
)
def test_other_types_are_refused(inputs):
    with pytest.raises(DataError, match="expected a path, a web address"):
        samples_from(inputs)


def test_labelled_folders_keep_broken_files_and_the_order_of_the_classes(photos, caplog):
    (photos / "test" / "square" / "square00.jpg").write_bytes(b"")
    (photos / "test" / "loose.jpg").touch()
    classes = ("triangle", "star", "square", "circle")
    samples = labelled_from(photos / "test", spec=ImageDataSpec(classes=classes))
    samples.prepare(SPEC)
    assert samples.targets.tolist() == [3] * 4 + [2] * 4 + [0] * 4
    assert samples.__getitems__(range(12))["failed"].tolist() == [4]
    assert samples.why(4) == "empty (0 bytes)"
    assert "loose.jpg: not in a class folder" in caplog.text
    with pytest.raises(ClassError, match=r"'triangle' \(4 times.*Known are 'circle', 'square'"):
        labelled_from(photos / "test", spec=ImageDataSpec(classes=("circle", "square")))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/absent.png":
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>" if self.path == "/page" else png())

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_web_addresses_are_fetched(server):
    given, batch = fetch([f"{server}/a.png", f"{server}/absent.png", f"{server}/page"])
    assert batch["image"][:, :, 0, 0].tolist() == [[1, 2, 3]]
    assert given.samples.ids[0] == f"{server}/a.png"
    assert given.samples.why(1) == "the server answered 404 Not Found"
    assert "not an image" in given.samples.why(2)
    assert fetch(f"{server}/a.png")[0].single


def test_large_answers_and_silent_servers_are_given_up(server):
    with pytest.raises(UnreadableError, match=r"larger than 1e-05 MB"):
        web.Address(f"{server}/a.png").read(max_megabytes=1e-5)
    with pytest.raises(UnreadableError, match="cannot be reached"):
        web.Address("http://127.0.0.1:9/a.png").read(timeout_seconds=2)


def test_labelled_tables_become_samples(photos, tmp_path):
    paths = sorted((photos / "test").glob("*/*.jpg"))
    kinds = [path.parent.name for path in paths]
    frame = pandas.DataFrame({"path": map(str, paths), "kind": kinds})
    spec = ImageDataSpec(classes=("triangle", "square", "circle"))
    by_frame = labelled_from(frame, spec=spec, image="path", label="kind")
    assert by_frame.targets.tolist() == [2] * 4 + [1] * 4 + [0] * 4
    frame.to_csv(tmp_path / "test.csv", index=False)
    by_csv = labelled_from(tmp_path / "test.csv", spec=spec, image="path", label="kind")
    assert torch.equal(by_csv.targets, by_frame.targets)
    known = ImageDataSpec(classes=spec.classes, image="path", label="kind")
    for source in (frame, tmp_path / "test.csv"):
        assert torch.equal(labelled_from(source, spec=known).targets, by_frame.targets)
    renamed = frame.rename(columns={"path": "file"})
    assert torch.equal(labelled_from(renamed, spec=known, image="file").targets, by_frame.targets)
    numbered = frame.assign(kind=range(12))
    spec = ImageDataSpec(classes=tuple(map(str, range(12))))
    assert labelled_from(numbered, spec=spec, image="path", label="kind").targets[3] == 3


@pytest.mark.parametrize(
    ("source", "columns", "words"),
    [
        ("test.csv", {}, "Name the columns of the table with image= and label="),
        ("test.csv", {"label_delimiter": "|"}, "label_delimiter= divides the texts of a column"),
        ("photos", {"image": "path", "label": "kind"}, "the source is no table"),
        (5, {}, "Got int; expected a folder"),
    ],
)
def test_what_cannot_be_scored_is_refused(source, columns, words):
    with pytest.raises(InvalidValueError, match=words):
        labelled_from(source, spec=ImageDataSpec(classes=("a", "b")), **columns)
