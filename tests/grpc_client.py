"""Which client of gRPC the tests of the gateway use: `ANTIPHON_GRPC_CLIENT`, as for the gateway itself."""

from __future__ import annotations

import os
from typing import Final

from antiphon.gemini.upstream import ClientName

CLIENT: Final[ClientName] = "grpcio" if os.environ.get("ANTIPHON_GRPC_CLIENT") == "grpcio" else "native"
