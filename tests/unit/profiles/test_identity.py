"""Who is whom, whatever the order in which it was learnt."""

import random
import uuid

from hypothesis import given
from hypothesis import strategies as st

from services.profiles.domain.identity import (
    Link,
    Merge,
    Namespace,
    Step,
    histories,
    link_of,
    merges,
    namespace_of,
    node_id_of,
    winner,
)


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


def test_a_node_belongs_to_itself_until_it_is_linked() -> None:
    steps, refused = histories([U1, A1, U2], [link_of(U1, A1, 100)])
    assert steps == {U1: [Step(U1, None)], A1: [Step(A1, None), Step(U1, 100)], U2: [Step(U2, None)]}
    assert refused == 0


def test_a_later_link_moves_all_that_was_linked_before() -> None:
    steps, _ = histories([U1, U2, A1], [link_of(U2, A1, 100), link_of(U1, U2, 200)])
    assert steps[A1] == [Step(A1, None), Step(U2, 100), Step(U1, 200)]
    assert steps[U2] == [Step(U2, None), Step(U1, 200)]


def test_of_several_links_at_one_instant_only_the_outcome_is_kept() -> None:
    steps, _ = histories([U1, U2, A1], [link_of(U2, A1, 100), link_of(U1, U2, 100)])
    assert steps[A1] == [Step(A1, None), Step(U1, 100)]


@given(LINKS, st.randoms(use_true_random=False))
def test_the_order_of_links_does_not_matter(links: list[Link], chance: random.Random) -> None:
    shuffled = list(links)
    chance.shuffle(shuffled)
    assert histories(NODES, links) == histories(reversed(NODES), shuffled)


@given(LINKS)
def test_linked_nodes_share_a_profile_and_no_others_do(links: list[Link]) -> None:
    steps, _ = histories(NODES, links)
    current = {node: each[-1].profile_id for node, each in steps.items()}
    for link in links:
        assert current[link.a] == current[link.b]
    groups: dict[uuid.UUID, set[uuid.UUID]] = {}
    for node, profile in current.items():
        groups.setdefault(profile, set()).add(node)
    for profile, group in groups.items():
        assert profile == winner(group)
        reached = {profile}
        for _ in group:
            reached |= {end for link in links for end in (link.a, link.b) if {link.a, link.b} & reached}
        assert reached == group


@given(LINKS, st.integers(2, 5))
def test_no_profile_grows_beyond_the_limit(links: list[Link], limit: int) -> None:
    steps, refused = histories(NODES, links, limit=limit)
    current = [each[-1].profile_id for each in steps.values()]
    assert max(current.count(profile) for profile in current) <= limit
    unbounded, _ = histories(NODES, links)
    assert refused or steps == unbounded


def test_a_merge_is_told_for_each_profile_that_lost_its_name() -> None:
    steps, _ = histories([U1, U2, A1], [link_of(U2, A1, 100), link_of(U1, U2, 200)])
    assert merges([U1, U2], steps) == [Merge(U2, U1, 200)]
    assert merges([U1], steps) == []
