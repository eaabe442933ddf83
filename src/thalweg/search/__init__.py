"""What has no gradient: structured variables with schemas, scored by rewards."""

from thalweg.search.schemas import schema_of, standardize_schema
from thalweg.search.structured import StructuredVariable
from thalweg.search.values import Json, copy_json, digest_json

__all__ = ["Json", "StructuredVariable", "copy_json", "digest_json", "schema_of", "standardize_schema"]
