"""A machine's next certificate: a new key on the machine, asked for at half-life with the present certificate."""

from datetime import datetime

import httpx
import structlog
from cryptography import x509
from pydantic import ValidationError

from controlplane.contracts.admin import Problem
from controlplane.contracts.pki import AskLeaf, RenewedLeaf
from controlplane.domains.pki import rules
from controlplane.kit.certificates import NotTrusted, uri_of
from controlplane.kit.clock import Clock
from controlplane.kit.errors import Refused, Unavailable
from controlplane.kit.issuing import make_request, read_request, serial_of
from controlplane.kit.leaf import lay_pair, only_one
from controlplane.kit.tls import CertificateFiles

PATH = "/api/v1/agent/certificates"

log = structlog.get_logger()


class Renewal:
    """Looks whether a pair is due and brings its successor. `http` shows the pair's present certificate."""

    def __init__(self, files: CertificateFiles, http: httpx.AsyncClient, clock: Clock) -> None:
        self._files = files
        self._folder = files.certificate.parent.parent
        self._http = http
        self._clock = clock
        self._called_lapsed = False

    def call_lapsed(self) -> None:
        """The control plane says that the certificate is over, whatever this clock says: renew at the next look."""
        self._called_lapsed = True

    def pause_s(self) -> float:
        """Return how long to wait between two looks."""
        present = self._present()
        return rules.look_every_s(present.not_valid_before_utc, present.not_valid_after_utc)

    async def look(self) -> None:
        """Renew if it is time. Raises Unavailable or Refused; the present certificate stays what it was."""
        if not self._is_due(self._clock.now()):
            return
        with only_one(self._folder) as mine:
            if mine and self._is_due(self._clock.now()):
                await self._renew()

    def _is_due(self, now: datetime) -> bool:
        present = self._present()
        start, end = present.not_valid_before_utc, present.not_valid_after_utc
        return self._called_lapsed or now >= rules.renew_at(start, end, serial_of(present))

    async def _renew(self) -> None:
        present = self._present()
        key_pem, request_pem = make_request("")
        answer = await self._ask(AskLeaf(request_pem=request_pem))
        fresh = _read_leaf(answer)
        if fresh.public_key() != read_request(request_pem).key or _identity(fresh) != _identity(present):
            raise Refused(
                f"the control plane answered with a certificate of {_identity(fresh)}",
                remedy="look at the control plane: this one is not taken",
            )
        lay_pair(self._folder, serial_of(fresh), key_pem, answer.certificate_pem)
        self._called_lapsed = False
        log.info("certificate.renewed", identity=_identity(fresh), until=fresh.not_valid_after_utc.isoformat())

    async def _ask(self, ask: AskLeaf) -> RenewedLeaf:
        try:
            answer = await self._http.post(
                PATH, content=ask.model_dump_json(), headers={"content-type": "application/json"}
            )
        except httpx.TransportError as error:
            raise Unavailable(_why_silent(error, self._clock.now()), remedy=_CLOCKS) from error
        if answer.status_code != httpx.codes.OK:
            self._called_lapsed = False  # it was asked; the next report says whether to ask again
            raise _refusal(answer)
        return RenewedLeaf.model_validate_json(answer.content)

    def _present(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self._files.certificate.read_bytes())


_CLOCKS = "see that the api runs, that this machine may reach it, and that both clocks are right"


def _why_silent(error: Exception, now: datetime) -> str:
    """Say what went wrong; a certificate that is not of this time is most often a wrong clock."""
    said = f"{type(error).__name__} {error}"
    if "not yet valid" in said or "expired" in said:
        return f"the control plane's certificate is not of this time, and it is {now.isoformat()} here: {said}"
    return f"no answer from the control plane: {said}"


def _refusal(answer: httpx.Response) -> Refused:
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        return Refused(f"the control plane answered {answer.status_code}", remedy="see the log of the api")
    return Refused(problem.detail, remedy=problem.remedy, code=problem.code)


def _read_leaf(answer: RenewedLeaf) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(answer.certificate_pem.encode())
    except ValueError:
        raise Refused("the control plane answered with no certificate", remedy="see the log of the api") from None


def _identity(certificate: x509.Certificate) -> str:
    try:
        return uri_of(certificate)
    except NotTrusted:
        return "nobody"
