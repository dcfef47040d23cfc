"""SourcedPretrainer: a pretrainer, made from wherever its inputs are."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from torch import nn

from ..data import SeriesData, TextData, TextSamples
from ..data.series_build import Duplicates
from ..data.series_columns import Target
from ..data.sources import OnError
from ..data.text_inputs import samples_of_texts
from ..data.unlabelled import UnlabelledImages
from ..data.unlabelled_series import UnlabelledSeries
from ..errors import InvalidValueError, NoDataError
from ..specs import Kind, TextDataSpec
from .pretext import Method, resolve_method
from .pretrain_kind import NetOptions
from .pretrain_kinds import KINDS, kind_of
from .pretrain_pictures import Pictures
from .pretrain_task import DEFAULT_BACKBONE, PretrainTask

_log = logging.getLogger("mealkit")

DEFAULT_TEXT_BACKBONE = "distilbert-base-uncased"
"""66 M parameters, Apache-2.0, trained by guessing words, as it is here."""

DEFAULT_SERIES_BACKBONE = "patchtst"
"""The net of the paper that the method is from."""


class SourcedPretrainer(PretrainTask):
    """What every source of inputs leads to: data, and a pretrainer that is made for them.

    Where a source may hold several kinds of input, ``image=`` or the backbone says which. What is
    of another kind than the inputs is refused.
    """

    # Pictures.

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        method: str | Method = "simclr",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a pretrainer for all pictures below a folder, whatever its subfolders are called.

        See `UnlabelledImages.from_folder` for the source and `SSLPretrainer` for the net. Pictures
        of up to 64 pixels are seen at their own size, by a net that is made to keep more of them;
        the log says how.
        """
        data = UnlabelledImages.from_folder(folder, seed=seed, on_error=on_error)
        asked = NetOptions(pretrained=pretrained, weights=weights, in_chans=in_chans, size=size)
        return cls._on_pictures(data, backbone, method, asked)

    @classmethod
    def from_files(
        cls,
        paths: Sequence[str | Path],
        *,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        method: str | Method = "simclr",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a pretrainer for files.

        See `UnlabelledImages.from_files` for the source and `from_folder` for the net.
        """
        data = UnlabelledImages.from_files(paths, seed=seed, on_error=on_error)
        asked = NetOptions(pretrained=pretrained, weights=weights, in_chans=in_chans, size=size)
        return cls._on_pictures(data, backbone, method, asked)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,  # Any: a torch Dataset, or one of Hugging Face
        *,
        image: str = "image",
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        method: str | Method = "simclr",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a pretrainer for the pictures of a torch or Hugging Face dataset.

        See `UnlabelledImages.from_dataset` for the source and `from_folder` for the net.
        """
        data = UnlabelledImages.from_dataset(dataset, image=image, seed=seed, on_error=on_error)
        asked = NetOptions(pretrained=pretrained, weights=weights, in_chans=in_chans, size=size)
        return cls._on_pictures(data, backbone, method, asked)

    # Texts.

    @classmethod
    def from_texts(
        cls,
        texts: Any,  # Any: whatever holds texts; samples_of_texts names what it takes
        *,
        text: str | None = None,
        seed: int = 0,
        backbone: str | Path | nn.Module = DEFAULT_TEXT_BACKBONE,
        method: str | Method = "mlm",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
    ) -> Self:
        """Make a pretrainer for texts, which goes on from trained weights where there are.

        Missing and empty texts are left out.

        Args:
            texts: A list of texts, a data frame, or the path of a table (CSV, TSV, JSON, parquet).
            text: The column of a table.
            seed: Decides the order.
            backbone: As `TextClassifier` takes it.
            method: A method for texts.
            pretrained: Whether the backbone starts from trained weights; None for yes where there
                are.
            weights: File or folder of weights to start from.

        Raises:
            NoDataError: There are no texts.
            BackboneError: The backbone cannot guess words.
        """
        chosen = _method_for("text", method)
        spec = TextDataSpec() if text is None else TextDataSpec(text=(text,))
        samples = samples_of_texts(texts, spec, text=text).samples
        if not isinstance(samples, TextSamples) or not samples.num_usable:
            raise NoDataError("Not one of the texts can be read: all are missing or empty.")
        lost = len(samples) - samples.num_usable
        if lost:
            _log.warning(
                f"Left out {lost:,} of {len(samples):,} texts, which are missing or empty."
            )
        task = cls(backbone, method=chosen, pretrained=pretrained, weights=weights)
        task.data = TextData(spec=spec, train=samples, seed=seed)
        task.spec = spec
        return task

    # Series.

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        frequency: str | int | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        test: int = 0,
        seed: int = 0,
        backbone: str | Path | nn.Module = DEFAULT_SERIES_BACKBONE,
        method: str | Method = "masked_patches",
        weights: str | Path | None = None,
        context: int | None = None,
    ) -> Self:
        """Make a pretrainer for series in a CSV table (or one with tabs: .tsv), long or wide.

        See `UnlabelledSeries.from_csv` for the source. The net sees ``context`` steps: None for
        512, or a quarter of the series' length where they are shorter.

        Raises:
            BackboneError: The net has no encoder to be pretrained; the message says which do.
            DataError: The table cannot be used, or no series has as many steps as the net sees.
        """
        data = UnlabelledSeries.from_csv(
            path,
            time=time,
            target=target,
            series=series,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            test=test,
            seed=seed,
        )
        return cls._on_series(data, backbone, method, NetOptions(weights=weights, context=context))

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        frequency: str | int | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        test: int = 0,
        seed: int = 0,
        backbone: str | Path | nn.Module = DEFAULT_SERIES_BACKBONE,
        method: str | Method = "masked_patches",
        weights: str | Path | None = None,
        context: int | None = None,
    ) -> Self:
        """Make a pretrainer for series in a parquet table (needs ``mealkit[parquet]``).

        See `UnlabelledSeries.from_parquet` for the source and `from_csv` for the net.
        """
        data = UnlabelledSeries.from_parquet(
            path,
            time=time,
            target=target,
            series=series,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            test=test,
            seed=seed,
        )
        return cls._on_series(data, backbone, method, NetOptions(weights=weights, context=context))

    @classmethod
    def from_data(
        cls,
        data: SeriesData | UnlabelledSeries,
        *,
        backbone: str | Path | nn.Module = DEFAULT_SERIES_BACKBONE,
        method: str | Method = "masked_patches",
        weights: str | Path | None = None,
        context: int | None = None,
    ) -> Self:
        """Make a pretrainer for series that are read already.

        Args:
            data: Those of a `Forecaster`, of which the part is learnt from that trains: what
                validates and tests stays unseen. Or `UnlabelledSeries`.
            backbone: See `from_csv`, like all below.
            method: See there.
            weights: See there.
            context: See there.
        """
        source = data if isinstance(data, UnlabelledSeries) else UnlabelledSeries.from_data(data)
        asked = NetOptions(weights=weights, context=context)
        return cls._on_series(source, backbone, method, asked)

    # Pictures or series.

    @classmethod
    def from_data_frame(
        cls,
        frame: Any,  # Any: a DataFrame of pandas or polars
        *,
        image: str | None = None,
        root: str | Path | None = None,
        on_error: OnError = "skip",
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        frequency: str | int | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        test: int = 0,
        seed: int = 0,
        backbone: str | Path | nn.Module | None = None,
        method: str | Method | None = None,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
        context: int | None = None,
    ) -> Self:
        """Make a pretrainer for files whose paths stand in a column, or for a table of series.

        With ``image=``, which names the column of paths, see `UnlabelledImages.from_data_frame`
        (``root``, ``on_error``) for the source and `from_folder` for the net. Without it, see
        `UnlabelledSeries.from_data_frame` (``time`` to ``test``) and `from_csv`.

        Raises:
            InvalidValueError: An argument is of the other kind of input.
        """
        asked = NetOptions(
            pretrained=pretrained, weights=weights, in_chans=in_chans, size=size, context=context
        )
        of_series = {
            "time": time,
            "target": target,
            "series": series,
            "frequency": frequency,
            "season": season,
            "duplicates": None if duplicates == "raise" else duplicates,
            "test": test or None,
        }
        if image is not None:
            _refuse(of_series, "of series, and image= says that these are pictures")
            pictures = UnlabelledImages.from_data_frame(
                frame, image=image, root=root, seed=seed, on_error=on_error
            )
            return cls._on_pictures(pictures, backbone, method, asked)
        given = {"root": root, "on_error": None if on_error == "skip" else on_error}
        _refuse(given, "of pictures, whose column of paths image= would name")
        data = UnlabelledSeries.from_data_frame(
            frame,
            time=time,
            target=target,
            series=series,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            test=test,
            seed=seed,
        )
        return cls._on_series(data, backbone, method, asked)

    @classmethod
    def from_arrays(
        cls,
        arrays: Any,  # Any: pictures or series, see below
        *,
        on_error: OnError = "skip",
        ids: Sequence[str] | None = None,
        season: int | None = None,
        test: int = 0,
        seed: int = 0,
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        method: str | Method | None = None,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
        context: int | None = None,
    ) -> Self:
        """Make a pretrainer for arrays, tensors or PIL images, or for series in memory.

        The backbone says which: with one for pictures, see `UnlabelledImages.from_arrays`
        (``on_error``) for the source and `from_folder` for the net; with one for series, such as
        ``"patchtst"``, `UnlabelledSeries.from_arrays` (``ids``, ``season``, ``test``) and
        `from_csv`.

        Raises:
            InvalidValueError: An argument is of the other kind of input.
        """
        asked = NetOptions(
            pretrained=pretrained, weights=weights, in_chans=in_chans, size=size, context=context
        )
        kind = kind_of(backbone) if method is None else resolve_method(method).kind
        if kind != "series":
            given = {"ids": ids, "season": season, "test": test or None}
            _refuse(given, "of series, and the backbone reads pictures")
            pictures = UnlabelledImages.from_arrays(arrays, seed=seed, on_error=on_error)
            return cls._on_pictures(pictures, backbone, method, asked)
        wrong = {"on_error": None if on_error == "skip" else on_error}
        _refuse(wrong, "of pictures, and the backbone reads series")
        data = UnlabelledSeries.from_arrays(
            arrays, ids=ids, season=1 if season is None else season, test=test, seed=seed
        )
        return cls._on_series(data, backbone, method, asked)

    # What sources lead to.

    @classmethod
    def _on_pictures(
        cls,
        data: UnlabelledImages,
        backbone: str | Path | nn.Module | None,
        method: str | Method | None,
        asked: NetOptions,
    ) -> Self:
        chosen = _method_for("image", method)
        net: str | Path | nn.Module = DEFAULT_BACKBONE if backbone is None else backbone
        # Files are read in as many channels as the net wants; arrays have what they have.
        if asked.in_chans is None and data.spec.in_chans != 3:
            asked = replace(asked, in_chans=data.spec.in_chans)
        if asked.size is None and not asked.pretrained and asked.weights is None:
            found = Pictures().for_small(net, data.side, asked.in_chans)
            if found is not None:
                net, asked = found, replace(asked, pretrained=None, in_chans=None)
        task = cls(
            net,
            method=chosen,
            pretrained=asked.pretrained,
            weights=asked.weights,
            in_chans=asked.in_chans,
            size=asked.size,
            context=asked.context,
        )
        task.data = data
        return task

    @classmethod
    def _on_series(
        cls,
        data: UnlabelledSeries,
        backbone: str | Path | nn.Module | None,
        method: str | Method | None,
        asked: NetOptions,
    ) -> Self:
        chosen = _method_for("series", method)
        given = DEFAULT_SERIES_BACKBONE if backbone is None else backbone
        task = cls(KINDS["series"].build(given, asked, data.spec), method=chosen)
        task.check_data(data)
        task.data = data
        return task


def _method_for(kind: Kind, method: str | Method | None) -> Method:
    """Answer with a method for inputs of a kind; the usual one where none is named.

    Raises:
        InvalidValueError: It learns from another kind of input.
    """
    chosen = resolve_method(KINDS[kind].usual_method if method is None else method)
    if chosen.kind != kind:
        raise InvalidValueError(
            f"method={chosen.name!r} learns from {KINDS[chosen.kind].words}, and these are "
            f"{KINDS[kind].words}. Methods for them: {', '.join(PretrainTask.methods(kind))}."
        )
    return chosen


def _refuse(given: Mapping[str, object], why: str) -> None:
    """Refuse arguments that were given and are of another kind of input."""
    found = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    if found:
        raise InvalidValueError(f"{', '.join(found)}: {why}. Leave it out.")
