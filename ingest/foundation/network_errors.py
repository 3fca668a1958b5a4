"""What goes wrong on the way to a server, in words: certificates, TLS, and the system's own error numbers."""

from __future__ import annotations

import re
import ssl

_ERRNO = re.compile(r"\[Errno (\d+)\]")


def tls_problem(error: ssl.SSLError) -> tuple[str, str]:
    """Return what is wrong with a server's certificate or with TLS itself, and what to do, for any server.

    The remedy has places for `{authority}`, the setting that names who is trusted, and `{address}`.
    """
    if not isinstance(error, ssl.SSLCertVerificationError):
        return (
            "what answers does not speak TLS as we do",
            "Check the port in {address}, that TLS is on at the server, and that both have TLS 1.2 or newer.",
        )
    if error.verify_code in {62, 64}:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return (
            "the server's certificate is for another host name",
            "Write the host in {address} as the certificate has it, or have one made for the name that you use.",
        )
    if error.verify_code in {9, 10}:  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
        return ("the server's certificate is not valid at this time", "Renew it, or set this machine's clock.")
    return (
        "the server's certificate is signed by an authority that is not trusted here",
        "Name the authority's certificate with {authority}.",
    )


def errnos_of(error: BaseException) -> set[int]:
    """Return the system's error numbers in an exception; where a name has several addresses, that of each."""
    if isinstance(error, OSError) and error.errno is not None:
        return {error.errno}
    return {int(number) for number in _ERRNO.findall(str(error))}
