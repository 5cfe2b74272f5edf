"""How answers are read: by a language model that is told a rubric, or by the text itself."""

from offtarget.replies import Reply

from ._agreement import Agreement, agreement, agreements, cohen_kappa
from ._answer import Answer, Judge
from ._cache import VerdictCache, open_cache
from ._exact import ExactJudge
from ._label import read_label
from ._match import ContainsJudge, PrefixJudge
from ._model import ModelJudge, read_all
from ._rate import COUNTS, MeanRating, Rate, fates, mean_rating, rate
from ._rating import MINIMUM_MASS, expected_rating, read_rating
from ._regex import RegexJudge
from ._reply import Chat, Replier
from ._rules import OFFTARGET, RULES, Rule, rule_named
from ._verdict import MISSING, Missing, Verdict

__all__ = [
    "COUNTS",
    "MINIMUM_MASS",
    "MISSING",
    "OFFTARGET",
    "RULES",
    "Agreement",
    "Answer",
    "Chat",
    "ContainsJudge",
    "ExactJudge",
    "Judge",
    "MeanRating",
    "Missing",
    "ModelJudge",
    "PrefixJudge",
    "Rate",
    "RegexJudge",
    "Replier",
    "Reply",
    "Rule",
    "Verdict",
    "VerdictCache",
    "agreement",
    "agreements",
    "cohen_kappa",
    "expected_rating",
    "fates",
    "mean_rating",
    "open_cache",
    "rate",
    "read_all",
    "read_label",
    "read_rating",
    "rule_named",
]
