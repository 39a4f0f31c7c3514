"""Version 1 of control groups, on the machine's own hierarchies: what is mounted elsewhere only is mounted here."""

import os
import subprocess
import sys

import pytest

from fairlead.host.cgroups import ROOT, Cgroups

ONE = ROOT / "pids"
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(Cgroups().version == 2 or not ONE.is_mount(), reason="needs version 1"),
]


def test_a_hierarchy_of_another_mount_namespace_is_mounted_here_too() -> None:
    program = f"""
import os, subprocess
from fairlead.host.cgroups import Cgroups
subprocess.run(["umount", "{ONE}"], check=True)
assert not os.path.ismount("{ONE}")
Cgroups().ready()
assert os.path.ismount("{ONE}"), "a folder of that name would be taken for the group"
assert os.path.exists("{ONE}/cgroup.procs")
"""
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
