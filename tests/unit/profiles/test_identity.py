"""Who is whom, whatever the order in which it was learnt."""

import random
import uuid

from hypothesis import given
from hypothesis import strategies as st

from services.profiles.domain.identity import (
    LIMITS,
    MAX_USERS,
    Link,
    Merge,
    Moves,
    Namespace,
    Parting,
    Refusal,
    Ruling,
    Step,
    histories,
    link_of,
    losing,
    moves,
    namespace_of,
    node_id_of,
    pair_of,
    profile_at,
    winner,
)
from services.profiles.domain.issues import Issue, IssueKind, issues


def _node(number: int, namespace: Namespace = Namespace.USER_ID) -> uuid.UUID:
    return node_id_of(number.to_bytes(16, "big"), namespace)


U1, U2, U3 = (_node(number << 100) for number in (1, 2, 3))
A0, A1 = (_node(number << 100, Namespace.ANONYMOUS_ID) for number in (0, 1))
NODES = (U1, U2, U3, A0, A1, *(_node(number << 100, Namespace.ANONYMOUS_ID) for number in range(10, 15)))
LINKS = st.lists(
    st.builds(
        lambda pair, since_us: link_of(pair[0], pair[1], since_us),
        st.lists(st.sampled_from(NODES), min_size=2, max_size=2, unique=True),
        st.integers(1, 5),
    ),
    max_size=12,
    unique_by=lambda link: (link.a, link.b),
)


def test_a_node_says_what_it_stands_for() -> None:
    for namespace in Namespace:
        node = node_id_of(random.Random(1).randbytes(16), namespace)
        assert namespace_of(node) is namespace
        assert node.version == 8
        assert node.variant == uuid.RFC_4122


def test_a_user_id_wins_over_an_anonymous_id_and_the_smaller_over_the_greater() -> None:
    assert winner([A0, U2, A1]) == U2
    assert winner([U3, U1, U2]) == U1
    assert winner([A1, A0]) == A0


def _parted(one: uuid.UUID, other: uuid.UUID, since_us: int) -> Ruling:
    return Ruling(*pair_of(one, other), since_us, b"", True)


def _permitted(one: uuid.UUID, other: uuid.UUID, since_us: int) -> Ruling:
    return Ruling(*pair_of(one, other), since_us, b"", False)


def test_a_node_belongs_to_itself_until_it_is_linked() -> None:
    resolved = histories([U1, A1, U2], [link_of(U1, A1, 100)])
    assert resolved.steps == {U1: [Step(U1, None)], A1: [Step(A1, None), Step(U1, 100)], U2: [Step(U2, None)]}
    assert resolved.refused == {}


def test_a_later_link_moves_all_that_was_linked_before() -> None:
    steps = histories([U1, U2, A1], [link_of(U2, A1, 100), link_of(U1, U2, 200)]).steps
    assert steps[A1] == [Step(A1, None), Step(U2, 100), Step(U1, 200)]
    assert steps[U2] == [Step(U2, None), Step(U1, 200)]


def test_of_several_links_at_one_instant_only_the_outcome_is_kept() -> None:
    steps = histories([U1, U2, A1], [link_of(U2, A1, 100), link_of(U1, U2, 100)]).steps
    assert steps[A1] == [Step(A1, None), Step(U1, 100)]


def test_two_user_ids_never_merge_by_a_device_alone() -> None:
    resolved = histories([U1, U2, A1], [link_of(U2, A1, 100), link_of(U1, A1, 200)])
    assert profile_at(resolved.steps[A1], 300) == U2, "whoever was there first"
    assert resolved.refused == {pair_of(U1, A1): Refusal.USERS}


def test_of_links_at_one_instant_the_event_id_decides() -> None:
    for first, second in ((b"1", b"2"), (b"2", b"1")):
        steps = histories([U1, U2, A1], [link_of(U1, A1, 100, first), link_of(U2, A1, 100, second)]).steps
        assert steps[A1][-1].profile_id == (U1 if first < second else U2)


