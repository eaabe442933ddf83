"""A model that normalises what it is given: a last bit may differ when it reads what it has written."""

from pydantic import BaseModel, Field, model_validator


class Weights(BaseModel):
    a: float = Field(0.2, ge=0, le=1)
    b: float = Field(0.3, ge=0, le=1)
    c: float = Field(0.5, ge=0.01, le=1)

    @model_validator(mode="after")
    def sum_to_one(self):
        total = self.a + self.b + self.c
        for name in ("a", "b", "c"):
            object.__setattr__(self, name, getattr(self, name) / total)
        return self
