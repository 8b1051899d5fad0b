"""The closure of a list of packages: complete, without clashes, and refused with the chain that leads nowhere."""

import pytest

from controlplane.bundle.relations import Package, parse_index, parse_relations
from controlplane.bundle.resolve import Catalogue, Resolver
from controlplane.kit.errors import Refused


def package(name, version="1", **fields):
    named = {key.replace("_", "-"): value for key, value in fields.items()}
    return Package({"Package": name, "Version": version, "Architecture": "amd64", **named}, "debian")


def closure(packages, *names):
    return {name: one.version for name, one in Resolver(Catalogue(packages)).resolve({"it": names}).items()}


def refusal(packages, *names):
    with pytest.raises(Refused) as refused:
        closure(packages, *names)
    return refused.value


def test_what_a_package_needs_comes_with_it_and_nothing_else():
    packages = [package("a", Depends="b (>= 1)"), package("b", Pre_Depends="c"), package("c"), package("d")]

    assert set(closure(packages, "a")) == {"a", "b", "c"}


def test_the_newest_version_of_all_suites_is_chosen():
    packages = [package("a", "1:1.0-1"), package("a", "1:1.0-1+deb13u1"), package("a", "9")]

    assert closure(packages, "a") == {"a": "1:1.0-1+deb13u1"}


def test_the_first_alternative_is_preferred():
    assert set(closure([package("a", Depends="b | c"), package("b"), package("c")], "a")) == {"a", "b"}


def test_an_alternative_that_is_chosen_anyway_is_enough():
    packages = [package("a", Depends="b | c"), package("b"), package("c"), package("z", Depends="c")]

    assert set(closure(packages, "a", "z")) == {"a", "c", "z"}


def test_an_alternative_that_cannot_be_installed_is_passed_over():
    packages = [package("a", Depends="b | c"), package("b", Depends="nowhere"), package("c")]

    assert set(closure(packages, "a")) == {"a", "c"}


def test_a_package_of_that_name_comes_before_one_that_provides_it():
    packages = [package("a", Depends="mta"), package("aaa", Provides="mta"), package("mta")]

    assert set(closure(packages, "a")) == {"a", "mta"}


def test_a_virtual_package_is_met_by_a_provider_of_higher_priority():
    packages = [
        package("a", Depends="awk"),
        package("gawk", Provides="awk", Priority="optional"),
        package("mawk", Provides="awk", Priority="required"),
    ]

    assert set(closure(packages, "a")) == {"a", "mawk"}


@pytest.mark.parametrize(
    ("provides", "wanted", "is_met"),
    [("v", "v", True), ("v", "v (>= 1)", False), ("v (= 2)", "v (>= 1)", True), ("v (= 2)", "v (<< 2)", False)],
)
def test_a_versioned_dependency_wants_a_versioned_provider(provides, wanted, is_met):
    packages = [package("a", Depends=wanted), package("p", Provides=provides)]

    if is_met:
        assert set(closure(packages, "a")) == {"a", "p"}
    else:
        assert "it -> a -> v" in refusal(packages, "a").detail


@pytest.mark.parametrize("relation", ["Conflicts", "Breaks"])
def test_packages_that_exclude_each_other_are_not_chosen_together(relation):
    packages = [package("a", Depends="b | c"), package("b", **{relation: "z (<< 2)"}), package("c"), package("z")]

    assert set(closure(packages, "z", "a")) == {"a", "c", "z"}
    assert "excludes z (<< 2)" in refusal(packages, "z", "b").detail


def test_a_package_may_conflict_with_the_name_that_it_provides():
    packages = [package("a", Provides="mta", Conflicts="mta"), package("b", Depends="mta")]

    assert set(closure(packages, "b")) == {"a", "b"}


def test_a_choice_is_taken_back_when_it_leads_nowhere():
    packages = [
        package("a", Depends="b | c"),
        package("b", Depends="d"),
        package("c"),
        package("d", Depends="e | f"),
        package("e", Conflicts="z"),
        package("f", Conflicts="z"),
        package("z"),
    ]

    assert set(closure(packages, "a", "z")) == {"a", "c", "z"}


@pytest.mark.parametrize(
    ("multi_arch", "wanted", "is_met"),
    [("allowed", "p:any", True), ("foreign", "p:any", False), ("same", "p:amd64", True), ("same", "p:i386", False)],
)
def test_architecture_qualifiers_are_heeded(multi_arch, wanted, is_met):
    packages = [package("a", Depends=wanted), package("p", Multi_Arch=multi_arch)]

    if is_met:
        assert set(closure(packages, "a")) == {"a", "p"}
    else:
        assert wanted in refusal(packages, "a").detail


def test_a_refusal_names_the_chain_the_reason_and_the_next_step():
    error = refusal([package("a", Depends="b"), package("b", Depends="c (>= 2)"), package("c", "1.5")], "a")

    assert "it -> a -> b -> c (>= 2): c is at 1.5" in error.detail
    assert "lock anew" in error.remedy
    assert error.code == "packages_unsatisfiable"


def test_dependencies_may_go_in_circles():
    assert set(closure([package("a", Depends="b"), package("b", Depends="a")], "a")) == {"a", "b"}


def test_each_name_reaches_only_what_it_needs():
    packages = [package("a", Depends="b"), package("b"), package("c", Depends="b | d"), package("d")]
    resolver = Resolver(Catalogue(packages))
    chosen = resolver.resolve({"one": ("a",), "two": ("c",)})

    assert resolver.reach(("c",), chosen) == {"b", "c"}


def test_an_index_is_read_for_one_architecture():
    stanzas = ("Package: a\nVersion: 1\nArchitecture: all\nDescription: x\n y\n .", "Package: b\nArchitecture: arm64\n")
    text = "\n\n".join(stanzas)

    assert [one.name for one in parse_index(text, "debian", "amd64")] == ["a"]


def test_a_relation_that_cannot_be_read_is_no_relation():
    with pytest.raises(ValueError, match="not a relation"):
        parse_relations("a (>> 1")
