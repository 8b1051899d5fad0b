"""Compare the GPUs that the driver shows with the declared ones; say in one line what differs."""

import json
import re
import sys

import pynvml


def read_names() -> list[str]:
    """Read the product name of every GPU."""
    pynvml.nvmlInit()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def differences(names: list[str], expected: list[dict[str, object]]) -> list[str]:
    """Compare by type: a type is a word of the product name."""
    words = [re.split(r"[^a-z0-9]+", name.lower()) for name in names]
    found = {str(gpus["type"]): sum(str(gpus["type"]) in name for name in words) for gpus in expected}
    wrong = [
        f"{gpus['count']} {gpus['type']} declared, {found[str(gpus['type'])]} seen"
        for gpus in expected
        if gpus["count"] != found[str(gpus["type"])]
    ]
    unknown = len(names) - sum(found.values())
    return [*wrong, f"{unknown} of a type not declared"] if unknown else wrong


def main() -> None:
    """Exit 0 when all is as declared."""
    try:
        names = read_names()
    except pynvml.NVMLError as error:
        sys.exit(f"The GPU driver does not answer: {error}. Look at: nvidia-smi, and journalctl --dmesg --grep NVRM")
    if wrong := differences(names, json.loads(sys.argv[1])):
        seen = ", ".join(names) or "none"
        sys.exit(f"GPUs are not as declared: {'; '.join(wrong)} (seen: {seen}). Correct site.yml or repair the node.")


main()
