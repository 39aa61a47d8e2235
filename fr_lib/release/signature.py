"""Sigstore: a signature made and checked by cosign, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from fr_lib.errors import ArtefactError, InputError, say
from fr_lib.release.strict import MAX_JSON, read_bytes

SUFFIX = ".sigstore.json"
TIMEOUT = 120  # seconds; cosign asks a transparency log
NO_COSIGN = "not checked: no cosign here"
ANYONE = "signed, by whom was not asked: name --signer and --issuer"


def require_cosign() -> str:
    """Return the path of cosign; InputError where there is none."""
    if found := shutil.which("cosign"):
        return found
    todo = "install it, or release without --sign"
    raise InputError(say("--sign", "no cosign on PATH", "cosign 2.4 or newer", todo))


def signature_of(data: bytes, name: str) -> bytes:
    """Sign bytes with cosign and return its bundle; cosign may ask who you are in a browser.

    Parameters
    ----------
    data : bytes
    name : str
        File name of `data`, for what cosign prints.

    Raises
    ------
    InputError
        Without cosign.
    ArtefactError
        If cosign fails.
    """
    cosign = require_cosign()
    with tempfile.TemporaryDirectory() as made:
        model, bundle = Path(made) / name, Path(made) / f"{name}{SUFFIX}"
        model.write_bytes(data)
        command = [cosign, "sign-blob", "--yes", "--bundle", str(bundle), str(model)]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if ended.returncode:
            found = f"cosign sign-blob ended with {ended.returncode}"
            raise ArtefactError(say(name, found, "0", "see its message above; nothing was changed"))
        return read_bytes(bundle, MAX_JSON)


def check_signature(
    bundle: Path, data: bytes, signer: str | None = None, issuer: str | None = None
) -> tuple[list[str], list[str]]:
    """Check a bundle against the bytes that were judged.

    Parameters
    ----------
    bundle : Path
        The file that the row names; who calls has seen that it is there.
    data : bytes
        The model.
    signer, issuer : str, optional
        Identity of the certificate and who vouched for it. Without them any signature of these
        bytes counts, and the note says so.

    Returns
    -------
    problems, notes : lists of str
    """
    cosign = shutil.which("cosign")
    if cosign is None:
        return [], [f"{bundle}: {NO_COSIGN}"]
    if signer and issuer:
        who = ["--certificate-identity", signer, "--certificate-oidc-issuer", issuer]
    else:
        who = ["--certificate-identity-regexp", ".*", "--certificate-oidc-issuer-regexp", ".*"]
    command = [cosign, "verify-blob", "--bundle", str(bundle), *who, "-"]
    try:
        ended = subprocess.run(
            command, input=data, capture_output=True, timeout=TIMEOUT, check=False
        )
        why = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired:
        return [say(str(bundle), f"no answer in {TIMEOUT} s", "an answer", "try again")], []
    if ended.returncode:
        return [say(str(bundle), f"cosign refuses it ({why})", "a signature", "sign it again")], []
    return [], [] if signer and issuer else [f"{bundle}: {ANYONE}"]
