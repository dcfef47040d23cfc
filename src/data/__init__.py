"""Data: from a source of any form to batches, checked before the first one."""

from __future__ import annotations

from .augment import AUGMENTATIONS, Augmentation
from .image_samples import ImageSamples
from .images import ImageData
from .inputs import Inputs, samples_from
from .module import Data, EpochSampler, Loader
from .report import Report
from .samples import Fetch, Samples, Subset
from .series import SeriesData
from .series_samples import SeriesSamples
from .series_table import SeriesTable
from .series_time import Frequency
from .stream_loader import StreamLoader
from .stream_samples import StreamSamples
from .streams import Stream
from .text_samples import TextSamples
from .texts import TextData
from .unlabelled import UnlabelledImages
from .unlabelled_series import UnlabelledSeries
from .views import VIEWS, View, draw_views

__all__ = [
    "AUGMENTATIONS",
    "VIEWS",
    "Augmentation",
    "Data",
    "EpochSampler",
    "Fetch",
    "Frequency",
    "ImageData",
    "ImageSamples",
    "Inputs",
    "Loader",
    "Report",
    "Samples",
    "SeriesData",
    "SeriesSamples",
    "SeriesTable",
    "Stream",
    "StreamLoader",
    "StreamSamples",
    "Subset",
    "TextData",
    "TextSamples",
    "UnlabelledImages",
    "UnlabelledSeries",
    "View",
    "draw_views",
    "samples_from",
]
