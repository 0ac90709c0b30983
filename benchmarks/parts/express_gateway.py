"""express-gateway from npm with key-auth and rate-limit, in front of an HTTP upstream."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from parts.processes import free_port, started

VERSION = "1.16.11"

SYSTEM = """
db: {redis: {emulate: true, namespace: EG}}
crypto: {cipherKey: benchmark, algorithm: aes256, saltRounds: 10}
session: {secret: benchmark, resave: false, saveUninitialized: false}
accessTokens: {timeToExpiry: 7200000}
refreshTokens: {timeToExpiry: 7200000}
authorizationCodes: {timeToExpiry: 300000}
"""
GATEWAY = """
http: {{port: {port}, host: 127.0.0.1}}
admin: {{port: {admin}, host: 127.0.0.1}}
apiEndpoints: {{api: {{host: "*", paths: "/bench/*"}}}}
serviceEndpoints: {{up: {{url: "http://127.0.0.1:{upstream}"}}}}
policies: [key-auth, rate-limit, proxy]
pipelines:
  bench:
    apiEndpoints: [api]
    policies:
    - key-auth: [{{action: {{apiKeyHeader: x-api-key}}}}]
    - rate-limit:
      - action:
          max: 1000000000
          windowMs: 60000
          delayAfter: 0
          delayMs: 0
          rateLimitBy: "${{req.user.id}}"
    - proxy: [{{action: {{serviceEndpoint: up}}}}]
"""
SERVER = "require('express-gateway')().load(__dirname + '/config').run()\n"


def installed(cache: Path) -> Path | None:
    """Return the folder in which express-gateway is installed, now if need be; None: it cannot be.

    Args:
        cache: Where programs that are not ours are kept.
    """
    folder = cache / f"express-gateway-{VERSION}"
    if not (folder / "ready").exists():
        folder.mkdir(parents=True, exist_ok=True)
        argv = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(
            [*argv, f"express-gateway@{VERSION}"], cwd=folder, capture_output=True, check=False
        )
        if done.returncode:
            return None
        (folder / "ready").touch()
    return folder


@contextlib.contextmanager
def express_gateway(
    installation: Path, folder: Path, upstream: int
) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """Run it for the length of the block; yield its process, its port and a key."""
    port, admin = free_port(), free_port()
    config = folder / "config"
    config.mkdir(parents=True)
    models = installation / "node_modules/express-gateway/lib/config/models"
    shutil.copytree(models, config / "models")
    (config / "system.config.yml").write_text(SYSTEM)
    (config / "gateway.config.yml").write_text(
        GATEWAY.format(port=port, admin=admin, upstream=upstream)
    )
    (folder / "server.js").write_text(SERVER)
    (folder / "node_modules").symlink_to(installation / "node_modules")
    with started(
        "node", str(folder / "server.js"), NODE_ENV="production", LOG_LEVEL="error"
    ) as process:
        yield process, port, _key(admin)


def _key(admin: int) -> str:
    user = {"username": "bench", "firstname": "b", "lastname": "b"}
    for _ in range(200):
        try:
            made = _post(admin, "users", user)
            break
        except OSError:
            time.sleep(0.1)
    else:
        sys.exit("express-gateway did not start; run it by hand to see why")
    credential = {"type": "key-auth", "consumerId": made["id"], "credential": {}}
    key = _post(admin, "credentials", credential)
    return f"apiKey {key['keyId']}:{key['keySecret']}"


def _post(admin: int, path: str, body: object) -> dict[str, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{admin}/{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return dict(json.loads(answer.read()))
