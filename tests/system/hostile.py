"""What a job tries against another project's: run inside a Slurm job, standard library only, prints JSON.

Its one argument is JSON that says where the other is. Every answer is a word: "open" where the attempt succeeded.
"""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path


def read(path):
    return said(lambda: Path(path).read_bytes())


def listing(path):
    return said(lambda: list(Path(path).iterdir()))


def device(path):
    """A device that the job may use is there, but has no driver in a practice node: ENXIO is as good as open."""
    word = said(lambda: os.close(os.open(path, os.O_RDWR)))
    return "open" if word == "ENXIO" else word


def connection(host, port):
    return said(lambda: socket.create_connection((host, port), 2).close())


def command(*words):
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=8, check=False)
    except subprocess.TimeoutExpired:
        return "silence"
    return "open" if done.returncode == 0 and done.stdout.strip() else "refused"


def said(attempt):
    try:
        attempt()
    except TimeoutError:
        return "silence"
    except OSError as wrong:
        return errno.errorcode.get(wrong.errno or 0, "error")
    return "open"


def visible_users():
    return sorted({path.stat().st_uid for path in Path("/proc").iterdir() if path.name.isdecimal()})


def main(other):
    pid, job, address = other["pid"], other["job"], other["address"]
    print(json.dumps({
        "gpu": device(f"/dev/nvidia{other['gpu']}"),
        "file": read(f"{other['home']}/secret"),
        "home": listing(other["home"]),
        "memory": said(lambda: Path(f"/proc/{pid}/maps").read_text()),
        "environment": read(f"/proc/{pid}/environ"),
        "port on loopback": connection("127.0.0.1", other["port"]),
        "port": connection(address, other["port"]),
        "job seen": command("squeue", "--noheader", f"--jobs={job}"),
        "job shown": command("scontrol", "show", "job", str(job)),
        "endpoint files": listing("/var/lib/redoubt-serve"),
        "endpoint port": connection(address, other["endpoint_port"]),
        "cluster key": read("/etc/slurm/slurm.key"),
        "node key": read("/etc/redoubt/tls/node/current/leaf.key"),
        "another submission": command("sbatch", "--parsable", "--wrap=true", f"--account={other['account']}"),
        "database": connection(other["database"], 5432),
        "agents' api": connection(other["control_plane"], 8444),
        "admin api": connection(other["control_plane"], 8443),
        "ssh": connection(other["control_plane"], 22),
        "users seen": visible_users(),
    }))  # fmt: skip


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
