"""What the operating system of a node must be for the roles to do their work."""

from controlplane.sitespec.preflight.check import Check, Judgement, Unread, View, listed, nothing

RELEASES = {"debian 13"}
ARCHITECTURES = {"x86_64": "amd64"}
MEMORY_SLACK = 0.9  # firmware and kernel keep some of what the board holds
OFFSET_LIMIT_S = 1.0
DAY_S = 86400.0


def release(view: View) -> Judgement:
    found = view.facts["os.release"]
    return Judgement(found in RELEASES, found, listed(sorted(RELEASES)))


def architecture(view: View) -> Judgement:
    found = view.facts["os.architecture"]
    wanted = view.bundle.find("architecture", "amd64")
    return Judgement(ARCHITECTURES.get(found, found) == wanted, found, wanted)


def kernel(view: View) -> Judgement:
    found = view.facts["os.kernel"]
    return Judgement(found["running"] == found["newest"], f"{found['running']} runs", f"{found['newest']} boots next")


def held(view: View) -> Judgement:
    return nothing(view.facts["os.packages"]["held"])


def broken(view: View) -> Judgement:
    return nothing(view.facts["os.packages"]["broken"])


def sources(view: View) -> Judgement:
    found = view.facts["os.sources"]
    unread = "" if view.facts["os.sources_read"] or not found else " (apt does not read them)"
    return Judgement(not found, f"{listed(found)}{unread}", "the depot alone")


def unattended(view: View) -> Judgement:
    found = view.facts["os.unattended_upgrades"]
    return Judgement(not found, "on" if found else "off", "off")


def nouveau(view: View) -> Judgement | None:
    if not view.has_gpus:
        return None
    found = "nouveau" in view.facts["os.modules"]
    return Judgement(not found, "loaded" if found else "not loaded", "not loaded")


def leftovers(view: View) -> Judgement | None:
    return nothing(view.facts["os.driver_leftovers"]) if view.has_gpus else None


def tmp(view: View) -> Judgement:
    found = "noexec" in view.facts["os.tmp_options"]
    return Judgement(not found, "noexec" if found else "programs may run", "programs may run")


def lsm(view: View) -> Judgement:
    found = view.facts["os.lsm"]
    return Judgement(bool({"apparmor", "selinux"} & set(found)), listed(found), "apparmor or selinux")


def cgroups(view: View) -> Judgement:
    return Judgement(view.facts["os.cgroups"] == "v2", view.facts["os.cgroups"], "v2")


def fips(view: View) -> Judgement:
    found = view.facts["os.fips"] == "1"
    return Judgement(not found, "on" if found else "off", "off: Ed25519 and unsigned modules are refused in it")


def failed_units(view: View) -> Judgement:
    return nothing(view.facts["os.failed_units"])


def proxies(view: View) -> Judgement:
    return nothing(view.facts["os.proxies"])


def hostname(view: View) -> Judgement:
    return Judgement(view.facts["node.hostname"] == view.node.name, view.facts["node.hostname"], view.node.name)


def cpus(view: View) -> Judgement | None:
    if view.node.cpus is None:
        return None
    return Judgement(view.facts["node.cpus"] >= view.node.cpus, str(view.facts["node.cpus"]), f"{view.node.cpus}")


def memory(view: View) -> Judgement | None:
    if view.node.memory_mb is None:
        return None
    found = view.facts["node.memory_mb"]
    return Judgement(found >= view.node.memory_mb * MEMORY_SLACK, f"{found} MiB", f"{view.node.memory_mb} MiB")


def clock(view: View) -> Judgement:
    """Judge the clock against the controller's: what chrony says where it runs, else what the exchange proves."""
    if told := view.facts.find("node.clock", None):
        return Judgement(abs(told["offset_s"]) < OFFSET_LIMIT_S, f"{told['offset_s']:+.3f} s by chrony", "within 1 s")
    there = view.facts["node.time"]
    least, most = there - view.facts["answered_at"], there - view.facts["asked_at"]
    off = least >= OFFSET_LIMIT_S or most <= -OFFSET_LIMIT_S
    if not off and (least <= -OFFSET_LIMIT_S or most >= OFFSET_LIMIT_S):
        raise Unread(f"the exchange only shows it {_between(least, most)}, and chrony does not run yet")
    return Judgement(not off, _between(least, most), "within 1 s")


def plausible(view: View) -> Judgement:
    there, made = view.facts["node.time"], view.bundle["created_at_s"]
    ends = view.bundle["expires_at_s"]
    days = (there - made) / DAY_S
    return Judgement(
        days > -1 and there < ends, f"{days:+.0f} days from the bundle's making", "after it, before its end"
    )


def _between(least: float, most: float) -> str:
    return f"between {least:+.1f} s and {most:+.1f} s"


CHECKS = (
    Check("os.release", "block", "install Debian 13 on the node; no other release has been tested", release),
    Check("os.architecture", "block", "build a bundle for this architecture, or replace the machine", architecture),
    Check("os.kernel", "warn", "reboot the node, so that what runs is what the next boot brings", kernel),
    Check(
        "os.pending_reboot",
        "block",
        "reboot the node: an update waits for it",
        lambda view: nothing(view.facts["os.pending_reboot"]),
    ),
    Check("os.packages_held", "warn", "apt-mark unhold NAME, unless somebody holds it for a reason", held),
    Check("os.packages_broken", "block", "dpkg --configure --pending, then look at: dpkg --audit", broken),
    Check("os.sources", "warn", "remove the file: on a site packages come from the depot alone", sources),
    Check(
        "os.unattended_upgrades",
        "block",
        "apt-get purge unattended-upgrades: it changes nodes behind the plan",
        unattended,
    ),
    Check(
        "os.driver_leftovers", "block", "nvidia-uninstall, or dkms remove: two drivers in one kernel fail", leftovers
    ),
    Check("os.nouveau", "block", "blacklist nouveau in /etc/modprobe.d, update-initramfs -u, reboot", nouveau),
    Check("os.tmp", "warn", "remount /tmp without noexec: compilers and installers run from it", tmp),
    Check("os.lsm", "warn", "boot with apparmor=1 security=apparmor", lsm),
    Check(
        "os.cgroups",
        "block",
        "boot with systemd.unified_cgroup_hierarchy=1: Slurm confines jobs by it",
        cgroups,
        "warn",
    ),
    Check("os.fips", "warn", "boot with fips=0, or expect signatures to be refused", fips),
    Check("os.failed_units", "warn", "systemctl status NAME, and repair or disable it", failed_units),
    Check("os.proxies", "block", "remove the line: a proxy is a way out that nobody declared", proxies),
    Check("node.hostname", "block", "hostnamectl set-hostname to the name in site.yml, or correct site.yml", hostname),
    Check("node.cpus", "block", "correct cpus in site.yml, or look for CPUs that are switched off", cpus, "warn"),
    Check("node.memory", "block", "correct memory_mb in site.yml, or look for a failed module", memory, "warn"),
    Check("node.clock", "block", "set the clock: timedatectl set-time; certificates and Slurm need one time", clock),
    Check("node.time_plausible", "block", "set the clock, or take a bundle that has not expired", plausible),
)
