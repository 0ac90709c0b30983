"""The functions service with a listener for function URLs, and boto3 pointed at it."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import boto3

from support.lambda_api import Api, served

EXAMPLE = Path(__file__).parents[2] / "examples" / "streaming"
KEYS = {"aws_access_key_id": "AKIDANN", "aws_secret_access_key": "hers"}
FILE = "[ann]\naws_access_key_id = AKIDANN\naws_secret_access_key = hers\n"


class House(Api):
    """As `Api`, with function URLs.

    Attributes:
        doors: Where function URLs are served.
    """

    def __init__(self, faas, client):
        super().__init__(faas, client)
        self.doors = faas.urls

    async def streaming(self, name, source=None, **settings):
        """Create a function that runs on the example's runtime."""
        files = {
            "bootstrap": (EXAMPLE / "bootstrap").read_text(),
            "app.py": source or (EXAMPLE / "app.py").read_text(),
        }
        return await self.made(name, files, Runtime="provided.al2023", **settings)

    async def door(self, name, *, auth="NONE", public=True, **settings):
        """Give a function a URL and return it, as it is served here."""
        made = await self.do(
            "create_function_url_config", FunctionName=name, AuthType=auth, **settings
        )
        if public and auth == "NONE":
            qualifier = {k: v for k, v in settings.items() if k == "Qualifier"}
            await self.do(
                "add_permission",
                FunctionName=name,
                StatementId="public",
                Action="lambda:InvokeFunctionUrl",
                Principal="*",
                FunctionUrlAuthType="NONE",
                **qualifier,
            )
        return made["FunctionUrl"].rstrip("/")

    async def events(self, name, event=None, **arguments):
        """Return the pieces and the last event of a streamed invocation."""

        def collect():
            answer = self.client.invoke_with_response_stream(
                FunctionName=name, Payload=json.dumps(event).encode(), **arguments
            )
            return answer, list(answer["EventStream"])

        answer, events = await asyncio.to_thread(collect)
        pieces = [each["PayloadChunk"]["Payload"] for each in events[:-1]]
        return pieces, events[-1]["InvokeComplete"], answer


@asynccontextmanager
async def opened(tmp_path, *, credentials=None, kind="process", **settings):
    """Run the service; with ``credentials``, the text of such a file, signatures are checked."""
    if credentials is not None:
        settings["credentials"] = tmp_path / "credentials"
        settings["credentials"].write_text(credentials)
    session = boto3.Session(**KEYS, region_name="us-east-1")
    async with served(tmp_path, kind, session=session, api=House, **settings) as house:
        yield house
