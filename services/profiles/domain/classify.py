"""Which fields are public, personal or sensitive. What is not known to be harmless is kept sealed; the rest is public, for
features and models.

A field is personal by its name (names and addresses of people, identifiers of people, devices and sessions, addresses of
pages, searches, free text), or by its value: a text that holds "@" or "://", or is long enough to be prose. Numbers and
truth values are personal by their name only. Names are compared without case, `_`, `-`, blanks, and without what stands
before the last dot. What a tenant's tracking plan declares comes before all of that, and only ever seals more.
"""
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# Why: what is inside decoded JSON has no type.

from collections.abc import Mapping, Sequence
from enum import Enum, StrEnum, auto
from typing import Any, Final, TypeAlias

# A value of decoded JSON.
Json: TypeAlias = Any

# A name, since writing `dict | list` in a loop makes it anew each time.
CONTAINERS: Final = (dict, list)
MAX_PUBLIC_TEXT: Final = 64
MAX_PUBLIC_TITLE: Final = 256
MAX_PUBLIC_KEY: Final = 64
_MAX_KNOWN_KEYS: Final = 10_000


class Kind(Enum):
    """What a JSON object describes; the same name means different things in each."""

    TRAITS = auto()
    PAGE = auto()
    TRACK = auto()
    # Segment's ecommerce events and the products in them: `name` is a product's there.
    COMMERCE = auto()


class FieldClass(StrEnum):
    """What a tenant declares a field to be. Sensitive is personal, too."""

    PERSONAL = "personal"
    SENSITIVE = "sensitive"


# By the name of a field, at any depth.
Classes: TypeAlias = Mapping[str, FieldClass]
UNDECLARED: Final[Classes] = {}


class Sort(Enum):
    """What a field's name says of it."""

    PUBLIC = auto()
    # Public, and may be as long as a product's title.
    TITLE = auto()
    # Personal where the value is a text or holds texts.
    PERSONAL_TEXT = auto()
    PERSONAL = auto()


# Personal, and harmful in the wrong hands: masked also for who may see personal values, until it is revealed and written down.
_SENSITIVE: Final = frozenset(
    {
        # secrets and numbers of documents
        "password", "passwd", "secret", "creditcard", "cardnumber", "iban", "accountnumber", "ssn", "taxid", "passport",
        "passportnumber", "nationalid", "socialsecuritynumber", "cvv", "pin",
        # what the law protects most (GDPR, article 9)
        "health", "diagnosis", "disability", "medication", "religion", "ethnicity", "race", "politicalopinion",
        "sexualorientation", "unionmembership", "biometrics",
    }
)  # fmt: skip
_PERSONAL: Final = _SENSITIVE | frozenset(
    {
        # people
        "email", "emailaddress", "mail", "firstname", "lastname", "middlename", "givenname", "familyname", "surname",
        "fullname", "displayname", "nickname", "username", "login", "phone", "phonenumber", "telephone", "mobile",
        "mobilenumber", "cell", "fax", "birthday", "birthdate", "dateofbirth", "dob", "age", "gender", "sex", "avatar",
        "address", "street", "streetaddress", "postalcode", "postcode", "zip", "zipcode", "recipient", "userid",
        "anonymousid", "previousid",
        # devices, sessions, places
        "ip", "ipaddress", "useragent", "deviceid", "advertisingid", "idfa", "idfv", "gaid", "aaid", "devicetoken", "token",
        "sessionid", "clientid", "cookie", "fingerprint", "imei", "mac", "macaddress", "latitude", "longitude", "lat",
        "lng", "lon", "geo", "location", "coordinates",
        # addresses of pages, searches
        "url", "uri", "href", "referrer", "referer", "search", "query", "searchquery", "searchterm", "keyword", "keywords",
        "q",
        # free text
        "comment", "comments", "message", "text", "note", "notes", "body", "content", "description", "feedback", "review",
        "reviewbody", "subject", "sharemessage",
    }
)  # fmt: skip
# Segment's reserved traits that are harmless elsewhere.
_PERSONAL_TRAITS: Final = frozenset(["id", "name", "title", "company", "website"])
_PERSONAL_OF_PAGES: Final = frozenset(["path", "title", "name"])
_PERSONAL_OF_TRACKS: Final = frozenset({"name"})
_BY_KIND: Final[Mapping[Kind, frozenset[str]]] = {
    Kind.TRAITS: _PERSONAL | _PERSONAL_TRAITS,
    Kind.PAGE: _PERSONAL | _PERSONAL_OF_PAGES,
    Kind.TRACK: _PERSONAL | _PERSONAL_OF_TRACKS,
    Kind.COMMERCE: _PERSONAL,
}
_TITLES: Final = frozenset(["name", "brand", "variant", "category"])
# In a longer name these make a text personal: billing_address, customerEmail.
_TELLING: Final = ("email", "phone", "address", "password", "birth", "contact", "firstname", "lastname", "fullname")

ECOMMERCE_EVENTS: Final = frozenset(
    {
        "Products Searched", "Product List Viewed", "Product List Filtered", "Promotion Viewed", "Promotion Clicked",
        "Product Clicked", "Product Viewed", "Product Added", "Product Removed", "Cart Viewed", "Checkout Started",
        "Checkout Step Viewed", "Checkout Step Completed", "Payment Info Entered", "Order Updated", "Order Completed",
        "Order Refunded", "Order Cancelled", "Coupon Entered", "Coupon Applied", "Coupon Denied", "Coupon Removed",
        "Product Added to Wishlist", "Product Removed from Wishlist", "Wishlist Product Added to Cart", "Product Shared",
        "Cart Shared", "Product Reviewed",
    }
)  # fmt: skip

