"""Language models behind OpenAI-compatible endpoints: budgets, answers on disk, answers that fit a schema."""

from thalweg.lm.answers import Answer
from thalweg.lm.cache import AnswerCache
from thalweg.lm.model import LanguageModel
from thalweg.lm.paying import Counts
from thalweg.lm.requests import Message
from thalweg.lm.spending import Prices, Spending, Usage
from thalweg.lm.structured import Structured

__all__ = ["Answer", "AnswerCache", "Counts", "LanguageModel", "Message", "Prices", "Spending", "Structured", "Usage"]
