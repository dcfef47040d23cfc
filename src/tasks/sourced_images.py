"""SourcedImages: a classifier of pictures, made from wherever its pictures are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from torch import nn

from ..data import ImageData
from ..data.label_columns import LabelColumns
from ..data.sources import OnError
from .classifier import Classifier

DEFAULT_BACKBONE = "convnext_nano.in12k_ft_in1k"
"""15.6 M parameters. Chosen by timm's published ImageNet table (results-imagenet.csv: 82.3 % top-1,
against 71.5 % of resnet18.a1_in1k and 80.4 % of resnet50.a1_in1k with more parameters), not by a
measurement of ours."""


class SourcedImages(Classifier):
    """What every source of pictures leads to: data, and a task that is made from them."""

    @classmethod
    def _on(
        cls,
        data: ImageData,
        backbone: str | Path | nn.Module,
        pretrained: bool | None,
        weights: str | Path | None,
        in_chans: int | None,
        size: int | tuple[int, int] | None,
    ) -> Self:
        """Make a task for data that are read already."""
        raise NotImplementedError

    @classmethod
    def from_folders(
        cls,
        train: str | Path,
        *,
        val: str | Path | None = None,
        test: str | Path | None = None,
        group: Callable[[str], str] | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a task from a folder with one subfolder of pictures per class.

        See `ImageData.from_folders` for the source and `ImageClassifier` for the net.
        """
        data = ImageData.from_folders(
            train, val=val, test=test, group=group, split=split, seed=seed, on_error=on_error
        )
        return cls._on(data, backbone, pretrained, weights, in_chans, size)

    @classmethod
    def from_files(
        cls,
        paths: Sequence[str | Path],
        labels: Sequence[Any],  # Any: checked to be str or int, or lists of them
        *,
        val: tuple[Sequence[str | Path], Sequence[Any]] | None = None,
        test: tuple[Sequence[str | Path], Sequence[Any]] | None = None,
        group: Sequence[Any] | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a task from paths and their labels.

        See `ImageData.from_files` for the source and `ImageClassifier` for the net.
        """
        data = ImageData.from_files(
            paths,
            labels,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, in_chans, size)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        image: str,
        label: LabelColumns,
        label_delimiter: str | None = None,
        root: str | Path | None = None,
        val: str | Path | None = None,
        test: str | Path | None = None,
        group: str | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a task from a CSV table of paths and labels, or of columns of 0 and 1.

        See `ImageData.from_csv` for the source and `ImageClassifier` for the net.
        """
        data = ImageData.from_csv(
            path,
            image=image,
            label=label,
            label_delimiter=label_delimiter,
            root=root,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, in_chans, size)

    @classmethod
    def from_data_frame(
        cls,
        frame: Any,  # Any: a DataFrame of pandas or polars
        *,
        image: str,
        label: LabelColumns,
        label_delimiter: str | None = None,
        root: str | Path | None = None,
        val: Any = None,
        test: Any = None,
        group: str | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a task from a data frame of paths and labels, pandas or polars.

        See `ImageData.from_data_frame` for the source and `ImageClassifier` for the net.
        """
        data = ImageData.from_data_frame(
            frame,
            image=image,
            label=label,
            label_delimiter=label_delimiter,
            root=root,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, in_chans, size)

    @classmethod
    def from_arrays(
        cls,
        images: Any,  # Any: an array, a tensor, or a list of arrays or PIL images
        labels: Sequence[Any],  # Any: checked to be str or int, or lists of them
        *,
        val: tuple[Any, Sequence[Any]] | None = None,
        test: tuple[Any, Sequence[Any]] | None = None,
        group: Sequence[Any] | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a task from arrays, tensors or PIL images and their labels.

        See `ImageData.from_arrays` for the source and `ImageClassifier` for the net.
        """
        data = ImageData.from_arrays(
            images,
            labels,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, in_chans, size)

    @classmethod
    def from_dataset(
        cls,
        train: Any,  # Any: a torch Dataset, one of Hugging Face, or a Stream
        *,
        image: str = "image",
        label: str = "label",
        classes: Sequence[str] | None = None,
        val: Any = None,
        test: Any = None,
        group: str | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a task from a torch or Hugging Face dataset, or from a stream.

        See `ImageData.from_dataset` for the source and `ImageClassifier` for the net.
        """
        data = ImageData.from_dataset(
            train,
            image=image,
            label=label,
            classes=classes,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, in_chans, size)
