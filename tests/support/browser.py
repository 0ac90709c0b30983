"""Debian's Chromium, driven headless as a person would use it."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from faas.image import debian
from support.debian import Program, program
from wherry.cli.settings import cache_folder

WANTED = ("chromium", "chromium-driver", "fonts-dejavu-core")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
)


def browser_programs() -> tuple[Program, Program]:
    """Return Chromium and its driver: this host's, or out of packages that are not installed."""
    own = shutil.which("chromium"), shutil.which("chromedriver")
    if own[0] and own[1]:
        environment = {"PATH": os.environ["PATH"]}
        return Program(Path(own[0]), environment), Program(Path(own[1]), environment)
    packages = _missing()
    chromium = program("usr/lib/chromium/chromium", packages)
    sound = chromium.path.parents[2] / "lib/x86_64-linux-gnu/pulseaudio"
    libraries = f"{chromium.environment['LD_LIBRARY_PATH']}:{sound}"
    environment = {**chromium.environment, "LD_LIBRARY_PATH": libraries}
    driver = program("usr/bin/chromedriver", packages)
    return Program(chromium.path, environment), Program(driver.path, environment)


def _missing() -> list[str]:
    """Return the packages that Chromium needs and this host has not, as apt resolves them."""
    if not debian.available():
        return list(WANTED)
    kept = cache_folder() / "chromium-packages"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if kept.exists():
            return kept.read_text().split()
        found = _resolved()
        if not found and os.geteuid() == 0:
            debian.refresh()
            found = _resolved()
        if not found:
            said = "chromium is needed, and apt-get knows no such package"
            pytest.fail(said) if os.environ.get("CI") == "true" else pytest.skip(said)
        kept.write_text("\n".join(found))
        return found


def _resolved() -> list[str]:
    command = ["apt-get", "install", "--simulate", "--no-install-recommends", *WANTED]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
    )
    return sorted(re.findall(r"^Inst (\S+)", done.stdout, re.MULTILINE))


@contextlib.contextmanager
def browser(
    *, width: int = 1280, height: int = 900, dark: bool = False
) -> Iterator[webdriver.Chrome]:
    """Run a browser with a profile of its own; a page is ``width`` by ``height`` pixels."""
    chromium, driver = browser_programs()
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as folder:
        options = Options()
        options.binary_location = str(chromium.path)
        for flag in (*FLAGS, f"--user-data-dir={folder}/profile"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        environment = {**driver.environment, "HOME": folder, "LANG": "C.UTF-8"}
        started = webdriver.Chrome(
            options=options, service=Service(str(driver.path), env=environment)
        )
        try:
            started.set_page_load_timeout(30)
            started.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
            )
            scheme = "dark" if dark else "light"
            feature = {"name": "prefers-color-scheme", "value": scheme}
            started.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            yield started
        finally:
            started.quit()
