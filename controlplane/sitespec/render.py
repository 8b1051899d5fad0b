"""From a site to the inventory that the playbooks read: plain data, the same bytes for the same site."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any  # role inputs are free-form YAML

import yaml

from controlplane.kit.canonical import sha256_hex
from controlplane.kit.errors import BadInput
from controlplane.sitespec.accounts import UIDS, accounts_of, slot_user
from controlplane.sitespec.flows import (
    ADMIN_API,
    DEPOT,
    GATEWAY,
    LINK_LOCAL,
    MACHINE_API,
    Rule,
    inbound,
    outbound,
    project_ports,
    project_services,
)  # fmt: skip
from controlplane.sitespec.gpus import boards, layouts, offered
from controlplane.sitespec.spec import Node, Site

Inputs = dict[str, Any]

# Given by `redoubt site apply`, because they are paths of the machine that applies.
RENEWED: Inputs = {"renewed": True}  # by who shows it, at half-life
APPLY_INPUTS = frozenset({"depot_bundle_archive", "practice_assets"})


@dataclass(frozen=True)
class BundleFacts:
    """What the inventory takes from a bundle: `models` are manifests as it carries them, `root` who may sign."""

    digest: str
    apt_key: str
    models: tuple[Inputs, ...]
    root: str


def render(site: Site, bundle: BundleFacts, *, source: str) -> dict[str, str]:
    """Return the text of every file of the rendered inventory by its path; `source` is the text of site.yml."""
    chosen = _chosen_models(site, bundle)
    files = {"hosts.yml": _yaml(_hosts(site))}
    for node in site.nodes:
        files[f"host_vars/{node.name}.yml"] = _yaml(host_inputs(site, node, bundle, chosen))
    return {**files, "digest": digest_of(files, source=source)}


def digest_of(files: dict[str, str], *, source: str) -> str:
    """Return the record by which the preflight play sees a stale or edited inventory."""
    rendered = {path: sha256_hex(text.encode()) for path, text in sorted(files.items())}
    return json.dumps({"rendered": rendered, "site": sha256_hex(source.encode())}, indent=1, sort_keys=True) + "\n"


def host_inputs(site: Site, node: Node, bundle: BundleFacts, models: tuple[Inputs, ...]) -> Inputs:
    """Return every role input of one node."""
    inputs: Inputs = {}
    for part in _parts(site, node, bundle, models):
        inputs |= part
    return inputs


def roles_of(site: Site, node: Node) -> frozenset[str]:
    """Return the roles that the playbooks run on a node."""
    services, name = site.services, node.name
    placed = {
        "depot": name == services.depot,
        "postgres": name == services.database,
        "slurm": bool(node.gpus) or name in (services.scheduler, services.scheduler_backup),
        "gpu_driver": bool(node.gpus),
        "gpu_layout": bool(node.gpus),
        "models": bool(node.gpus),
        "control_plane": name == services.control_plane,
        "gateway": name in services.gateways,
        "practice": site.practice,
    }
    everywhere = {"boundary", "boundary_proof", "site_ca", "node_base", "node_time", "node_agent"}
    return frozenset(everywhere | {role for role, here in placed.items() if here})


def _hosts(site: Site) -> Inputs:
    groups: dict[str, list[str]] = {}
    for node in site.nodes:
        for role in sorted(roles_of(site, node)):
            groups.setdefault(f"role_{role}", []).append(node.name)
    children = {group: {"hosts": dict.fromkeys(names, None)} for group, names in sorted(groups.items())}
    hosts = {node.name: {"ansible_host": str(node.address), "ansible_user": "root"} for node in site.nodes}
    return {"all": {"children": {"nodes": {"hosts": hosts}, **children}}}


def _parts(site: Site, node: Node, bundle: BundleFacts, models: tuple[Inputs, ...]) -> Iterator[Inputs]:
    roles = roles_of(site, node)
    yield _boundary(site, node)
    yield _boundary_proof(site, node)
    yield _site_ca(site, node)
    yield _node_base(site, node, bundle)
    yield _node_time(site, node)
    yield {"node_agent_control_plane_address": _address(site, site.services.control_plane)}
    if "practice" in roles:
        yield {"practice_gpus": boards(node)}
    if "depot" in roles:
        yield _depot(node, bundle)
    if "postgres" in roles:
        yield _postgres(site, node)
    if "slurm" in roles:
        yield _slurm(site, node)
    if "gpu_driver" in roles:
        yield {"gpu_driver_expected": boards(node)}
    if "gpu_layout" in roles:
        yield {"gpu_layout_gpus": layouts(node)}
    if "models" in roles:
        yield _models(site, models)
    if "control_plane" in roles:
        yield _control_plane(site, node)
    if "gateway" in roles:
        yield _gateway(site, node)


def _boundary(site: Site, node: Node) -> Inputs:
    return {
        "boundary_neighbours": [str(site.network.range)],
        "boundary_link_local": LINK_LOCAL,
        "boundary_router": str(site.network.router or ""),
        "boundary_inbound": [_rule(rule) for rule in inbound(site, node)],
        "boundary_outbound": [_rule(rule) for rule in outbound(site, node)],
        "boundary_projects": _projects(site, node),
        "boundary_project_services": list(project_services(site, node)),
    }


def _projects(site: Site, node: Node) -> list[Inputs]:
    if "slurm" not in roles_of(site, node):
        return []
    return [{"user": UIDS[user], "ports": _range(ports)} for user, ports in project_ports(site)]


def _boundary_proof(site: Site, node: Node) -> Inputs:
    return {
        "boundary_proof_site_name": site.name,
        "boundary_proof_zone": node.zone,
        "boundary_proof_own_ports": [{"user": UIDS[user], "port": ports[1]} for user, ports in project_ports(site)],
        "boundary_proof_routers": [str(site.network.router)] if site.network.router else [],
        "boundary_proof_accounts": list(_who_tries_to_leave(site, node)),
        "boundary_proof_runs_jobs": bool(node.gpus),
    }


def _who_tries_to_leave(site: Site, node: Node) -> Iterator[str]:
    """Yield every account, and of the projects' the first: one rule is for all of them."""
    others = {slot_user(slot) for slot in site.slots[1:]}
    yield from (account["name"] for account in _accounts(site, node) if account["name"] not in others)


