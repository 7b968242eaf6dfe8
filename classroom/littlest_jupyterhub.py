"""For The Littlest JupyterHub, a file in /opt/tljh/config/jupyterhub_config.d: homes with the course, and an exchange.

Users there are users of the system called jupyter-NAME, made when they first start, and the hub runs as root.
"""

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

from tljh.normalize import generate_system_username
from tljh.user import ensure_user

COURSE = Path(os.environ.get("CLASSROOM_COURSE", "/srv/inside-gpt/course"))
EXCHANGE = Path(os.environ.get("CLASSROOM_FOLDER", "/srv/inside-gpt")) / "exchange"
PYTHON = "/opt/tljh/user/bin/python"

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821  JupyterHub supplies it
c.Spawner.default_url = "/lab/tree/inside-gpt/notebooks/00_welcome.ipynb"
c.Spawner.environment = {"GPTLIB_EXCHANGE": str(EXCHANGE)}


def prepare(spawner: Any) -> None:
    """Make a learner's two folders of the exchange, and let the learner's own user copy what is new of the course."""
    name = spawner.user.name
    system_name = generate_system_username(f"jupyter-{name}")
    ensure_user(system_name)  # the hub itself does so only after this
    entry = pwd.getpwnam(system_name)
    for box, owner, mode in (("inbox", entry.pw_uid, 0o700), ("outbox", 0, 0o750)):
        folder = EXCHANGE / box / name
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, owner, entry.pw_gid)
        folder.chmod(mode)
    command = [PYTHON, str(COURSE / "classroom/prepare.py"), entry.pw_dir, str(EXCHANGE / "outbox" / name)]
    rights: dict[str, Any] = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    subprocess.run(command, check=True, cwd=entry.pw_dir, timeout=60, **rights)


c.Spawner.pre_spawn_hook = prepare