def test_an_identifier_of_many_users_is_shared_and_joins_nobody_any_more() -> None:
    users = [_node(number << 90) for number in range(1, MAX_USERS + 2)]
    links = [link_of(user, A1, number) for number, user in enumerate(users, 1)]
    late = link_of(A1, A0, 100)
    resolved = histories([*users, A0, A1], [*links, late])
    assert resolved.refused[pair_of(A0, A1)] is Refusal.SHARED
    assert resolved.steps[A1][-1] == Step(users[0], 1), "it stays where it was"
    assert issues(resolved.steps, [*links, late]) == [Issue(A1, IssueKind.SHARED, MAX_USERS + 1)]
    assert not histories([*users, A0, A1], [*links[:-1], late]).refused.get(pair_of(A0, A1))


def test_a_profile_takes_only_so_many_of_a_kind() -> None:
    emails = [_node(number << 90, Namespace.EMAIL) for number in range(1, 10)]
    links = [link_of(U1, email, number) for number, email in enumerate(emails, 1)]
    resolved = histories([U1, *emails], links)
    assert list(resolved.refused.values()) == [Refusal.LIMIT] * (9 - LIMITS[Namespace.EMAIL])
    assert issues(resolved.steps, links) == [Issue(U1, IssueKind.FULL, LIMITS[Namespace.EMAIL])]


def test_what_a_person_parts_is_as_if_it_had_never_been_one_from_then_on() -> None:
    links = [link_of(U1, A0, 1), link_of(U2, A1, 2), link_of(U1, U2, 5)]
    steps = histories([U1, U2, A0, A1], links, [_parted(U1, U2, 9)]).steps
    assert steps[A1] == [Step(A1, None), Step(U2, 2), Step(U1, 5), Step(U2, 9)]
    assert steps[U2] == [Step(U2, None), Step(U1, 5), Step(U2, 9)]
    assert [profile_at(steps[A1], us) for us in (1, 4, 8, 9)] == [A1, U2, U1, U2]


def test_what_is_parted_stays_so_by_whatever_way_it_is_linked_again() -> None:
    links = [link_of(U1, A0, 1), link_of(U2, A0, 2)]
    resolved = histories([U1, U2, A0, A1], [*links, link_of(U1, U2, 20)], [_parted(U1, U2, 9)])
    assert resolved.refused[pair_of(U1, U2)] is Refusal.PARTED
    nodes = [A0, A1, _node(10 << 100, Namespace.ANONYMOUS_ID)]
    around = [link_of(A0, A1, 1), link_of(nodes[2], A0, 20), link_of(nodes[2], A1, 21)]
    resolved = histories(nodes, around, [_parted(A0, A1, 9)])
    assert resolved.steps[A1][-1] == Step(A1, 9)
    assert resolved.refused == {pair_of(A0, A1): Refusal.PARTED, pair_of(nodes[2], A1): Refusal.PARTED}


def test_a_person_may_take_it_back() -> None:
    steps = histories([U1, U2], [link_of(U1, U2, 1)], [_parted(U1, U2, 5), _permitted(U1, U2, 8)]).steps
    assert steps[U2] == [Step(U2, None), Step(U1, 1), Step(U2, 5), Step(U1, 8)]


RULINGS = st.lists(
    st.builds(
        lambda pair, since_us, is_parted: Ruling(*pair_of(*pair), since_us, b"", is_parted),
        st.lists(st.sampled_from(NODES), min_size=2, max_size=2, unique=True),
        st.integers(1, 7),
        st.booleans(),
    ),
    max_size=3,
    unique_by=lambda ruling: (ruling.a, ruling.b, ruling.since_us),
)


@given(LINKS, RULINGS, st.randoms(use_true_random=False))
def test_the_order_of_links_does_not_matter(links: list[Link], rulings: list[Ruling], chance: random.Random) -> None:
    shuffled = chance.sample(links, len(links))
    again = histories(reversed(NODES), shuffled, chance.sample(rulings, len(rulings)))
    assert histories(NODES, links, rulings) == again


