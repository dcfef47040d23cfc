"""The contracts between rooms: what a batch is, what a backbone wants, what the data tells.

Letters used for shapes everywhere: ``N`` inputs in all, ``B`` inputs in one batch, ``C`` channels,
``H`` and ``W`` height and width in pixels, ``h`` and ``w`` of a feature map, ``L`` tokens or time
steps, ``F`` features, ``K`` classes.

Data flows one way: source -> `DataSpec` -> backbone -> `InputSpec` -> batches -> backbone -> head.
Both specs are frozen, hold plain values only, and go to JSON and back without loss, because a saved
task is JSON and tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from .errors import InvalidValueError, check_count, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

Batch = dict[str, "Tensor"]
"""A plain dict of tensors; it always has ``index`` (B,): where its inputs stand in the samples.

Where the backbone sees an input in several pieces (a long text in windows), its entries have a row
per piece, and ``piece_of`` (rows,) says which of the B inputs each row is a piece of. A batch with
``padding`` is scored elsewhere: it only gives every one of several processes as many batches.
"""

Kind = Literal["image", "text", "series"]
Stage = Literal["train", "val", "test", "predict"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
CropMode = Literal["center", "squash", "border"]
CropOffset = Literal["even", "down"]
LongTexts = Literal["cut", "chunk"]
CovariateKind = Literal["static", "past", "future"]

COVARIATES: tuple[CovariateKind, ...] = ("static", "past", "future")
"""What may be known beside a series: of it as a whole, up to now, or ahead of time as well."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class _Spec:
    """A frozen set of plain values that survives JSON; the part that all specs share."""

    kind: ClassVar[Kind]

    def to_json(self) -> dict[str, Any]:  # Any: what json.dumps takes
        """Answer with the values as JSON knows them, and the kind that reads them back."""
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def _from_values(cls, values: Mapping[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}
        for name in values:
            if name != "kind" and name not in known:
                raise unknown_name(f"setting of {cls.__name__}", name, known)
        plain = {name: _tuples(value) for name, value in values.items() if name != "kind"}
        return cls(**plain)


@dataclass(frozen=True, kw_only=True)
class InputSpec(_Spec):
    """What a backbone wants to see; one subclass per kind of input."""

    FILES: ClassVar[Mapping[str, str]] = {}
    """Values that are long texts and are saved as files of their own: value to name of the file."""

    def to_json(self) -> dict[str, Any]:  # Any: what json.dumps takes
        """Answer with the values as JSON knows them, and the kind, but those of `FILES`."""
        return {n: value for n, value in super().to_json().items() if n not in self.FILES}

    def files(self) -> dict[str, str]:
        """Answer with the texts that are saved beside the JSON, by the names of their files."""
        return {file: getattr(self, value) for value, file in self.FILES.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], folder: Path | None = None) -> InputSpec:
        """Build the spec of the right kind from what `to_json` wrote.

        Args:
            values: Of `to_json`.
            folder: Where the texts of `files` were written; None where the kind has none.
        """
        kind = INPUT_SPECS[values["kind"]]
        texts = {
            value: ((folder or Path()) / file).read_text(encoding="utf-8")
            for value, file in kind.FILES.items()
        }
        return kind._from_values({**values, **texts})

    def replace(self, changes: Mapping[str, Any]) -> Self:
        """Answer with a copy in which the named values are changed.

        Raises:
            UnknownNameError: A name is not one of this spec's values.
        """
        return self._from_values({**asdict(self), **changes})