def _rule(rule: Rule) -> Inputs:
    about = {"name": rule.name, "protocol": rule.protocol, "ports": _range(rule.ports)}
    inputs: Inputs = about | {"peers": list(rule.peers)}
    return inputs | ({"users": [UIDS[user] for user in rule.users]} if rule.users else {})


def _range(ports: tuple[int, int]) -> str:
    low, high = ports
    return str(low) if low == high else f"{low}-{high}"


def _site_ca(site: Site, node: Node) -> Inputs:
    return {
        "site_ca_site_name": site.name,
        "site_ca_authority": site.services.authority,
        "site_ca_issuer": site.services.control_plane,
        "site_ca_network": str(site.network.range),
        "site_ca_leaf_minutes": site.leaf_minutes,
        "site_ca_certificates": list(_certificates(site, node)),
    }


def _certificates(site: Site, node: Node) -> Iterator[Inputs]:
    roles = roles_of(site, node)
    agent = _certificate(site, node, "node", "redoubt-agent", "client", path=f"node/{node.name}")
    yield agent | RENEWED | {"common_name": node.name}
    if node.name == site.services.authority:
        yield _certificate(site, node, "proof", "root", "sign")
    if "depot" in roles:
        yield _certificate(site, node, "depot", "root", "server")
    if "postgres" in roles:
        yield _certificate(site, node, "postgres", "postgres", "server")
    if "control_plane" in roles:
        yield _certificate(site, node, "api", "redoubt", "server", names=_console_names(site)) | RENEWED
        yield _certificate(site, node, "database-client", "redoubt", "client") | RENEWED | {"common_name": "redoubt"}
        yield _certificate(site, node, "database-owner", "root", "client") | {"common_name": "redoubt_owner"}
    if "gateway" in roles:
        yield _certificate(site, node, "gateway", "redoubt-gateway", "client") | RENEWED
        # strangers check it, so it must not end while the control plane is away
        yield _certificate(site, node, "gateway-front", "redoubt-gateway", "server")


