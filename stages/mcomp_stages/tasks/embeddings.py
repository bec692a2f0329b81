"""Keep near what was near: vectors that stand to each other as the baseline's do. No labels are needed.

    task: {type: embeddings, follow: vectors}

An embedding is used by comparing it with others: what counts is which samples are similar. The target of a
sample is the baseline's vector for it, of any width. The metric is Spearman's rank correlation between the
cosines of all pairs of samples and those of the baseline's vectors (of more than 1,024 samples: of half a
million pairs).

Training brings the cosines of all pairs within a batch near the baseline's (`follow: similarities`), or each
vector in the direction of the baseline's own (`vectors`), which needs the same width and learns faster.

Source of the metric: Reimers and Gurevych 2019, arXiv:1908.10084 (section 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mcomp.task import TaskConfig

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric


class EmbeddingsConfig(TaskConfig):
    """Similarities as the baseline has them: outputs are vectors (N, width), targets too, of any width."""

    target = "baseline"

    type: Literal["embeddings"] = "embeddings"
    by: Annotated[
        Literal["spearman", "pearson"],
        Field(description="the correlation between the cosines of pairs: of ranks, or values"),
    ] = "spearman"

    follow: Annotated[
        Literal["similarities", "vectors"],
        Field(description="what training brings near the baseline's: cosines of pairs, or each vector"),
    ] = "similarities"

    @property
    def metric_name(self) -> str:
        return self.by

    @property
    def direction(self) -> Literal["higher", "lower"]:
        return "higher"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean squared difference of cosines of pairs, or 1 minus the mean cosine with the target.

        Raises StageError if vectors of another width should be followed.
        """
        from mcomp_stages.tasks.following import cosine_loss, require_same_shape
        from mcomp_stages.tasks.similarity import cosine_matrix

        if self.follow == "vectors":
            require_same_shape(output, target)
            return cosine_loss(output, target)
        return (cosine_matrix(output) - cosine_matrix(target)).square().mean()

    def metric(self) -> Metric:
        """Return the correlation between the cosines of pairs."""
        from mcomp_stages.tasks.similarity import CORRELATIONS, PairCorrelation

        return PairCorrelation(CORRELATIONS[self.by])
