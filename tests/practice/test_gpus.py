"""The simulated driver library, read with the unmodified pynvml in a process of its own, as the agent does."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest
from lab.nvml import build_library
from typer.testing import CliRunner

from controlplane.cli.practice import app

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ["h100", "h200", "a100", "a10", "l40s"]
BEGIN = """
import json, sys, threading, time
from pynvml import *
nvmlInit()
gpu = nvmlDeviceGetHandleByIndex(0)
def refusal(call, *words):
    try:
        return call(*words)
    except NVMLError as wrong:
        return type(wrong).__name__
"""


@pytest.fixture(scope="session")
def library():
    return build_library()


@pytest.fixture
def state(tmp_path):
    return write_state(tmp_path, "h100")


def write_state(folder, profile, count=2):
    path = folder / "nvml.state"
    path.write_text(generate(profile, "--count", str(count), "--seed", "gpu1"))
    return path


def generate(*words):
    script = ROOT / "images/practice/gpu_state.py"
    return subprocess.run([sys.executable, script, *words], check=True, capture_output=True, text=True).stdout


def surroundings(library, state):
    return {"LD_LIBRARY_PATH": str(library.parent), "REDOUBT_SIM_NVML_STATE": str(state)}


def ask(library, state, code):
    """Run lines of pynvml and return what they leave in `answer`."""
    program = f"{BEGIN}\n{code}\nprint(json.dumps(answer))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=surroundings(library, state), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def practice(state, *words, code=0):
    result = CliRunner().invoke(app, ["gpu", *words, "--state", str(state)])
    assert result.exit_code == code, result.output
    return result.output


def test_pynvml_sees_the_boards_that_the_state_describes(library, state):
    answer = ask(
        library,
        state,
        "answer = [nvmlDeviceGetCount(), nvmlDeviceGetName(gpu), nvmlDeviceGetMemoryInfo(gpu).total >> 20,"
        " nvmlDeviceGetUUID(gpu), nvmlDeviceGetPciInfo(gpu).busId, nvmlSystemGetDriverVersion()]",
    )

    assert answer[:3] == [2, "NVIDIA H100 80GB HBM3", 81559]
    assert re.fullmatch(r"GPU-[0-9a-f-]{36}", answer[3])
    assert answer[4:] == ["00000000:1B:00.0", "580.95.05"]


@pytest.mark.parametrize("profile", PROFILES)
def test_every_reading_answers_or_declines_and_none_crashes(library, tmp_path, profile):
    state = write_state(tmp_path, profile)
    script = ROOT / "images/practice/nvml/record.py"

    done = subprocess.run(
        [sys.executable, script], env=surroundings(library, state), capture_output=True, text=True, check=True
    )

    answers = json.loads(done.stdout)
    assert answers["TotalEccErrors/0/0"] == 0
    assert answers["CpuAffinity"] is True
    assert answers["fields"]["230"] == [0, pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, 0]
    assert answers["lost_handle"] == {"error": pynvml.NVML_ERROR_INVALID_ARGUMENT}
    linked = profile in {"h100", "h200", "a100"}
    assert answers["NvLinkState/0"] == (1 if linked else {"error": pynvml.NVML_ERROR_NOT_SUPPORTED})


def test_the_same_words_give_the_same_state_and_nodes_differ():
    assert generate("h200", "--seed", "gpu1") == generate("h200", "--seed", "gpu1")
    assert generate("h200", "--seed", "gpu1") != generate("h200", "--seed", "gpu2")


def test_every_name_that_nvidia_ml_py_wraps_is_exported(library):
    wrapped = set(re.findall(r'_nvmlGetFunctionPointer\("(\w+)"\)', Path(pynvml.__file__).read_text()))
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    exported = {line.split()[-1] for line in symbols.splitlines()}

    assert wrapped - exported == set()
    assert {name for name in exported if not name.startswith("nvml")} == set()


def test_a_change_is_seen_by_a_process_that_already_reads(library, state):
    program = (
        f"{BEGIN}\nprint(nvmlDeviceGetTemperature(gpu, 0), flush=True)\n"
        "sys.stdin.readline()\nprint(nvmlDeviceGetTemperature(gpu, 0), flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=surroundings(library, state),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        before = reader.stdout.readline().strip()
        practice(state, "set", "--gpu", "0", "temperature_c=88")
        after, _ = reader.communicate("go\n", timeout=10)

    assert (before, after.strip()) == ("32", "88")


def test_a_lost_gpu_refuses_every_call_and_stays_lost_until_a_reboot(library, state):
    practice(state, "inject", "lost", "--gpu", "1")
    lost = ask(library, state, "answer = [nvmlDeviceGetCount(), refusal(nvmlDeviceGetHandleByIndex, 1)]")
    refused = practice(state, "inject", "reset", "--gpu", "1", code=3)
    practice(state, "inject", "reboot")
    back = ask(library, state, "answer = nvmlDeviceGetName(nvmlDeviceGetHandleByIndex(1))")

    assert lost == [2, "NVMLError_GpuIsLost"]
    assert "reboot" in refused
    assert back == "NVIDIA H100 80GB HBM3"


def test_a_handle_from_before_the_loss_is_refused_too(library, state):
    program = "answer = [nvmlDeviceGetName(gpu)]; print('ready', flush=True); sys.stdin.readline();"
    program += "answer += [refusal(nvmlDeviceGetPowerUsage, gpu)]; print(json.dumps(answer))"
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + program],
        env=surroundings(library, state),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        practice(state, "inject", "lost", "--gpu", "0")
        output, _ = reader.communicate("go\n", timeout=10)

    assert json.loads(output) == ["NVIDIA H100 80GB HBM3", "NVMLError_GpuIsLost"]


def test_every_injected_xid_reaches_a_waiting_reader_in_order(library, state):
    code = (
        "events = nvmlEventSetCreate(); nvmlDeviceRegisterEvents(gpu, nvmlEventTypeXidCriticalError, events)\n"
        "print('ready', flush=True)\n"
        "seen = [nvmlEventSetWait_v2(events, 5000) for _ in range(10)]\n"
        "print(json.dumps([[e.eventType, e.eventData, e.gpuInstanceId == 0xffffffff] for e in seen]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", BEGIN + code], env=surroundings(library, state), stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        for number in range(31, 41):
            practice(state, "inject", "xid", "--gpu", "0", "--value", str(number))
        output, _ = reader.communicate(timeout=20)

    assert json.loads(output) == [[8, number, True] for number in range(31, 41)]


def test_waiting_for_an_event_that_does_not_come_takes_the_whole_timeout(library, state):
    code = (
        "events = nvmlEventSetCreate(); nvmlDeviceRegisterEvents(gpu, nvmlEventTypeXidCriticalError, events)\n"
        "began = time.monotonic(); outcome = refusal(nvmlEventSetWait_v2, events, 300)\n"
        "answer = [outcome, time.monotonic() - began]"
    )
    practice(state, "inject", "xid", "--gpu", "0", "--value", "13")  # before registration: not delivered

    outcome, waited_s = ask(library, state, code)

    assert outcome == "NVMLError_Timeout"
    assert waited_s >= 0.3


def test_the_recovery_action_and_a_pending_remap_clear_only_with_a_reset(library, state):
    read = "answer = [nvmlDeviceGetFieldValues(gpu, [230])[0].value.uiVal, nvmlDeviceGetRemappedRows(gpu)]"
    practice(state, "inject", "remap", "--gpu", "0")
    pending = ask(library, state, read)
    refused = practice(state, "set", "--gpu", "0", "remap_pending=0", code=3)
    practice(state, "inject", "reset", "--gpu", "0")

    assert pending == [pynvml.NVML_GPU_RECOVERY_ACTION_GPU_RESET, [0, 1, 1, 0]]
    assert "inject reset" in refused
    assert ask(library, state, read) == [pynvml.NVML_GPU_RECOVERY_ACTION_NONE, [0, 1, 0, 0]]


def test_counters_never_fall_and_energy_rises_by_itself(library, state):
    practice(state, "set", "--gpu", "0", "pcie_replays=5", "power_mw=700000")
    refused = practice(state, "set", "--gpu", "0", "pcie_replays=4", code=3)
    first, second = ask(
        library,
        state,
        "a = nvmlDeviceGetTotalEnergyConsumption(gpu); time.sleep(0.05)\n"
        "answer = [a, nvmlDeviceGetTotalEnergyConsumption(gpu)]",
    )
    practice(state, "set", "--gpu", "0", "power_mw=70000")

    assert "counters never fall" in refused
    assert first < second <= ask(library, state, "answer = nvmlDeviceGetTotalEnergyConsumption(gpu)")


def test_a_misspelt_key_is_refused_with_the_right_one(state):
    before = state.read_text()

    output = practice(state, "set", "--gpu", "0", "temprature_c=40", code=2)

    assert "temperature_c" in output
    assert state.read_text() == before


def test_each_nvlink_leads_to_a_neighbour_until_it_drops(library, state):
    read = (
        "answer = [[nvmlDeviceGetNvLinkState(gpu, link) for link in range(18)],"
        " nvmlDeviceGetNvLinkRemotePciInfo(gpu, 0).busId == nvmlDeviceGetPciInfo(nvmlDeviceGetHandleByIndex(1)).busId]"
    )
    whole = ask(library, state, read)
    practice(state, "inject", "nvlink-down", "--gpu", "0", "--value", "3")

    assert whole == [[1] * 18, True]
    assert ask(library, state, read)[0] == [1] * 3 + [0] + [1] * 14


def test_without_a_state_file_the_driver_is_not_loaded(library, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import pynvml; pynvml.nvmlInit()"],
        env=surroundings(library, tmp_path / "none"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert "NVMLError_DriverNotLoaded" in done.stderr


def test_show_names_the_lost_gpu(state):
    practice(state, "inject", "lost", "--gpu", "1")

    lines = practice(state, "show").splitlines()

    assert "LOST" not in lines[0]
    assert "LOST" in lines[1]
