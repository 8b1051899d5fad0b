"""Whom we may be to Slurm: a short-lived token in a file for each of our users, renewed by another process."""

from pathlib import Path

from controlplane.kit.errors import Unavailable

RENEWER = "redoubt-slurm-token"


class Tokens:
    """`folder` holds a file per user. `single` is the one file of a site of before, for `single_user` alone.

    `admin` sees the jobs and shares of all; on a site of before, which has none, whoever asks sees only its own.
    """

    def __init__(
        self,
        folder: Path | None,
        *,
        single: Path | None = None,
        single_user: str = "redoubt-serve",
        admin: str = "redoubt-slurm",
    ) -> None:
        self._folder = folder
        self._single = single
        self._single_user = single_user
        self._admin = admin

    @property
    def overseer(self) -> str:
        """Return the user that sees most."""
        path = self._in_folder(self._admin)
        if path is None or (self._single is not None and not path.exists()):
            return self._single_user
        return self._admin

    def read(self, user: str) -> str:
        """Return the user's token as it is now; raises Unavailable."""
        try:
            return self.path(user).read_text().strip()
        except OSError as error:
            raise Unavailable(
                f"there is no Slurm token of {user}: {error}", remedy=f"look at: systemctl status {RENEWER}"
            ) from None

    def path(self, user: str) -> Path:
        """Return the file that holds the user's token, or would."""
        own = self._in_folder(user)
        if self._single is not None and user == self._single_user and not (own is not None and own.exists()):
            return self._single
        if own is None:
            raise Unavailable(
                f"this site has a Slurm token of {self._single_user} alone, and {user} is asked for",
                remedy="apply the site again: its role slurm makes a token for each user",
            )
        return own

    def _in_folder(self, user: str) -> Path | None:
        return None if self._folder is None else self._folder / user