@dataclass(frozen=True, kw_only=True)
class ImageSpec(InputSpec):
    """How a picture becomes what an image backbone was trained on.

    The picture is resized so that its shorter side is ``size / crop_pct`` and the middle ``size``
    is cut out (``crop_mode="center"``); ``squash`` resizes without keeping the aspect; ``border``
    fits the longer side and fills the rest with the mean colour. Scaling to [0, 1], minus ``mean``,
    over ``std`` follows inside the task, so that batches stay ``uint8``.

    Args:
        size: Height and width in pixels.
        mean: One value per channel, on the scale [0, 1]; its length is the number of channels.
        std: One value per channel, on the scale [0, 1].
        interpolation: How pixels are resampled.
        crop_pct: Share of the resized picture that the crop keeps, in (0, 1].
        crop_mode: What happens to the aspect.
        crop_offset: Where the crop begins if the margins are half a pixel: ``"even"`` rounds to the
            even number, as torchvision and timm do, ``"down"`` as transformers does.

    Raises:
        InvalidValueError: A value that no picture can have.

    Example:
        >>> ImageSpec(size=(96, 96)).replace({"crop_pct": 1.0}).crop_pct
        1.0
    """

    kind: ClassVar[Kind] = "image"
    size: tuple[int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: Interpolation = "bilinear"
    crop_pct: float = 0.875
    crop_mode: CropMode = "center"
    crop_offset: CropOffset = "even"

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise InvalidValueError(f"size={self.size}: expected at least 1 pixel each way.")
        if not 0 < self.crop_pct <= 1:
            raise InvalidValueError(f"crop_pct={self.crop_pct}: expected a share in (0, 1].")
        if len(self.mean) != len(self.std):
            raise InvalidValueError(
                f"mean has {len(self.mean)} values and std {len(self.std)}: expected one of each "
                "per channel."
            )
        if min(self.std) <= 0:
            raise InvalidValueError(f"std={self.std}: expected positive numbers.")

    @property
    def in_chans(self) -> int:
        """Number of channels, C."""
        return len(self.mean)


@dataclass(frozen=True, kw_only=True)
class TextSpec(InputSpec):
    """How a text becomes the tokens that a text backbone was trained on.

    Args:
        tokenizer: The tokenizer, in the JSON that the tokenizers library writes and reads.
        pad_id: The token that fills up shorter texts of a batch.
        max_length: Most tokens that the net sees at once, with those that mark start and end.
        type_ids: Whether the net tells the two texts of a pair apart by ``token_type_ids``.
        long: What happens to texts of more tokens: ``"cut"`` leaves out their ends, ``"chunk"``
            reads them whole, in windows that overlap by a quarter, and averages what comes out.

    Raises:
        InvalidValueError: A value that no text can have.
    """

    FILES: ClassVar[Mapping[str, str]] = {"tokenizer": "tokenizer.json"}

    kind: ClassVar[Kind] = "text"
    tokenizer: str = field(repr=False)
    pad_id: int
    max_length: int
    type_ids: bool = False
    long: LongTexts = "cut"

    def __post_init__(self) -> None:
        if not isinstance(self.max_length, int) or self.max_length < 8:
            raise InvalidValueError(f"max_length={self.max_length}: expected at least 8 tokens.")
        if self.long not in ("cut", "chunk"):
            raise unknown_name("way with long texts", str(self.long), ("cut", "chunk"))


@dataclass(frozen=True, kw_only=True)
class Covariate:
    """A number that is known beside a series, and how it is centred and scaled for nets.

    A column of texts becomes one number per text in it: 1 where it stands, 0 elsewhere.

    Args:
        column: Of the table.
        category: The text that it is 1 for; None where the column holds numbers.
        center: Its mean over what is learnt from; in batches it is taken off.
        spread: Its standard deviation there, by which batches are divided.

    Example:
        >>> Covariate(column="kind", category="kiosk").name
        'kind=kiosk'
    """

    column: str
    category: str | None = None
    center: float = 0.0
    spread: float = 1.0

    @property
    def name(self) -> str:
        """What tells it apart from the others of a table."""
        return self.column if self.category is None else f"{self.column}={self.category}"


@dataclass(frozen=True, kw_only=True)
class _CovariateSpec(_Spec):
    """The covariates of a spec for series, in the order in which batches hold them."""

    static: tuple[Covariate, ...] = ()
    past: tuple[Covariate, ...] = ()
    future: tuple[Covariate, ...] = ()

    @property
    def covariates(self) -> dict[CovariateKind, tuple[Covariate, ...]]:
        """The covariates of each kind of which there are any."""
        all_kinds = dict(zip(COVARIATES, (self.static, self.past, self.future), strict=True))
        return {kind: several for kind, several in all_kinds.items() if several}

    def replace_covariates(self, covariates: Mapping[CovariateKind, tuple[Covariate, ...]]) -> Self:
        """Answer with a copy that has these covariates and no others."""
        static, past, future = (covariates.get(kind, ()) for kind in COVARIATES)
        return replace(self, static=static, past=past, future=future)

    @classmethod
    def _from_values(cls, values: Mapping[str, Any]) -> Self:
        read: dict[str, Any] = {
            kind: tuple(c if isinstance(c, Covariate) else Covariate(**c) for c in values[kind])
            for kind in COVARIATES
            if kind in values
        }
        return super()._from_values({**values, **read})


@dataclass(frozen=True, kw_only=True)
class SeriesSpec(_CovariateSpec, InputSpec):
    """What of a series a backbone wants to see before it forecasts.

    Args:
        context_steps: How many steps before the forecast, L; 0 for all there are, which batches
            hold flush right with zeros in front.
        horizon_steps: How many steps the net was built to forecast at once; 0 for one that encodes
            windows and forecasts nothing.
        scaled: Whether values come centred and scaled by series (float32), or as they are
            (float64), for methods to which zero means something.
        static: Covariates of series as a whole that it uses, S of them.
        past: Covariates that it uses as far as the series are known, P of them.
        future: Covariates that it uses and that are known over the horizon as well, D of them.

    Raises:
        InvalidValueError: A value that no window can have.
    """

    kind: ClassVar[Kind] = "series"
    context_steps: int
    horizon_steps: int
    scaled: bool = True

    def __post_init__(self) -> None:
        if self.covariates and not self.context_steps:
            raise InvalidValueError(
                "Covariates come in windows: expected context_steps of at least 1 beside them."
            )
        _settle_count(self, "context_steps", least=0)
        _settle_count(self, "horizon_steps", least=0)


def _settle_count(spec: _Spec, name: str, *, called: str | None = None, least: int = 1) -> None:
    """Check a count of a spec that is being made, and leave a plain int, which goes to JSON."""
    value = getattr(spec, name)
    object.__setattr__(spec, name, check_count(called or name, value, least=least))


INPUT_SPECS: dict[str, type[InputSpec]] = {
    "image": ImageSpec,
    "text": TextSpec,
    "series": SeriesSpec,
}


@dataclass(frozen=True, kw_only=True)
class DataSpec(_Spec):
    """What data tells the net that is to be built for it; one subclass per kind of input.

    Args:
        classes: Names of the labels in the order of the logits; empty where targets are no labels.
        multi_label: Whether an input has any number of these labels, and not exactly one.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ()
    """Values that say what columns of tables are called, and decide nothing in training."""

    classes: tuple[str, ...] = ()
    multi_label: bool = False

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DataSpec:
        """Build the spec of the right kind from what `to_json` wrote."""
        return DATA_SPECS[values["kind"]]._from_values(values)


@dataclass(frozen=True, kw_only=True)
class ImageDataSpec(DataSpec):
    """What a net for pictures needs to know before it is built.

    Args:
        classes: Names of the labels in the order of the logits.
        multi_label: Whether an input has any number of these labels, and not exactly one.
        in_chans: Number of channels of a picture, C.
        size: Height and width in pixels, one number for both, or None for the backbone's own.
        image: The column of paths; None where the data were no table, like the next.
        label: The column of labels, or the columns of 0 and 1, one per class.
        label_delimiter: What stands between the labels of a text in that column; None for nothing.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("image", "label", "label_delimiter")
    kind: ClassVar[Kind] = "image"
    in_chans: int = 3
    size: int | tuple[int, int] | None = None
    image: str | None = None
    label: str | tuple[str, ...] | None = None
    label_delimiter: str | None = None

    def __post_init__(self) -> None:
        _settle_count(self, "in_chans")
        if self.size is not None:
            object.__setattr__(self, "size", _plain_size(self.size))

    @property
    def height_width(self) -> tuple[int, int] | None:
        """The size as two numbers, or None."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


def _plain_size(size: object) -> int | tuple[int, ...]:
    """Refuse what is neither a number of pixels nor height and width; answer with plain ints."""
    sides = size if isinstance(size, tuple) else (size,)
    whole = all(isinstance(side, Integral) and not isinstance(side, bool) for side in sides)
    if not whole or len(sides) not in (1, 2) or min(sides) < 1:
        raise InvalidValueError(
            f"size={size!r}: expected a number of pixels, at least 1, or (height, width)."
        )
    plain = tuple(map(int, sides))
    return plain if isinstance(size, tuple) else plain[0]


@dataclass(frozen=True, kw_only=True)
class TextDataSpec(DataSpec):
    """What a net for texts needs to know before it is built.

    Args:
        classes: Names of the labels in the order of the logits.
        multi_label: Whether an input has any number of these labels, and not exactly one.
        text: The column of texts, or the two columns of pairs of texts.
        label: The column of labels, or the columns of 0 and 1, one per class.
        label_delimiter: What stands between the labels of a text in that column; None for nothing.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("text", "label", "label_delimiter")
    kind: ClassVar[Kind] = "text"
    text: tuple[str, ...] = ("text",)
    label: str | tuple[str, ...] = "label"
    label_delimiter: str | None = None

    def __post_init__(self) -> None:
        if len(self.text) not in (1, 2):
            raise InvalidValueError(
                f"text={self.text}: expected one column, or the two of pairs of texts."
            )

    @property
    def pairs(self) -> bool:
        """Whether an input is a pair of texts."""
        return len(self.text) == 2


@dataclass(frozen=True, kw_only=True)
class SeriesDataSpec(_CovariateSpec, DataSpec):
    """What a net for series needs to know before it is built, and a saved one of its tables.

    Args:
        classes: Always empty: what is to be predicted are numbers.
        multi_label: Always false.
        horizon_steps: How many steps are to be forecast; 0 for windows that are only encoded.
        season: Steps of the season, 1 where there is none.
        length_steps: Steps that the series have to learn from, the median; 0 where not known yet.
        frequency: The grid of time, as `mealkit.data.Frequency` spells it.
        time: The column of times; None where rows follow each other.
        target: The columns to forecast.
        series: The column that tells series apart; None for none.
        static: Covariates of series as a whole: what kind of shop it is.
        past: Covariates that are known up to the last value only: the weather that was measured.
        future: Covariates that are known ahead of time, too: the price, whether it is a holiday.
    """

    kind: ClassVar[Kind] = "series"
    horizon_steps: int
    season: int = 1
    length_steps: int = 0
    frequency: str = "1"
    time: str | None = None
    target: tuple[str, ...] = ()
    series: str | None = None

    def __post_init__(self) -> None:
        _settle_count(self, "horizon_steps", called="horizon", least=0)
        _settle_count(self, "season")

    def check_horizon(self) -> None:
        """Refuse a horizon of 0 where something is to be forecast.

        Raises:
            InvalidValueError: It is.
        """
        if self.horizon_steps < 1:
            raise InvalidValueError(
                f"horizon={self.horizon_steps}: expected at least 1 step to forecast."
            )


DATA_SPECS: dict[str, type[DataSpec]] = {
    "image": ImageDataSpec,
    "text": TextDataSpec,
    "series": SeriesDataSpec,
}


def _tuples(value: Any) -> Any:
    """Turn the lists that JSON makes of tuples back into tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