def _certificate(
    site: Site, node: Node, name: str, owner: str, usage: str, *, path: str | None = None, names: tuple[str, ...] = ()
) -> Inputs:
    return {
        "name": name,
        "owner": owner,
        "common_name": name,
        "usages": [usage],
        "renewed": False,
        "dns": [node.name, *names],
        "ip": [str(node.address)],
        "uri": f"redoubt://{site.name}/zone/{node.zone}/{path or f'service/{name}'}",
    }


def _console_names(site: Site) -> tuple[str, ...]:
    return (site.network.console_name,) if site.network.console_name else ()


def _node_base(site: Site, node: Node, bundle: BundleFacts) -> Inputs:
    return {
        "node_base_accounts": list(_accounts(site, node)),
        "node_base_hosts": list(_known_hosts(site, node)),
        "node_base_depot_url": _depot_url(site),
        "node_base_depot_key": bundle.apt_key,
        "node_base_bundle_digest": bundle.digest,
        "node_base_features": list(_features(site, node)),
    }


def _known_hosts(site: Site, node: Node) -> Iterator[Inputs]:
    """Yield the nodes that a node knows by name: itself and every service. So a new node changes no other's file."""
    known = {node.name, *(name for _, name in site.services.placed())}
    for other in site.nodes:
        if other.name in known:
            yield {"name": other.name, "address": str(other.address)}


def _accounts(site: Site, node: Node) -> Iterator[Inputs]:
    is_scheduler = node.name == site.services.scheduler
    for account in accounts_of(roles_of(site, node), is_scheduler=is_scheduler, slots=site.slots):
        inputs = {"name": account.name, "uid": account.uid, "home": account.home, "owns_home": account.owns_home}
        yield inputs | ({"shell": account.login} if account.login else {})


def _features(site: Site, node: Node) -> Iterator[str]:
    roles = roles_of(site, node)
    yield "agent"
    if "control_plane" in roles:
        yield from ("cli", "server")
    if "gateway" in roles:
        yield "gateway"
    if "models" in roles:
        yield "llama"


def _node_time(site: Site, node: Node) -> Inputs:
    source = site.services.time
    return {
        "node_time_role": "source" if node.name == source else "client",
        "node_time_source": _address(site, source),
        "node_time_network": str(site.network.range),
    }


def _postgres(site: Site, node: Node) -> Inputs:
    return {
        "postgres_listen_address": str(node.address),
        "postgres_client_addresses": [_address(site, site.services.control_plane)],
    }


def _depot(node: Node, bundle: BundleFacts) -> Inputs:
    return {
        "depot_bundle_digest": bundle.digest,
        "depot_trust_root": bundle.root,
        "depot_apt_key": bundle.apt_key,
        "depot_listen_address": str(node.address),
    }