@given(LINKS, RULINGS, st.integers(1, 7))
def test_what_was_so_at_an_instant_depends_on_nothing_later(links: list[Link], rulings: list[Ruling], at: int) -> None:
    known = histories(NODES, [link for link in links if link.since_us <= at], [one for one in rulings if one.since_us <= at])
    whole = histories(NODES, links, rulings)
    for node in NODES:
        assert profile_at(whole.steps[node], at) == known.steps[node][-1].profile_id


@given(LINKS, RULINGS)
def test_what_is_parted_is_never_one(links: list[Link], rulings: list[Ruling]) -> None:
    steps = histories(NODES, links, rulings).steps
    last = {(each.a, each.b): each for each in sorted(rulings, key=lambda each: each.since_us)}
    for ruling in last.values():
        if ruling.is_parted:
            assert steps[ruling.a][-1].profile_id != steps[ruling.b][-1].profile_id


@given(LINKS)
def test_linked_nodes_share_a_profile_and_no_others_do(links: list[Link]) -> None:
    resolved = histories(NODES, links)
    current = {node: each[-1].profile_id for node, each in resolved.steps.items()}
    taken = [link for link in links if (link.a, link.b) not in resolved.refused]
    for link in links:
        assert (current[link.a] == current[link.b]) == (link in taken)
    groups: dict[uuid.UUID, set[uuid.UUID]] = {}
    for node, profile in current.items():
        groups.setdefault(profile, set()).add(node)
    for profile, group in groups.items():
        assert profile == winner(group)
        reached = {profile}
        for _ in group:
            reached |= {end for link in taken for end in (link.a, link.b) if {link.a, link.b} & reached}
        assert reached == group


@given(LINKS, st.integers(2, 5))
def test_no_profile_grows_beyond_the_limit(links: list[Link], limit: int) -> None:
    resolved = histories(NODES, links, limit=limit)
    current = [each[-1].profile_id for each in resolved.steps.values()]
    assert max(current.count(profile) for profile in current) <= limit
    assert resolved.refused or resolved.steps == histories(NODES, links).steps


def test_a_merge_is_told_for_each_profile_that_lost_its_name() -> None:
    steps = histories([U1, U2, A1], [link_of(U2, A1, 100), link_of(U1, U2, 200)]).steps
    assert moves({U1: U1, U2: U2, A1: U2}, steps) == Moves([Merge(U2, U1, 200)], [])
    assert moves({U1: U1}, steps) == Moves([], [])


def test_a_parting_is_told_with_the_nodes_that_went() -> None:
    links = [link_of(U1, A0, 1), link_of(U2, A1, 2), link_of(U1, U2, 5)]
    before = dict.fromkeys((U1, U2, A0, A1), U1)
    after = histories(before, links, [_parted(U1, U2, 9)]).steps
    assert moves(before, after) == Moves([], [Parting(U1, U2, tuple(sorted((U2, A1))), 9)])


def test_a_node_that_went_elsewhere_while_its_profile_merged_is_told_after_the_merge() -> None:
    before = {U1: U1, U2: U2, A0: U2, U3: U3}
    after = {U1: [Step(U1, None)], U2: [Step(U2, None), Step(U1, 5)], A0: [Step(A0, None), Step(U3, 4)], U3: [Step(U3, None)]}
    assert moves(before, after) == Moves([Merge(U2, U1, 5)], [Parting(U1, U3, (A0,), 4)])


def test_only_a_loss_makes_a_refused_neighbour_worth_a_look() -> None:
    outward = [link_of(A1, U2, 10)]
    alone, joined = [Step(A1, None)], [Step(A1, None), Step(U1, 5)]
    before, grown = {U1: [Step(U1, None)], A1: alone}, {U1: [Step(U1, None)], A1: joined}
    assert losing(before, grown, outward, has_rulings=False) == set()
    assert losing(grown, before, outward, has_rulings=False) == {U2}
    assert losing(grown, before, [link_of(A1, U2, 4)], has_rulings=False) == set(), "its turn came before"
    assert losing(grown, grown, outward, has_rulings=True) == set(), "nothing changed"
