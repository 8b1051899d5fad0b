"""What files and batches refuse beyond any other request."""

from controlplane.gateway.errors import BadRequest, Refusal


class NotKept(Refusal):
    """The same words for what is not there and what another project has."""

    status = 404
    kind = "not_found"


class InTheWay(BadRequest):
    status = 409
    kind = "conflict"


class NoRoom(Refusal):
    status = 507
    kind = "no_room"
    type = "server_error"


class TooMany(Refusal):
    status = 429
    kind = "too_many"
    type = "rate_limit_error"
    retry_after_s = 30


class KeepsNothing(Refusal):
    status = 403
    kind = "content_not_kept"
    type = "permission_error"


class Unkept(Refusal):
    """The disk or what is on it fails; the cause is in the log."""

    status = 503
    kind = "files_unavailable"
    type = "service_unavailable"
    retry_after_s = 10


class Broke(Refusal):
    """A fault of the gateway itself."""

    status = 500
    kind = "gateway_failed"
    type = "server_error"
