"""What people allowed, by purpose and channel; and what purposes there are."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Path
from pydantic import BeforeValidator, Field
from rapport.profiles.v1 import consents_pb2

from services.gateway.api.admission import needs, router
from services.gateway.api.serving import Services
from services.gateway.domain import Scope
from services.gateway.wire import (
    Answer,
    Asked,
    Cursor,
    Limit,
    Lower,
    Moment,
    Page,
    PathRef,
    Text,
    enum_number,
    set_moment,
    with_slashes,
)

routes = router("Consents")

_STATE = consents_pb2.DESCRIPTOR.enum_types_by_name["ConsentState"]
_BASIS = consents_pb2.DESCRIPTOR.enum_types_by_name["LegalBasis"]

Channel = Literal[
    "any", "email", "sms", "whatsapp", "automated_call", "fax", "phone", "post", "push", "in_app", "web", "ads"
]  # fmt: skip
State = Literal["granted", "denied", "unknown"]
Basis = Literal["consent", "legitimate_interest", "contract"]
Purpose = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$", examples=["marketing"])]
PurposeKey = Annotated[Purpose, BeforeValidator(with_slashes), Path(alias="purpose", description="Its name, URL-encoded.")]
Label = r"^[A-Za-z][A-Za-z0-9._:/-]{0,63}$"
Version = r"^([A-Za-z0-9][A-Za-z0-9._:/-]{0,63})?$"


class ConsentRecord(Answer):
    """Something that a customer said."""

    purpose: str
    channel: Channel = Field(description="`any`: for all channels.")
    state: Annotated[State, Lower] = Field(description="`unknown`: what was said before was taken back.")
    source: str = Field(description="Where it was said.")
    proof_version: str = Field(description="The version of the text that was shown; empty where nobody told it.")
    timestamp: datetime | None
    recorded: datetime | None = Field(description="When it came in.")
    event_id: str


class ConsentStanding(Answer):
    """Whether a customer may be read for a purpose over a channel, and why."""

    purpose: str
    channel: Channel
    allowed: bool
    state: Annotated[State, Lower]
    ground: Annotated[Literal["channel", "any_channel", "legal_basis", "channel_default"], Lower] = Field(
        description="`channel`, `any_channel`: what the customer said, for this channel or for all. `legal_basis`: nothing "
        "was said, and the purpose's basis decides. `channel_default`: this channel needs a grant of its own, by law."
    )
    legal_basis: Annotated[Basis | None, Lower] = Field(
        description="null: the purpose is not declared, and counts as a legitimate interest: only a denial stands against it."
    )
    record: ConsentRecord | None = Field(description="What was said last for this channel; null where nothing was.")


class ConsentPage(Page[ConsentRecord]):
    """What was said, newest first; on the first page where the customer stands by all of it."""

    profile_id: str
    standings: list[ConsentStanding]


class ConsentDraft(Asked):
    """What a customer says."""

    purpose: Purpose
    channel: Channel = "any"
    state: State
    source: str = Field(pattern=Label, description="A label of where it was said.", examples=["checkout"])
    proof_version: str = Field(
        "", pattern=Version, description="The version of the text that was shown.", examples=["terms-2026-03"]
    )
    timestamp: Moment | None = Field(None, description="When it was said, not in the future; now if absent.")


class RecordedConsent(Answer):
    """Where the customer stands from now on."""

    profile_id: str
    standing: ConsentStanding


class DeclaredPurpose(Answer):
    """What people may be read for."""

    key: str
    description: str
    legal_basis: Annotated[Basis, Lower]
    changed: datetime | None


class Purposes(Answer):
    """By key."""

    data: list[DeclaredPurpose]


class PurposeDraft(Asked):
    """A purpose, and what it stands on where a customer has said nothing."""

    description: Text = ""
    legal_basis: Basis = Field(description="`consent`: only who grants it is read. The others hold until somebody denies them.")


@routes.get("/v1/profiles/{ref}/consents")
@needs(Scope.READ)
async def list_consents(services: Services, ref: PathRef, limit: Limit = 100, cursor: Cursor = "") -> ConsentPage:
    """What a customer allows, for what reason, and all that they ever said about it."""
    answer = await services.consents.ListConsents(consents_pb2.ListConsentsRequest(ref=ref, page_size=limit, page_token=cursor))
    return ConsentPage.of_items(
        [ConsentRecord.of(each) for each in answer.history],
        answer.next_page_token,
        profile_id=answer.profile_id,
        standings=[_standing(each) for each in answer.standings],
    )


@routes.put("/v1/profiles/{ref}/consents")
@needs(Scope.MANAGE)
async def record_consent(services: Services, ref: PathRef, draft: ConsentDraft) -> RecordedConsent:
    """Records what a customer says. Every read that begins after the answer goes by it."""
    request = consents_pb2.RecordConsentRequest(
        ref=ref,
        purpose=draft.purpose,
        channel=draft.channel,
        state=enum_number(_STATE, draft.state),
        source=draft.source,
        proof_version=draft.proof_version,
    )
    set_moment(request, "timestamp", draft.timestamp)
    answer = await services.consents.RecordConsent(request)
    return RecordedConsent(profile_id=answer.profile_id, standing=_standing(answer.standing))


@routes.get("/v1/purposes")
@needs(Scope.READ)
async def list_purposes(services: Services) -> Purposes:
    """The purposes that the tenant declared."""
    answer = await services.consents.ListPurposes(consents_pb2.ListPurposesRequest())
    return Purposes(data=[DeclaredPurpose.of(each) for each in answer.purposes])


@routes.put("/v1/purposes/{purpose}")
@needs(Scope.MANAGE)
async def put_purpose(services: Services, purpose: PurposeKey, draft: PurposeDraft) -> DeclaredPurpose:
    """Declares a purpose, or says anew what it stands on."""
    request = consents_pb2.PutPurposeRequest(
        key=purpose, description=draft.description, legal_basis=enum_number(_BASIS, draft.legal_basis)
    )
    return DeclaredPurpose.of((await services.consents.PutPurpose(request)).purpose)


def _standing(message: consents_pb2.ConsentStanding) -> ConsentStanding:
    is_declared = message.legal_basis != consents_pb2.LEGAL_BASIS_UNSPECIFIED
    return ConsentStanding.of(message, **({} if is_declared else {"legal_basis": None}))
