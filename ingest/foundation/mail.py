"""Sends mail by SMTP: one message to one reader, at least once; a copy has the same Message-ID.

The one file that knows the client library, and the one that catches its exceptions. No error names an address.
"""

from __future__ import annotations

import asyncio
import ssl

import aiosmtplib

from slotwire.ingest.foundation.errors import ConfigurationError, OutgoingFailed
from slotwire.ingest.foundation.mail_message import Mail, message_of
from slotwire.ingest.foundation.mail_settings import MailSettings
from slotwire.ingest.foundation.network_errors import tls_problem

_PREFIX = "SLOTWIRE_MAIL__"


class SmtpMailer:
    """Hands mail over to one server; it connects for each."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    async def send(self, mail: Mail) -> None:
        """Hand a mail over.

        Raises:
            ConfigurationError: no server is set, or the file of its CA cannot be read.
            OutgoingFailed: it was not handed over, or nobody knows: sending it again is right. The reason is
                `recipient`, `login`, `refused`, `tls_error`, `timeout` or `unreachable`.
        """
        settings = self._settings
        if not settings.host:
            raise ConfigurationError(
                "no mail server is set", remedy=f"Set {_PREFIX}HOST and {_PREFIX}SENDER for the process of the agent."
            )
        tls = None if settings.security == "none" else _trusted(settings.ca_file)
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.username,
            password=None if settings.password is None else settings.password.get_secret_value(),
            local_hostname=settings.sender.rpartition("@")[2],  # not the name of this machine
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            tls_context=tls,
            timeout=settings.timeout_seconds,
        )
        message = message_of(mail, settings.sender)
        try:
            async with asyncio.timeout(settings.timeout_seconds), client:
                await client.send_message(message, sender=settings.sender, recipients=[mail.to])
        except (aiosmtplib.SMTPException, OSError) as error:
            raise _failed(error) from None
        finally:
            client.close()  # it does not by itself where it is cut off while it connects


def _trusted(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigurationError(
            "the file of the mail server's CA cannot be read", remedy=f"Correct {_PREFIX}CA_FILE."
        ) from error


def _failed(error: Exception) -> OutgoingFailed:
    """Say what went wrong: the code of the server's answer, never its text, which may repeat an address."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLError) or isinstance(cause, ssl.SSLError):
        problem, remedy = tls_problem(error if isinstance(error, ssl.SSLError) else cause)  # type: ignore[arg-type]  # one of them is
        remedy = remedy.format(authority=f"{_PREFIX}CA_FILE", address=f"{_PREFIX}HOST")
        return OutgoingFailed(f"the mail server: {problem}", reason="tls_error", remedy=remedy)
    code = f" (SMTP {error.code})" if isinstance(error, aiosmtplib.SMTPResponseException) else ""
    match error:
        case aiosmtplib.SMTPRecipientsRefused() | aiosmtplib.SMTPRecipientRefused():
            said, reason = "the mail server does not take mail for this reader", "recipient"
        case aiosmtplib.SMTPAuthenticationError():
            said, reason = f"the mail server refuses the login{code}", "login"
        case TimeoutError():
            said, reason = "the mail server did not answer in time", "timeout"
        case OSError():
            said, reason = "the mail server cannot be reached, or ended the connection", "unreachable"
        case _:
            said, reason = f"the mail server refuses the mail, or does not offer TLS or the login{code}", "refused"
    return OutgoingFailed(said, reason=reason, remedy=f"Check {_PREFIX}HOST, PORT, SECURITY, USERNAME and the reader.")
