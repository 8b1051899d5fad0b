"""Tasks of Ansible: which modules they call, which packages they name, which commands they run."""

import ast
from collections.abc import Iterator, Mapping
from typing import Any  # YAML values have no narrower type

from controlplane.bundle.closure.addresses import is_of_site
from controlplane.bundle.closure.commands import fetching, fetching_list, missing_wheels
from controlplane.bundle.closure.configuration import is_held_image
from controlplane.bundle.closure.finding import ANY, UNKNOWN, Held, Hit
from controlplane.bundle.closure.templates import Values, rendered

KEYWORDS = {
    "name", "action", "any_errors_fatal", "args", "async", "become", "become_exe", "become_flags", "become_method",
    "become_user", "changed_when", "check_mode", "collections", "connection", "debugger", "delay", "delegate_facts",
    "delegate_to", "diff", "environment", "failed_when", "ignore_errors", "ignore_unreachable", "listen",
    "local_action", "loop", "loop_control", "module_defaults", "no_log", "notify", "poll", "port", "register",
    "remote_user", "retries", "run_once", "tags", "throttle", "timeout", "until", "vars", "when", "block", "rescue",
    "always", "hosts", "tasks", "pre_tasks", "post_tasks", "handlers", "roles", "gather_facts", "serial", "strategy",
    "order", "max_fail_percentage", "vars_files",
}  # fmt: skip
BUILTIN = ("ansible.builtin.", "ansible.legacy.")
# Modules that speak to a place of their own choice; the others are judged by the addresses and names they are given.
FETCHING = {
    "get_url", "git", "subversion", "apt_key", "apt_repository", "deb822_repository", "rpm_key", "yum_repository",
    "yum", "dnf", "dnf5",
}  # fmt: skip
PACKAGES = {
    "apt": ("name", "pkg", "package"),
    "package": ("name",),
    "packages_present": ("names",),
    "depot_server": ("names",),
}
SHELLS = {"shell", "command", "raw", "script", "expect"}
LOOKUPS = ("url", "dig", "dnstxt", "etcd", "etcd3", "redis", "consul_kv", "hashi_vault", "credstash", "aws_ssm")


def task_hits(task: Mapping[str, Any], values: Values, held: Held, own: frozenset[str]) -> Iterator[Hit]:
    """Yield what one task would fetch or install; `own` are the modules that the product brings."""
    for name, arguments in task.items():
        if name in KEYWORDS or name.startswith("with_"):
            continue
        module = _short(name)
        if "." in module:
            yield from _foreign(module, held)
        elif module in FETCHING:
            yield Hit("module", module)
        elif module not in own:
            yield from _module_hits(module, arguments, values, held)
        yield from _package_hits(module, arguments, values, held)


def _module_hits(module: str, arguments: Any, values: Values, held: Held) -> Iterator[Hit]:
    if module in SHELLS:
        yield from _command_hits(arguments, values, held)
    elif module == "pip":
        yield from _pip_hits(arguments, values, held)


def _foreign(module: str, held: Held) -> Iterator[Hit]:
    collection = ".".join(module.split(".")[:2])
    if collection not in held.collections:
        yield Hit("collection", module)


def _command_hits(arguments: Any, values: Values, held: Held) -> Iterator[Hit]:
    given = arguments if isinstance(arguments, dict) else {"cmd": arguments}
    for line in rendered(str(given.get("cmd") or given.get("_raw_params") or ""), values).split("\n"):
        yield from fetching(line, held)
    argv = given.get("argv") or ()
    words = _list(argv, values)
    yield from fetching_list(words)
    for word in words:  # a shell that is handed its text: sh -c 'curl …'
        if " " in word:
            yield from (hit for line in word.split("\n") for hit in fetching(line, held))
    for line in rendered(str(given.get("stdin") or ""), values).split("\n"):
        yield from fetching(line, held)


def _pip_hits(arguments: Any, values: Values, held: Held) -> Iterator[Hit]:
    given = arguments if isinstance(arguments, dict) else {}
    yield from missing_wheels(_list(given.get("name") or (), values), held)
    if "--index-url" not in str(given.get("extra_args", "")) and "--no-index" not in str(given.get("extra_args", "")):
        yield Hit("tool", "pip without the depot's index")


def _package_hits(module: str, arguments: Any, values: Values, held: Held) -> Iterator[Hit]:
    if module not in PACKAGES or not isinstance(arguments, dict) or arguments.get("state") == "absent":
        return
    if "deb" in arguments:
        yield Hit("package", str(arguments["deb"]))
    for key in PACKAGES[module]:
        yield from missing_packages(arguments.get(key) or (), values, held)


def missing_packages(names: Any, values: Values, held: Held) -> Iterator[Hit]:
    """Yield Debian packages that the lock does not hold."""
    for asked in _list(names, values):
        name = asked.partition("=")[0].partition(":")[0].strip()
        if UNKNOWN in name:
            yield Hit("package", f"names that are known only while it runs: {names}")
        elif name and ANY not in name and name not in held.debs:
            yield Hit("package", name)


def named_things(key: str, value: Any, values: Values, held: Held) -> Iterator[Hit]:
    """Yield what a variable names by its own name: packages, images, models, Python packages."""
    leaves = list(_leaves(value, values))
    if key.endswith("_packages"):
        yield from missing_packages(leaves, values, held)
    elif key in {"image", "images", "container_image"} or key.endswith(("_image", "_images")):
        yield from (Hit("image", leaf) for leaf in leaves if not is_held_image(leaf, held))
    elif key in {"model", "models"} or key.endswith(("_model", "_models")):
        yield from (Hit("model", leaf) for leaf in leaves if leaf not in held.models and ANY not in leaf)
    elif key.endswith(("_wheels", "_requirements", "_python_packages")):
        yield from missing_wheels((leaf for leaf in leaves if "/" not in leaf), held)
    elif key.endswith(("_ntp_servers", "_time_servers", "_ntp_server")):
        yield from (Hit("time", leaf) for leaf in leaves if not is_of_site(leaf, held))


def lookups(text: str) -> Iterator[Hit]:
    """Yield lookups of Ansible that ask a server."""
    for name in LOOKUPS:
        if any(
            f"{call}({quote}{prefix}{name}{quote}" in text.replace(" ", "")
            for call in ("lookup", "query", "q")
            for quote in "'\""
            for prefix in ("", "ansible.builtin.", "community.general.")
        ):
            yield Hit("module", f"lookup {name}")


def _list(value: Any, values: Values) -> list[str]:
    if isinstance(value, str):
        said = rendered(value, values)
        try:
            read = ast.literal_eval(said) if said.startswith("[") else said
        except (SyntaxError, ValueError):
            read = UNKNOWN
        return [str(item) for item in read] if isinstance(read, list) else [str(read)]
    return [rendered(str(item), values) for item in value]


def _leaves(value: Any, values: Values) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item, values)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, values)
    elif isinstance(value, str):
        yield from _list(value, values)


def _short(name: str) -> str:
    for prefix in BUILTIN:
        name = name.removeprefix(prefix)
    return name
