"""A study: the grid of runs and everything asked of them, in one folder; and what is made of several studies."""

from ._analyse import Analysis, CurvePoint, Effect, Gap, Subject
from ._ask_open import ask
from ._cost import CallForecast, foresee_judging
from ._dynamics import Dynamics
from ._judge import judge
from ._judged import Judged, JudgedEffect, JudgesAgreement, VerdictCount
from ._matrix import Matrix, MatrixCell, matrix
from ._reproduce import ClaimResult, Reproduction, reproduce
from ._show import described, run_record, run_records
from ._study import Study, open_study, rewrite, run

__all__ = [
    "Analysis", "CallForecast", "ClaimResult", "CurvePoint", "Dynamics", "Effect", "Gap", "Judged", "JudgedEffect", "JudgesAgreement",
    "Matrix", "MatrixCell", "Reproduction", "Study", "Subject", "VerdictCount", "ask", "described", "foresee_judging", "judge", "matrix",
    "open_study", "reproduce", "rewrite", "run", "run_record", "run_records",
]  # fmt: skip
