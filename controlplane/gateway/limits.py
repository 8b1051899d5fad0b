"""What one client may take, and how long each step may last."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """The defaults are the product's; tests shorten them."""

    head_bytes: int = 32 * KIB
    body_bytes: int = 8 * MIB
    bodies_bytes: int = 256 * MIB  # of all large bodies in one worker, until their answers are complete
    bodies_of_key_bytes: int = 64 * MIB
    held_bytes: int = 64 * KIB  # pipelined requests that wait for their turn
    answer_bytes: int = 32 * MIB
    event_bytes: int = MIB

    head_s: float = 10.0
    body_s: float = 60.0
    idle_s: float = 75.0
    linger_s: float = 2.0
    stalled_client_s: float = 60.0

    handshakes: int = 32  # at once to one replica: a burst must not overrun its listen queue
    clear_s: float = 5.0  # a control plane that takes longer to grant more of a budget is away
    intent_s: float = 5.0  # a disk that takes longer to write a line down is no disk
    connect_s: float = 3.0
    first_byte_s: float = 600.0  # a long prompt behind a full queue
    silence_s: float = 120.0
    heartbeat_s: float = 10.0  # a stream that waits for its turn or its first token says so this often
    link_idle_s: float = 4.0  # below the 5 s after which llama.cpp hangs up: fewer stale links
    rest_s: float = 2.0  # a replica that could not be reached is asked last for this long

    drain_s: float = 30.0
    relieved_s: float = 3600.0  # after a reload, while new workers serve already
    sweep_s: float = 0.5
