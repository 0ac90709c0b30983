"""Who may run how many calls at once: checked against a plain recount."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from faas.running.demand import ENOUGH, WINDOW, Demand
from faas.running.memory import LEAST_INSTANCES, Host
from faas.running.shares import ACCOUNT, RESERVED, Shares

F, G = ("f", "1"), ("g", "$LATEST")


def begun(shares, version, count):
    return [shares.begin(version) for _ in range(count)]


def test_the_account_throttles_what_is_over_it():
    shares = Shares(3)
    assert begun(shares, F, 4) == [None, None, None, ACCOUNT]
    shares.end(F)
    assert shares.begin(G) is None


def test_reserved_concurrency_is_a_limit_and_a_share():
    shares = Shares(5)
    shares.reserve("f", 2)
    assert begun(shares, G, 4) == [None, None, None, ACCOUNT]
    assert begun(shares, F, 3) == [None, None, RESERVED]


def test_a_reservation_of_none_throttles_every_call():
    shares = Shares(5)
    shares.reserve("f", 0)
    assert shares.begin(F) == RESERVED
    shares.reserve("f", None)
    assert shares.begin(F) is None


def test_versions_share_what_their_function_has():
    shares = Shares(5)
    shares.reserve("f", 2)
    assert shares.begin(("f", "1")) is None
    assert shares.begin(("f", "2")) is None
    assert shares.begin(("f", "3")) == RESERVED


def test_provisioned_concurrency_is_held_and_what_goes_beyond_spills_over():
    shares = Shares(3)
    shares.provision(F, 2)
    assert begun(shares, G, 2) == [None, ACCOUNT]
    assert begun(shares, F, 2) == [None, None]
    assert not shares.spilled(F)
    shares.end(G)
    assert shares.begin(F) is None
    assert shares.spilled(F)


class Sharing(RuleBasedStateMachine):
    """Calls begin and end while the shares change under them."""

    versions = st.sampled_from([("f", "1"), ("f", "2"), ("g", "1"), ("h", "1")])

    def __init__(self):
        super().__init__()
        self.shares = Shares(6)
        self.running, self.reserved, self.provisioned = [], {}, {}

    def claims(self, name):
        each = {version for version in [*self.running, *self.provisioned] if version[0] == name}
        return sum(
            max(self.running.count(version), self.provisioned.get(version, 0)) for version in each
        )

    def may(self, version):
        if self.running.count(version) < self.provisioned.get(version, 0):
            return None
        name = version[0]
        if name in self.reserved:
            return RESERVED if self.claims(name) >= self.reserved[name] else None
        others = [each for each in "fgh" if each not in self.reserved]
        room = 6 - sum(self.reserved.values())
        return ACCOUNT if sum(self.claims(each) for each in others) >= room else None

    @rule(version=versions)
    def begin(self, version):
        expected = self.may(version)
        assert self.shares.begin(version) == expected
        if expected is None:
            self.running.append(version)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data):
        version = data.draw(st.sampled_from(self.running))
        self.running.remove(version)
        self.shares.end(version)

    @rule(name=st.sampled_from("fgh"), count=st.sampled_from([None, 0, 1, 3]))
    def reserve(self, name, count):
        self.shares.reserve(name, count)
        self.reserved.pop(name, None)
        if count is not None:
            self.reserved[name] = count

    @rule(version=versions, count=st.integers(0, 3))
    def provision(self, version, count):
        self.shares.provision(version, count)
        self.provisioned[version] = count

    @invariant()
    def the_counts_are_right(self):
        assert sum(self.shares.running.values()) == len(self.running)


TestSharing = Sharing.TestCase


def test_demand_follows_littles_law_and_fades():
    demand = Demand()
    demand.started(0.2)
    for number in range(1000):
        demand.arrived(number / 10)
        demand.ran(0.8)
    assert demand.rate(100.0) == pytest.approx(10, rel=0.1)
    assert 10 <= demand.target(100.0) <= 18
    assert demand.target(100.0 + WINDOW) < demand.target(100.0)
    assert demand.target(100.0 + 20 * WINDOW) == 0


def test_a_call_now_and_then_starts_nothing_ahead():
    demand = Demand()
    for number in range(10):
        demand.arrived(number * WINDOW * 3)
        demand.ran(10.0)
    assert demand.target(10 * WINDOW * 3) == 0
    assert ENOUGH > 1


def test_the_hosts_memory_says_how_many_instances_have_room(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nHuge: 1\n")
    host = Host(tmp_path)
    memory = host.memory()
    assert (memory.available_mib, memory.floor_mib, memory.stalled) == (4096, 409, 0.0)
    assert host.instances() == (4096 - 409) // 64
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").write_text(
        "some avg10=12.50 avg60=1.00 avg300=0.10 total=1\nfull avg10=0.00 avg60=0 avg300=0 total=0"
    )
    assert host.memory().pressed


def test_a_kernel_without_figures_gives_few_instances(tmp_path):
    assert Host(tmp_path).memory() is None
    assert Host(tmp_path).instances() == LEAST_INSTANCES
    assert Host().memory().available_mib > 0
