from __future__ import annotations

import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from mealkit.data import decode
from mealkit.data.decode import read_image
from mealkit.errors import UnreadableError


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(load_sample_image("flower.jpg")).resize((161, 107))


def encoded(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def by_pillow(data: bytes, mode: str = "RGB") -> np.ndarray:
    array = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert(mode))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def difference(image: torch.Tensor, reference: np.ndarray) -> int:
    assert image.dtype == torch.uint8
    assert tuple(image.shape) == reference.shape
    return int(np.abs(image.numpy().astype(int) - reference.astype(int)).max())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_exif_orientations_come_out_upright(photo, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded(photo, exif=exif.tobytes(), quality=90)
    assert difference(read_image(data), by_pillow(data)) <= 1


def test_orientation_in_xmp_alone_is_applied(photo):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    data = encoded(photo, xmp=xmp)
    assert read_image(data).shape == (3, 161, 107)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}]
)
@pytest.mark.parametrize("source_mode", ["RGB", "L", "CMYK"])
def test_jpegs_equal_pillow_to_one_level(photo, source_mode, options):
    data = encoded(photo.convert(source_mode), **options)
    for mode in ("RGB", "L", "RGBA"):
        assert difference(read_image(data, mode=mode), by_pillow(data, mode)) <= 1


def test_ycck_jpeg_has_the_colours_it_was_made_of(photo):
    data = encoded(photo.convert("CMYK"), quality=100, subsampling=0)
    error = np.abs(read_image(data).numpy().astype(int) - np.array(photo).transpose(2, 0, 1))
    assert error.mean() < 3  # an inverted picture would be off by about 100


def test_without_torchvisions_decoder_pillow_gives_the_same(photo, monkeypatch):
    data = encoded(photo)
    fast = read_image(data)
    monkeypatch.setattr(decode, "_jpeg_decoder", lambda: None)
    assert difference(read_image(data), fast.numpy()) <= 1


def test_16_bit_grey_is_scaled_and_not_clipped():
    values = np.array([[0, 128, 257], [32768, 65000, 65535]], dtype=np.uint16)
    data = encoded(Image.fromarray(values), "PNG")
    expected = np.round(values / 257).astype(np.uint8)
    assert read_image(data, mode="L")[0].tolist() == expected.tolist()
    assert read_image(data).tolist() == [expected.tolist()] * 3
    assert read_image(encoded(Image.fromarray(values), "TIFF"))[0].tolist() == expected.tolist()


def test_palette_with_transparency_lies_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    data = encoded(image, "PNG", transparency=1)
    assert read_image(data)[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255]]
    assert read_image(encoded(image, "PNG"))[:, 0].T.tolist() == [[255, 0, 0], [0, 0, 255]]


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_alpha_lies_over_white_and_is_kept_for_four_channels(form):
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    data = encoded(image, form, **({"lossless": True, "exact": True} if form == "WEBP" else {}))
    assert read_image(data)[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255]]
    assert read_image(data, mode="RGBA")[:, 0].T.tolist() == [[10, 20, 30, 255], [0, 0, 0, 0]]


def test_half_transparent_grey_is_mixed_with_white():
    data = encoded(Image.new("LA", (1, 1), (0, 128)), "PNG")
    assert read_image(data, mode="L").item() == 127


def test_one_bit_pictures_become_black_and_white():
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert read_image(encoded(image, "PNG"), mode="L").tolist() == [[[0, 255]]]


def test_first_frame_of_an_animation_is_taken():
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    data = encoded(red, "GIF", save_all=True, append_images=[blue])
    assert read_image(data)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_other_formats_equal_pillow(photo, form):
    data = encoded(photo, form)
    assert difference(read_image(data), by_pillow(data)) == 0


def test_paths_bytes_and_pictures_give_the_same(photo, tmp_path):
    path = tmp_path / "a.png"
    photo.save(path)
    expected = np.array(photo).transpose(2, 0, 1)
    for source in (path, str(path), path.read_bytes(), photo):
        assert difference(read_image(source), expected) == 0


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_truncated_pictures_are_refused(photo, form, share):
    data = encoded(photo, form, **({"progressive": True} if share == 0.9 else {}))
    cut = data[: int(len(data) * share)]
    with pytest.raises(UnreadableError, match=r"broken image|not an image"):
        read_image(cut)


def test_a_jpeg_without_its_last_two_bytes_is_refused(photo):
    with pytest.raises(UnreadableError, match="truncated"):
        read_image(encoded(photo)[:-2])


def test_what_is_no_picture_is_refused_by_name_and_reason(tmp_path):
    (tmp_path / "text.jpg").write_text("these are not pixels")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    for name, reason in {
        "text.jpg": "not an image (it starts with b'these are no')",
        "empty.jpg": "empty (0 bytes)",
        "folder.jpg": "a folder, not a file",
        "absent.jpg": "no such file",
        "nul\0l.jpg": "cannot be opened (embedded null byte)",
    }.items():
        with pytest.raises(UnreadableError) as caught:
            read_image(tmp_path / name)
        assert caught.value.reason == reason
        assert str(caught.value) == f"{tmp_path / name}: {reason}"


def test_float_tiffs_have_no_known_range():
    data = encoded(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF")
    with pytest.raises(UnreadableError, match="from_arrays"):
        read_image(data)


def test_broken_exif_does_not_hide_the_pixels(photo):
    data = encoded(photo, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert read_image(data).shape == (3, 107, 161)


def test_decoding_in_threads_gives_the_same(photo):
    data = encoded(photo)
    expected, answers = read_image(data), []
    threads = [threading.Thread(target=lambda: answers.append(read_image(data))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert all(torch.equal(answer, expected) for answer in answers)
