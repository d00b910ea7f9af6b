# SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
# SPDX-License-Identifier: Apache-2.0
"""Certificates for a test, made with the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Authority:
    """A certificate authority with a directory of its own."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = directory / f"{name}.pem"
        self._key = directory / f"{name}.key"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-keyout", str(self._key), "-out", str(self.certificate)),
        )

    def issue(self, name: str, *alternatives: str, key: str = "ecdsa") -> tuple[Path, Path]:
        """Certificate and key for a server (with `alternatives` such as DNS:x, IP:y) or client.
        `key`: its kind."""
        kinds = {"ecdsa": ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"), "rsa": ("rsa:2048",)}
        certificate = self._directory / f"{name}.pem"
        private = self._directory / f"{name}.key"
        request = self._directory / f"{name}.csr"
        extensions = self._directory / f"{name}.ext"
        lines = ["extendedKeyUsage=serverAuth,clientAuth"]
        if alternatives:
            lines.append("subjectAltName=" + ",".join(alternatives))
        extensions.write_text("\n".join(lines) + "\n")
        self._openssl(
            *("req", "-newkey", *kinds[key], "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", str(private), "-out", str(request)),
        )
        self._openssl(
            *("x509", "-req", "-days", "2", "-in", str(request), "-CA", str(self.certificate)),
            *("-CAkey", str(self._key), "-CAcreateserial", "-extfile", str(extensions)),
            *("-out", str(certificate)),
        )
        return certificate, private

    @staticmethod
    def _openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
