"""The terms of a distillation loss, as a recipe names them. Free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from mcomp.config import Config, module_patterns
from mcomp.recipe.schema import one_or_many


class Ramp(Config):
    """A number that changes while training: from `start` to `end`, which is reached at `until`."""

    start: Annotated[float, Field(ge=0, description="at the first update")]
    end: Annotated[float, Field(ge=0, description="at `until`, and from then on")]
    until: Annotated[float, Field(gt=0, le=1, description="share of all updates")] = 1.0
    shape: Annotated[Literal["linear", "cosine"], Field(description="the way between")] = "linear"

    @model_validator(mode="after")
    def is_not_nothing(self) -> Ramp:
        """Refuse a weight that is always 0."""
        if self.start == self.end == 0:
            raise ValueError("start and end are both 0: leave the term out")
        return self


class TemperatureRamp(Ramp):
    """A temperature that changes while training."""

    start: Annotated[float, Field(gt=0, description="at the first update")]
    end: Annotated[float, Field(gt=0, description="at `until`, and from then on")]


Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(gt=0)]
Temperature = Annotated[float, Field(gt=0)]


class OutputTerm(Config):
    """Base of the terms that compare outputs."""

    weight: Annotated[
        Share | Ramp, Field(description="share of this term; what is left of 1 is the task's own loss")
    ] = 0.7


class Softened(OutputTerm):
    """Base of the terms that compare classes as probabilities."""

    temperature: Annotated[
        Temperature | TemperatureRamp, Field(description="both outputs are divided by it before the softmax")
    ] = 4.0


class Standardizing(Softened):
    """Base of the terms that may set aside how large the logits are."""

    standardize: Annotated[
        bool, Field(description="bring the logits of each sample to mean 0 and deviation 1 first")
    ] = False


class KD(Standardizing):
    """Divergence from the teacher's softened classes (Hinton et al. 2015, arXiv:1503.02531)."""

    type: Literal["kd"] = "kd"


class DKD(Standardizing):
    """The same divergence in two parts, target class and the others (Zhao et al. 2022, arXiv:2203.08679).

    Differs: no warm-up unless `weight` is a ramp; the task's loss and this term are mixed instead of added.
    """

    type: Literal["dkd"] = "dkd"
    alpha: Annotated[float, Field(ge=0, description="weight of the target class against the rest")] = 1.0
    beta: Annotated[float, Field(ge=0, description="weight of the classes that are not the target")] = 2.0


class Dist(Softened):
    """Correlation with the teacher, in each sample and each class (Huang et al. 2022, arXiv:2205.10536).

    Correlations do not see how large the logits are: at a high temperature, or with little weight on labels,
    the student is accurate and its probabilities are not (an expected calibration error of 79 % was seen).
    """

    type: Literal["dist"] = "dist"
    temperature: Annotated[
        Temperature | TemperatureRamp, Field(description="both outputs are divided by it before the softmax")
    ] = 2.0
    inter: Annotated[float, Field(ge=0, description="weight of the classes of each sample")] = 2.0
    intra: Annotated[float, Field(ge=0, description="weight of the samples of each class")] = 2.0


class SquaredError(OutputTerm):
    """Mean squared difference of the outputs: for regression, or for logits as they are."""

    type: Literal["mse"] = "mse"


class CosineDistance(OutputTerm):
    """1 minus the cosine of the outputs: for embeddings."""

    type: Literal["cosine"] = "cosine"


class Tap(Config):
    """A place in the student and the one in the teacher that it learns from, both by module path."""

    student: Annotated[str, module_patterns(min_length=1, description="module path in the student")]
    teacher: Annotated[str, Field(min_length=1, description="module path in the teacher")]


class FeatureTerm(Config):
    """Base of the terms that compare features inside the models; they are added to the loss."""

    taps: Annotated[
        tuple[Tap, ...] | None,
        Field(min_length=1, description="where; default: proposed by the shapes of the features"),
    ] = None
    of: Annotated[int, Field(ge=0, description="which of the teachers, from 0")] = 0


class FitNet(FeatureTerm):
    """Mean squared difference of features through a learned adapter (Romero 2015, arXiv:1412.6550)."""

    type: Literal["fitnet"] = "fitnet"
    weight: Weight | Ramp = 0.1


class AttentionTransfer(FeatureTerm):
    """Where the features are large (Zagoruyko and Komodakis 2017, arXiv:1612.03928)."""

    type: Literal["at"] = "at"
    weight: Weight | Ramp = 1.0


class SimilarityPreserving(FeatureTerm):
    """Which samples of a batch are similar (Tung and Mori 2019, arXiv:1907.09682)."""

    type: Literal["sp"] = "sp"
    weight: Weight | Ramp = 100.0


class Relational(FeatureTerm):
    """Distances and angles among the samples of a batch (Park et al. 2019, arXiv:1904.05068)."""

    type: Literal["rkd"] = "rkd"
    weight: Weight | Ramp = 1.0
    distance: Annotated[float, Field(ge=0, description="weight of the distances")] = 1.0
    angle: Annotated[float, Field(ge=0, description="weight of the angles")] = 2.0


class Contrastive(FeatureTerm):
    """Tell the same sample from others in an embedding of both (Tian et al. 2020, arXiv:1910.10699)."""

    type: Literal["crd"] = "crd"
    weight: Weight | Ramp = 0.2
    dimensions: Annotated[int, Field(ge=1, description="of the embedding")] = 64
    temperature: Annotated[float, Field(gt=0, description="cosines are divided by it")] = 0.5


class HiddenStates(FeatureTerm):
    """Mean squared difference of the hidden states of real tokens (Jiao et al. 2020, arXiv:1909.10351)."""

    type: Literal["hidden"] = "hidden"
    weight: Weight | Ramp = 1.0
    mask: Annotated[str, Field(description="the input that says which tokens are real")] = "attention_mask"


class Projections(Config):
    """What the linears of an attention are called below its path."""

    q: str = "query"
    k: str = "key"
    v: str = "value"


class Relations(FeatureTerm):
    """How tokens attend and relate to each other (MiniLM: Wang et al. 2020, arXiv:2002.10957).

    `taps` name attentions; `relations` pairs of their linears: qk is attention, vv the relation of values;
    qq, kk and vv are those of MiniLMv2 (arXiv:2012.15828).
    """

    type: Literal["relations"] = "relations"
    taps: Annotated[tuple[Tap, ...], Field(min_length=1, description="attentions; usually the last of each")]
    weight: Weight | Ramp = 1.0
    heads: Annotated[int, Field(ge=1, description="relation heads; for qk, the heads of both models")]
    relations: Annotated[
        tuple[Literal["qk", "qq", "kk", "vv"], ...], Field(min_length=1, description="what is compared")
    ] = ("qk", "vv")
    student: Projections = Projections()
    teacher: Projections = Projections()
    mask: Annotated[str, Field(description="the input that says which tokens are real")] = "attention_mask"


OutputTerms = KD | DKD | Dist | SquaredError | CosineDistance
FeatureTerms = (
    FitNet | AttentionTransfer | SimilarityPreserving | Relational | Contrastive | HiddenStates | Relations
)
DistillationTerm = Annotated[OutputTerms | FeatureTerms, Field(discriminator="type")]
DistillationLoss = Annotated[tuple[DistillationTerm, ...], Field(min_length=1), BeforeValidator(one_or_many)]