_sorts: Final[Mapping[Kind, dict[str, Sort]]] = {kind: {} for kind in Kind}
_NOTHING: Final = object()


def kind_of(type_: str, name: str) -> Kind:
    """What the properties or traits of a call describe."""
    if type_ in ("identify", "group"):
        return Kind.TRAITS
    if type_ in ("page", "screen"):
        return Kind.PAGE
    return Kind.COMMERCE if name in ECOMMERCE_EVENTS else Kind.TRACK


def sort_of(key: str, kind: Kind) -> Sort:
    """What the name of a field says of it."""
    known = _sorts[kind]
    if (found := known.get(key)) is None:
        if len(known) >= _MAX_KNOWN_KEYS:  # names come from clients
            known.clear()
        found = known[key] = _sort(key, kind)
    return found


def is_sensitive(key: str, value: Json = None, declared: Classes = UNDECLARED) -> bool:
    """Whether a field is, by its name, or holds one that is. Only what is personal can be."""
    if _plain(key) in _SENSITIVE or declared.get(key) is FieldClass.SENSITIVE:
        return True
    if isinstance(value, dict):
        return any(is_sensitive(name, inner, declared) for name, inner in value.items())
    return isinstance(value, list) and any(is_sensitive("", inner, declared) for inner in value)


def _plain(key: str) -> str:
    return key.rsplit(".", 1)[-1].lower().replace("_", "").replace("-", "").replace(" ", "")


def _sort(key: str, kind: Kind) -> Sort:
    if len(key) > MAX_PUBLIC_KEY or "@" in key or "://" in key:
        return Sort.PERSONAL
    plain = _plain(key)
    if plain in _BY_KIND[kind]:
        return Sort.PERSONAL
    if any(telling in plain for telling in _TELLING):
        return Sort.PERSONAL_TEXT
    return Sort.TITLE if kind is Kind.COMMERCE and plain in _TITLES else Sort.PUBLIC


def is_public_text(text: str, limit: int = MAX_PUBLIC_TEXT) -> bool:
    """Whether a text is short and looks like no address of a person or page."""
    return len(text) <= limit and "@" not in text and "://" not in text


def split(fields: Mapping[str, Json], kind: Kind, declared: Classes = UNDECLARED) -> tuple[dict[str, Json], dict[str, Json]]:
    """(public, personal) of a JSON object. Together they hold all of it.

    Of a list both halves keep the length where a part of it is personal; null stands for what went to the other half.
    """
    public: dict[str, Json] = {}
    personal: dict[str, Json] = {}
    known = _sorts[kind]
    for key, value in fields.items():
        sort = known.get(key) or sort_of(key, kind)
        if sort is Sort.PERSONAL or (declared and key in declared):
            personal[key] = value
        elif isinstance(value, str):
            # is_public_text, written out: this line runs for every text of every event.
            limit = MAX_PUBLIC_TITLE if sort is Sort.TITLE else MAX_PUBLIC_TEXT
            if len(value) <= limit and "@" not in value and "://" not in value and sort is not Sort.PERSONAL_TEXT:
                public[key] = value
            else:
                personal[key] = value
        elif not isinstance(value, CONTAINERS):
            public[key] = value
        elif sort is Sort.PERSONAL_TEXT:
            personal[key] = value
        else:
            open_, closed = _split_container(value, kind, declared)
            if open_ is not _NOTHING:
                public[key] = open_
            if closed is not _NOTHING:
                personal[key] = closed
    return public, personal


def _split_container(value: dict[str, Json] | list[Json], kind: Kind, declared: Classes) -> tuple[Json, Json]:
    if isinstance(value, list):
        return _split_list(value, kind, declared)
    public, personal = split(value, kind, declared)
    if not personal:
        return public, _NOTHING
    return public or _NOTHING, personal


def _split_list(values: Sequence[Json], kind: Kind, declared: Classes) -> tuple[Json, Json]:
    public: list[Json] = []
    personal: list[Json] = []
    some_public, some_personal = False, False
    for value in values:
        open_, closed = value, _NOTHING
        if isinstance(value, str):
            if not is_public_text(value):
                open_, closed = _NOTHING, value
        elif isinstance(value, CONTAINERS):
            open_, closed = _split_container(value, kind, declared)
        some_public = some_public or open_ is not _NOTHING
        some_personal = some_personal or closed is not _NOTHING
        public.append(None if open_ is _NOTHING else open_)
        personal.append(None if closed is _NOTHING else closed)
    if not some_personal:
        return public, _NOTHING
    return (public if some_public else _NOTHING), personal


def join(public: Json, personal: Json) -> Json:
    """What `split` took apart; the order of fields may be another one."""
    if isinstance(public, dict) and isinstance(personal, dict):
        both = {key: join(value, personal[key]) if key in personal else value for key, value in public.items()}
        return both | {key: value for key, value in personal.items() if key not in public}
    if isinstance(public, list) and isinstance(personal, list) and len(public) == len(personal):
        return [join(*pair) for pair in zip(public, personal, strict=True)]
    return personal if public is None else public
