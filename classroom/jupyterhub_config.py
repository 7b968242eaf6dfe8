"""JupyterHub for a class on one machine: everybody logs in, works in a copy of their own, hands in, gets it back.

    jupyterhub -f classroom/jupyterhub_config.py

README.md beside this file says how to set it up. As root it starts each learner's server as the learner's own user of
the system, so that nobody can read or write what is another's. With CLASSROOM_TRIAL=PASSWORD anybody may log in with
that password, and all servers run as you: that is for trying it out, and keeps nobody from anything.
"""

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

COURSE = Path(__file__).resolve().parents[1]
CLASS = Path(os.environ.get("CLASSROOM_FOLDER", "/srv/inside-gpt")).resolve()
TRIAL = os.environ.get("CLASSROOM_TRIAL", "")
EXCHANGE, HUB = CLASS / "exchange", CLASS / "hub"

sys.path.insert(0, str(COURSE))
from gptlib.grading import make_places  # noqa: E402  the path is set above

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821  JupyterHub supplies it
c.JupyterHub.bind_url = os.environ.get("CLASSROOM_URL", "http://127.0.0.1:8000")
CLASS.mkdir(parents=True, exist_ok=True)
HUB.mkdir(mode=0o700, exist_ok=True)  # the hub's own: who is logged in, and its secret
c.JupyterHub.cookie_secret_file = str(HUB / "cookie_secret")
c.JupyterHub.db_url = f"sqlite:///{HUB}/jupyterhub.sqlite"
c.ConfigurableHTTPProxy.pid_file = str(HUB / "proxy.pid")
if "CLASSROOM_PROXY" in os.environ:  # where configurable-http-proxy is not on the path
    c.ConfigurableHTTPProxy.command = os.environ["CLASSROOM_PROXY"].split()

# A terminal that is a login shell, which is the default, would forget where the gptlib command is.
c.Spawner.args = ["--ServerApp.terminado_settings=shell_command=['/bin/bash']"]

# Who may log in. For a school's own accounts, put its authenticator here (oauthenticator, ldapauthenticator).
if TRIAL:
    c.JupyterHub.authenticator_class = "shared-password"
    c.SharedPasswordAuthenticator.user_password = TRIAL
    c.Authenticator.allow_all = True
    if os.geteuid() == 0:
        c.Spawner.args.append("--allow-root")
    c.JupyterHub.spawner_class = "simple"
    c.SimpleLocalProcessSpawner.home_dir_template = str(CLASS / "home/{username}")
else:
    c.JupyterHub.authenticator_class = "pam"
    c.JupyterHub.spawner_class = "localprocess"  # systemdspawner keeps the limits below; this one cannot
    c.PAMAuthenticator.allowed_groups = set(os.environ.get("CLASSROOM_GROUPS", "learners").split())
c.Authenticator.admin_users = set(os.environ.get("CLASSROOM_INSTRUCTORS", "").split())

# What a learner's server is: JupyterLab of this checkout, in the learner's copy of the course.
c.Spawner.cmd = [str(Path(sys.executable).with_name("jupyterhub-singleuser"))]
c.Spawner.notebook_dir = "~/inside-gpt"
c.Spawner.default_url = "/lab/tree/notebooks/00_welcome.ipynb"
c.Spawner.environment = {
    "GPTLIB_EXCHANGE": str(EXCHANGE),
    "JUPYTER_CONFIG_PATH": str(COURSE / "source/jupyter"),
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    **{name: os.environ[name] for name in ("GPTLIB_CACHE",) if name in os.environ},
}
c.Spawner.mem_limit = "4G"  # a lesson's kernel takes up to 1.7 GB, see README.md; two may be open
c.Spawner.cpu_limit = 2
c.Spawner.start_timeout = 120


def prepare(spawner: Any) -> None:
    """Make a learner's two folders of the exchange, and let the learner's own user copy what is new of the course."""
    name = spawner.user.name
    inbox, outbox = make_places(EXCHANGE, name)
    rights: dict[str, Any] = {}
    if TRIAL:
        home = CLASS / "home" / name
        home.mkdir(parents=True, exist_ok=True)
    else:
        entry = pwd.getpwnam(name)
        home, rights = Path(entry.pw_dir), {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        os.chown(inbox, entry.pw_uid, entry.pw_gid)
        os.chown(outbox, 0, entry.pw_gid)
        inbox.chmod(0o700)  # the learner's alone; the instructor grades as root
        outbox.chmod(0o750)  # read by the learner, written by root
    command = [sys.executable, str(COURSE / "classroom/prepare.py"), str(home), str(outbox)]
    subprocess.run(command, check=True, cwd=home, timeout=60, **rights)


c.Spawner.pre_spawn_hook = prepare