def _slurm(site: Site, node: Node) -> Inputs:
    services = site.services
    is_compute = node.name not in (services.scheduler, services.scheduler_backup)
    inputs: Inputs = {
        "slurm_role": _slurm_role(site, node),
        "slurm_controller_name": services.scheduler,
        "slurm_controller_address": _address(site, services.scheduler),
        # a compute node is handed the list by the controller, and so does not change when another is added
        "slurm_nodes": [_slurm_node(other) for other in ((node,) if is_compute else site.compute)],
        "slurm_project_users": [] if is_compute else [slot_user(slot) for slot in site.slots],
    }
    if services.scheduler_backup:
        inputs |= {
            "slurm_backup_name": services.scheduler_backup,
            "slurm_backup_address": _address(site, services.scheduler_backup),
            "slurm_state_folder": site.scheduler_state,
        }
    if site.practice:  # the host kernel keeps cpuset and memory to itself, and nodes claim more than there is
        inputs |= {"slurm_constraints": ["devices"], "slurm_slurmd_parameters": ["config_overrides"]}
    return inputs


def _slurm_role(site: Site, node: Node) -> str:
    placed = {site.services.scheduler_backup: "backup", site.services.scheduler: "controller"}
    return placed.get(node.name, "compute")


def _slurm_node(node: Node) -> Inputs:
    inputs = {
        "name": node.name,
        "address": str(node.address),
        "cpus": node.cpus,
        "memory_mb": node.memory_mb,
        "gpus": offered(node),
    }
    return inputs | ({"rack": node.rack} if node.rack else {})


def _models(site: Site, models: tuple[Inputs, ...]) -> Inputs:
    return {
        "models_depot_url": f"{_depot_url(site)}/models",
        "models_files": [file for model in models for file in _model_files(model)],
    }


def _model_files(model: Inputs) -> list[Inputs]:
    """Return the files of a model, the one that a server opens first; all lie in the folder of its digest."""
    opened = {"path": model["file"], "sha256": model["sha256"], "size_bytes": model["size_bytes"]}
    return [
        {
            "name": model["name"],
            "folder": model["sha256"],
            "file": file["path"],
            "sha256": file["sha256"],
            "size_bytes": file["size_bytes"],
        }
        for file in (opened, *model["files"])
    ]


def _control_plane(site: Site, node: Node) -> Inputs:
    return {
        "control_plane_site_name": site.name,
        "control_plane_listen_address": str(node.address),
        "control_plane_console_name": site.network.console_name or str(node.address),
        "control_plane_database_address": _address(site, site.services.database),
        "control_plane_gateway_uri": _gateway_uri(site),
        "control_plane_admin_port": ADMIN_API[0],
        "control_plane_machine_port": MACHINE_API[0],
        "control_plane_leaf_minutes": site.leaf_minutes,
        "control_plane_project_slots": site.project_slots,
    }


def _gateway_uri(site: Site) -> str:
    gateway = site.node(site.services.gateways[0])
    return f"redoubt://{site.name}/zone/{gateway.zone}/service/gateway"


def _gateway(site: Site, node: Node) -> Inputs:
    control_plane = site.services.control_plane
    return {
        "gateway_site_name": site.name,
        "gateway_listen_address": str(node.address),
        "gateway_control_plane_name": control_plane,
        "gateway_control_plane_address": _address(site, control_plane),
        "gateway_port": GATEWAY[0],
        "gateway_machine_port": MACHINE_API[0],
    }


def _chosen_models(site: Site, bundle: BundleFacts) -> tuple[Inputs, ...]:
    carried = {str(model["name"]): model for model in bundle.models}
    for name in site.models:
        if name not in carried:
            near = get_close_matches(name, carried, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it carries: {', '.join(sorted(carried)) or 'none'}"
            raise BadInput(f"the bundle carries no model {name}", remedy=f"correct `models` in site.yml; {hint}")
    return tuple(carried[name] for name in site.models)


def _address(site: Site, name: str) -> str:
    return str(site.node(name).address)


def _depot_url(site: Site) -> str:
    return f"https://{site.services.depot}:{DEPOT[0]}"


def _yaml(value: Inputs) -> str:
    text: str = yaml.safe_dump(value, sort_keys=True, default_flow_style=False, width=120, allow_unicode=True)
    return f"---\n# Made by `redoubt site render` from site.yml: edit that, not this.\n{text}"
