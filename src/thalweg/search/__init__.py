"""What has no gradient: structured variables with schemas, scored by rewards."""

from thalweg.search.budget import Limits, Spent
from thalweg.search.containing import contains_schema
from thalweg.search.engine import Candidate, Engine, Proposal, Told
from thalweg.search.matching import Matching
from thalweg.search.optimizer import RewardOptimizer
from thalweg.search.ready import Search
from thalweg.search.rewards import Reward, SampleReward
from thalweg.search.schemas import schema_of, standardize_schema
from thalweg.search.space import Space
from thalweg.search.structured import StructuredVariable
from thalweg.search.values import Json, copy_json, digest_json

__all__ = [
    "Candidate",
    "Engine",
    "Json",
    "Limits",
    "Matching",
    "Proposal",
    "Reward",
    "RewardOptimizer",
    "SampleReward",
    "Search",
    "Space",
    "Spent",
    "StructuredVariable",
    "Told",
    "contains_schema",
    "copy_json",
    "digest_json",
    "schema_of",
    "standardize_schema",
]
