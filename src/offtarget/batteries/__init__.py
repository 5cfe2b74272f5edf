"""What is asked of a finetuned model, and how its answers are read exactly."""

from ._battery import Battery, Candidates, Domain, Measure, Question
from ._context import NO_CONTEXT, Context, iso_day, month_of, parse_contexts, year_context
from ._file import QuestionFile, read_questions
from ._open import OpenBattery, OpenQuestion, open_batteries, rubrics
from ._rubric import Rubric
from ._world import every_topic, plain_wording, topics_of, untrained_wordings, world_battery
from ._yaml import PublishedGroup, read_published

__all__ = [
    "NO_CONTEXT",
    "Battery",
    "Candidates",
    "Context",
    "Domain",
    "Measure",
    "OpenBattery",
    "OpenQuestion",
    "PublishedGroup",
    "Question",
    "QuestionFile",
    "Rubric",
    "every_topic",
    "iso_day",
    "month_of",
    "open_batteries",
    "parse_contexts",
    "plain_wording",
    "read_published",
    "read_questions",
    "rubrics",
    "topics_of",
    "untrained_wordings",
    "world_battery",
    "year_context",
]
