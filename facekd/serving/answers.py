"""What the server answers, as JSON; the OpenAPI description is made of these."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Problem(_Said):
    """Why a request was refused."""

    error: str = Field(description="One sentence: what is wrong and what to do.")


class Found(_Said):
    """A face in a photo."""

    box: list[float] = Field(description="x1 y1 x2 y2, pixels of the upright photo.")
    confidence: float = Field(description="The detector's, from 0 to 1.")


class FoundEmbedding(Found):
    """A face and its embedding."""

    embedding: list[float] = Field(description="Of unit norm; the cosine of two is their dot product.")


class Candidate(_Said):
    """An enrolled person who may be meant."""

    person: str
    score: float = Field(description="Cosine, from -1 to 1; higher is more alike.")


class Named(Found):
    """A face and who it shows."""

    verdict: Literal["known", "unknown"]
    person: str | None = Field(description="Who it shows; null where unknown.")
    score: float | None = Field(description="Cosine to the most alike person, named or not; null: nobody is enrolled.")
    threshold: float = Field(
        description="The score from which this face is named; more where it looks like many people."
    )
    candidates: list[Candidate] = Field(description="The most alike people; with top=1 of a known face only.")


class SeenPhoto(_Said):
    """A photo, in the order in which it came."""

    status: str = Field(description="ok, no_face, too_small, unreadable, too_large or no_embedding.")
    reason: str = Field(description="Why there is no face, in a sentence; empty for ok.")
    width: int | None = Field(description="Of the upright photo, pixels; null where it can't be read.")
    height: int | None


class EmbeddedSeen(SeenPhoto):
    """A photo and the embeddings of its faces."""

    faces: list[FoundEmbedding]


class NamedSeen(SeenPhoto):
    """A photo and the people in it."""

    faces: list[Named]


class Embedding(_Said):
    """Answer of /embed."""

    model_id: str = Field(description="Embeddings of another model_id can't be compared with these.")
    photos: list[EmbeddedSeen]


class Verdict(_Said):
    """Answer of /compare."""

    same: bool
    score: float | None = Field(description="Cosine; null where a photo gave no face.")
    threshold: float = Field(description="The score from which it is the same person.")
    far: float | None = Field(description="The FAR that the threshold is calibrated to; null where it was given.")
    reason: str = Field(description="Why there is no score; empty where there is one.")


class Identity(_Said):
    """Answer of /identify."""

    threshold: float = Field(description="The score from which a usual face is named; each face has its own.")
    people: int = Field(description="How many people it was compared with.")
    photos: list[NamedSeen]


class Taken(_Said):
    """A photo that was to be enrolled."""

    status: str = Field(description="ok; held_back or suspect; or why it can't be used.")
    reason: str


class Suspicion(_Said):
    """What looks like a mix-up."""

    kind: Literal["two_ids", "two_people", "changed"] = Field(
        description="One person under two ids; two under one; or no longer like the person who was enrolled."
    )
    other: str | None = Field(description="The other id, of two_ids.")
    photo: int | None = Field(description="The photo's place in the request, of two_people; null of an earlier photo.")
    score: float


class Enrolled(_Said):
    """Answer of /enroll."""

    person: str
    outcome: Literal["new", "changed", "unchanged"]
    people: int = Field(description="Enrolled in the gallery now.")
    threshold: float | None = Field(
        description="The score from which a usual face is named among them; null: not known."
    )
    photos: list[Taken]
    suspects: list[Suspicion]


class NotEnrolled(Problem):
    """Why /enroll wrote nothing, 409 or 422."""

    person: str
    photos: list[Taken]
    suspects: list[Suspicion]


class Deleted(_Said):
    """Answer of /delete."""

    person: str
    receipt: str = Field(description="Stands in the gallery's audit log too.")


class Health(_Said):
    """Answer of /health."""

    status: Literal["ok"]
