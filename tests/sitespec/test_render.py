"""Rendering is the same bytes for the same site, and takes only models the bundle carries."""

import json
from hashlib import sha256
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml

from controlplane.kit.errors import BadInput
from controlplane.sitespec.render import BundleFacts, host_inputs, render
from controlplane.sitespec.text import parse_site

SOURCE = Path("inventory/practice/site.yml").read_text()
SITE = parse_site(SOURCE)
MODEL = {
    "name": "practice-tiny", "file": "practice-tiny.gguf", "sha256": "a" * 64, "size_bytes": 1, "format": "gguf",
    "licence": "Apache-2.0", "context_tokens": 1, "weights_bytes": 1, "kv_bytes_per_token": 1, "vocab_tokens": 1,
    "files": (),
}  # fmt: skip
BUNDLE = BundleFacts("d" * 64, "key", (MODEL,), "{}")


def test_the_same_site_renders_to_the_same_bytes():
    assert render(SITE, BUNDLE, source=SOURCE) == render(parse_site(SOURCE), BUNDLE, source=SOURCE)


def test_the_digest_covers_every_file_and_the_spec():
    files = render(SITE, BUNDLE, source=SOURCE)

    record = json.loads(files.pop("digest"))

    assert record["site"] == sha256(SOURCE.encode()).hexdigest()
    assert record["rendered"] == {path: sha256(text.encode()).hexdigest() for path, text in files.items()}


def test_every_identity_carries_site_zone_and_name():
    files = render(SITE, BUNDLE, source=SOURCE)

    inputs = yaml.safe_load(files["host_vars/ctl1.yml"])
    found = {certificate["name"]: certificate["uri"] for certificate in inputs["site_ca_certificates"]}

    assert found["node"] == "redoubt://practice/zone/north/node/ctl1"
    assert found["gateway"] == "redoubt://practice/zone/north/service/gateway"
    others = {"database-client", "database-owner", "gateway", "gateway-front"}
    assert set(found) == {"node", "proof", "depot", "api"} | others


def test_a_model_that_the_bundle_lacks_is_refused_with_the_nearest_name():
    site = SITE.model_copy(update={"models": ("practice-tin",)})

    with pytest.raises(BadInput) as refusal:
        render(site, BUNDLE, source=SOURCE)

    assert "practice-tiny" in refusal.value.remedy


def test_only_a_practice_site_has_practice_settings():
    site = SITE.model_copy(update={"practice": False})

    texts = "".join(render(site, BUNDLE, source=SOURCE)[f"host_vars/{node.name}.yml"] for node in site.nodes)

    assert "practice_gpus" not in texts
    assert "config_overrides" not in texts


def test_another_compute_node_changes_what_its_peers_allow_and_nothing_else_on_them():
    added = SITE.nodes[1].model_copy(update={"name": "gpu3", "address": IPv4Address("10.77.0.14")})
    more = SITE.model_copy(update={"nodes": (*SITE.nodes, added)})

    before, after = (
        {node.name: host_inputs(site, node, BUNDLE, (MODEL,)) for node in SITE.nodes} for site in (SITE, more)
    )

    moved = {name: {key for key in after[name] if before[name].get(key) != after[name][key]} for name in before}
    assert moved["gpu1"] == {"boundary_inbound", "boundary_outbound"}
    assert moved["store1"] == {"boundary_inbound", "boundary_outbound", "slurm_nodes"}  # it stands in for ctl1
    assert moved["ctl1"] == {"boundary_inbound", "boundary_outbound", "slurm_nodes"}


def test_a_name_of_the_console_is_in_its_address_and_its_certificate():
    named = SOURCE.replace("  controller:", "  console_name: console.practice.example\n  controller:")
    inputs = yaml.safe_load(render(parse_site(named), BUNDLE, source=named)["host_vars/ctl1.yml"])
    certificates = {certificate["name"]: certificate["dns"] for certificate in inputs["site_ca_certificates"]}

    assert inputs["control_plane_console_name"] == "console.practice.example"
    assert certificates["api"] == ["ctl1", "console.practice.example"]
    assert certificates["gateway"] == ["ctl1"]


def test_without_a_name_the_console_has_the_address_of_its_node():
    inputs = yaml.safe_load(render(SITE, BUNDLE, source=SOURCE)["host_vars/ctl1.yml"])

    assert inputs["control_plane_console_name"] == "10.77.0.10"


def test_every_slot_has_an_account_of_its_own_number_and_a_home_where_jobs_run():
    accounts = {node.name: accounts_on(SITE, node) for node in SITE.nodes}

    assert accounts["gpu1"]["redoubt-p01"] == (2101, "/var/lib/redoubt-projects/p01", True)
    assert accounts["ctl1"]["redoubt-p16"] == (2116, "/var/lib/redoubt-projects/p16", False)
    assert "redoubt-p17" not in accounts["gpu1"]
    assert accounts["store1"]["redoubt-p16"] == accounts["ctl1"]["redoubt-p16"]
    assert accounts["ctl1"]["redoubt-slurm"] == (2006, "/nonexistent", False)


def test_of_all_projects_accounts_the_first_tries_to_leave_for_one_rule_is_for_all():
    inputs = host_inputs(SITE, SITE.node("gpu1"), BUNDLE, (MODEL,))

    assert [name for name in inputs["boundary_proof_accounts"] if name.startswith("redoubt-p")] == ["redoubt-p01"]


def accounts_on(site, node):
    inputs = host_inputs(site, node, BUNDLE, (MODEL,))
    return {entry["name"]: (entry["uid"], entry["home"], entry["owns_home"]) for entry in inputs["node_base_accounts"]}


def test_a_cut_gpu_is_offered_to_jobs_by_its_instances_and_counted_as_a_board_elsewhere():
    text = SOURCE.replace(
        "gpus: [{type: h100, count: 4}]", "gpus: [{type: h100, count: 3, mig: {1g.10gb: 7}}, {type: h100, count: 1}]", 1
    )
    site = parse_site(text)

    inputs = host_inputs(site, site.node("gpu1"), BUNDLE, ())

    assert inputs["gpu_driver_expected"] == inputs["practice_gpus"] == [{"type": "h100", "count": 4}]
    assert inputs["slurm_nodes"][0]["gpus"] == [{"type": "h100_1g.10gb", "count": 21}, {"type": "h100", "count": 1}]
    assert inputs["gpu_layout_gpus"] == [
        {"type": "h100", "count": 3, "mig": ["1g.10gb"] * 7},
        {"type": "h100", "count": 1, "mig": []},
    ]


@pytest.mark.parametrize(
    ("mig", "cause"),
    [
        ("{1g.10gb: 8}", "less than or equal to 7"),
        ("{4g.40gb: 2}", "4g.40gb, 4g.40gb are more than one h100 holds"),
        ("{1g.5gb: 1}", "one h100 cannot have 1g.5gb; it can have 1g.10gb"),
        ("{1g.10gb: 1, 1g.12gb: 1}", "one h100 cannot have 1g.10gb, 1g.12gb"),
        ("{seven: 1}", "pattern"),
    ],
)
def test_a_layout_that_no_board_takes_is_refused_with_those_it_takes(mig, cause):
    text = SOURCE.replace("{type: h100, count: 4}", f"{{type: h100, count: 4, mig: {mig}}}", 1)

    with pytest.raises(BadInput) as refusal:
        parse_site(text)

    assert cause in " ".join((refusal.value.detail, *refusal.value.reasons))
