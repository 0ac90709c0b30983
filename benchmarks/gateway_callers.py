"""What it costs to say who calls, by each way, and whether that grows with the number of keys.

CPU microseconds per request, and the ratio to one HMAC-SHA256 of a key's text in the same run,
which is the least that any way with a secret has to do.

Run: python benchmarks/gateway_callers.py [--quick]
"""

import asyncio
import hmac
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.callers import PEPPER, House, head, open_house
from support.issuer import jwk, private, token

from gateway import keys
from gateway.keys import Key
from gateway.problem import Refused
from wherry.clock import SystemClock
from wherry.model.authentication import Anonymous, ApiKey, Basic, Jwt, Method, OAuth2

QUICK = "--quick" in sys.argv
CALLS = 5_000 if QUICK else 50_000
KEYS = (10, 100_000)
CONSUMERS = "apiVersion: wherry.dev/v1\nkind: Consumer\nmetadata: {name: alice}\n"
ISSUER = "https://issuer.example"


def cost(work: Callable[[], object], calls: int = CALLS) -> float:
    """Return the CPU microseconds of one call."""
    work()
    began = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - began) / calls * 1e6


def quick(house: House, methods: list[Method], **carried: object) -> Callable[[], object]:
    """Return the identification of one request, again and again."""
    prepared, asked = house.prepare(methods), head(**carried)
    identify = house.authenticator.quick
    query = asked.query

    def work() -> None:
        asked.query = query
        identify(prepared, asked, "store")

    return work


def refused(house: House, text: str) -> Callable[[], object]:
    """Return the refusal of a wrong key."""
    prepared, asked = house.prepare([ApiKey()]), head(headers={"x-api-key": text})

    def work() -> None:
        try:
            house.authenticator.quick(prepared, asked, "store")
        except Refused:
            return

    return work


async def filled(house: House, count: int) -> float:
    """Give the house ``count`` keys; return the CPU seconds of taking one change of them."""
    for number in range(count):
        prefix, text = keys.minted()
        key = Key(prefix, f"c{number}", keys.digest(PEPPER, text), 1)
        await house.store.put(keys.FOLDER + prefix, key.encode())
    await house.look()
    made, _ = await house.key("alice")
    began = time.process_time()
    await house.look()
    taken = time.process_time() - began
    await house.revoke(made.prefix)
    return taken


async def ways(house: House) -> Iterator[tuple[str, float]]:
    """Return what each way costs."""
    key, text = await house.key("alice")
    signing = private("EdDSA")
    ends = SystemClock().unix_ns() // 10**9 + 3600
    method = Jwt(
        type="jwt", issuer=ISSUER, jwks={"keys": [jwk(signing, kid="one")]}, consumer="alice"
    )
    form = f"grant_type=client_credentials&client_id={key.prefix}&client_secret={text}"
    ask = head(
        "/.wherry/oauth2/token",
        method="POST",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    answer = await house.authenticator.own(ask, form.encode())
    own = answer.body.decode().split('"')[3]
    user = b64encode(f"{key.prefix}:{text}".encode()).decode()
    known = {"Authorization": f"Bearer {token(signing, exp=ends)}"}
    fresh = iter([token(signing, exp=ends, jti=str(n)) for n in range(1001)])
    prepared = house.prepare([method])

    def new() -> None:
        asked = head(headers={"Authorization": f"Bearer {next(fresh)}"})
        house.authenticator.quick(prepared, asked, "store")

    wrong = keys.minted()[1]
    return iter(
        [
            ("one HMAC-SHA256", cost(lambda: hmac.digest(PEPPER, text.encode(), "sha256"))),
            ("key in a header", cost(quick(house, [ApiKey()], headers={"x-api-key": text}))),
            ("key in the query", cost(quick(house, [ApiKey()], query=f"a=1&apikey={text}"))),
            ("wrong key, refused", cost(refused(house, wrong))),
            ("mistyped key, refused", cost(refused(house, text[:-1] + "x"))),
            (
                "key as a password",
                cost(
                    quick(house, [Basic(type="basic")], headers={"Authorization": f"Basic {user}"})
                ),
            ),
            (
                "own token",
                cost(
                    quick(
                        house, [OAuth2(type="oauth2")], headers={"Authorization": f"Bearer {own}"}
                    )
                ),
            ),
            ("issuer's token, seen before", cost(quick(house, [method], headers=known))),
            ("issuer's token, new (Ed25519)", cost(new, 1000)),
            ("stranger", cost(quick(house, [Anonymous(type="anonymous", consumer="alice")]))),
        ]
    )


async def main() -> None:
    """Print a table for few and for many keys."""
    for count in KEYS[:1] if QUICK else KEYS:
        async with open_house(CONSUMERS, clock=SystemClock()) as house:
            change = await filled(house, count)
            print(f"{count:,} keys; one change of them is taken in {change * 1e3:.1f} ms")
            base = 0.0
            for name, spent in await ways(house):
                base = base or spent
                print(f"  {name:32}{spent:8.2f} us {spent / base:8.1f}")


asyncio.run(main())
