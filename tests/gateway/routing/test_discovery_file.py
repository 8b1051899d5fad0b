import json

from controlplane.contracts.snapshot import SnapshotReplica
from controlplane.gateway.routing.discovery_file import discovery_of, write_discovery
from tests.gateway.stage import endpoint, snapshot

HERE = SnapshotReplica(replica_id="replica_a", host="10.0.0.1", port=8000, certificate_pem="", revision_id="r2")
DRAINING = HERE.model_copy(update={"replica_id": "replica_b", "draining": True})
BY_NAME = HERE.model_copy(update={"replica_id": "replica_c", "host": "node1"})


def of(*replicas: SnapshotReplica):
    return snapshot(1, (), ()).model_copy(update={"endpoints": (endpoint("chat", replicas),)})


def test_it_lists_what_llm_d_can_read_and_what_takes_requests():
    listed = json.loads(discovery_of(of(HERE, DRAINING, BY_NAME)))

    assert [(e["name"], e["namespace"], e["address"], e["port"]) for e in listed["endpoints"]] == [
        ("replica_a", "test", "10.0.0.1", "8000")
    ]
    assert listed["endpoints"][0]["labels"]["revision"] == "r2"
    assert all(isinstance(value, str) for value in listed["endpoints"][0]["labels"].values())


def test_a_file_that_llm_d_would_not_read_is_not_written(tmp_path):
    many = tuple(HERE.model_copy(update={"replica_id": f"replica_{n}"}) for n in range(8000))
    write_discovery(tmp_path / "endpoints.json", of(HERE))

    write_discovery(tmp_path / "endpoints.json", of(*many))

    assert len(json.loads((tmp_path / "endpoints.json").read_text())["endpoints"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["endpoints.json"]
